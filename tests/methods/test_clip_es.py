"""CLIP-ES against slower, independent ways to the same maps."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny_clip import some_images, tiny_clip, unit_vectors

from tedloc import paths, profiles
from tedloc.backbones.clip import load_clip
from tedloc.backbones.text import background_embeddings, class_embeddings
from tedloc.data import open_split
from tedloc.errors import UserError
from tedloc.methods.clip_es import box_mask, clip_es
from tedloc.settings import ClipESSettings

TEXT, WORDS = unit_vectors(5, seed=1), unit_vectors(4, seed=2)
TARGETS = torch.tensor([4, 0, 2])
PLAIN = ClipESSettings(affinity=False)


def stretch(maps: torch.Tensor) -> torch.Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


def probabilities(clip, images, target, words):
    """Softmax probability of the first text from patch means, by the model's own modules."""
    tower = clip.model.visual
    tower.output_tokens = True
    feature = F.normalize((tower(images)[1] @ tower.proj).mean(dim=1), dim=-1)
    tower.output_tokens = False
    return (clip.logit_scale * feature @ torch.cat([TEXT[target, None], words]).T).softmax(dim=1)[:, 0]


def full_grad_cam(clip, images, target, words):
    """Grad-CAM with autograd through the whole tower and a hook on the last block's ln_1."""
    clip.model.requires_grad_(True)
    seen = []
    hook = clip.tower.transformer.resblocks[-1].ln_1.register_forward_hook(lambda *a: seen.append(a[2]))
    score = probabilities(clip, images, target, words).sum()
    hook.remove()
    (gradient,) = torch.autograd.grad(score, seen)
    clip.model.requires_grad_(False)
    activation = seen[0].detach()
    return (activation[:, 1:] * gradient[:, 1:].mean(dim=1, keepdim=True)).sum(-1).relu().unflatten(1, (4, -1))


@pytest.mark.parametrize("siblings", [False, True])
def test_gradient_of_the_last_block_equals_autograd_through_the_whole_tower(siblings):
    clip, images = tiny_clip(), some_images()
    maps = clip_es(clip, images, TARGETS, TEXT, WORDS, ClipESSettings(affinity=False, siblings=siblings))
    for image, target, found in zip(images, TARGETS.tolist(), maps, strict=True):
        others = TEXT[torch.arange(5) != target] if siblings else TEXT[:0]
        expected = full_grad_cam(clip, image[None], target, torch.cat([others, WORDS]))
        torch.testing.assert_close(found[None], stretch(expected), atol=1e-4, rtol=1e-4)


def test_one_class_without_background_words_gives_a_zero_map():
    clip, images = tiny_clip(), some_images()
    assert full_grad_cam(clip, images, 0, TEXT[:0]).abs().max() == 0  # the definition says so
    assert clip_es(clip, images, TARGETS, TEXT, None).abs().max() == 0
    assert clip_es(clip, images, TARGETS * 0, TEXT[:1], None, ClipESSettings(siblings=True)).abs().max() == 0


def test_siblings_stand_in_for_background_words():
    maps = clip_es(tiny_clip(), some_images(), TARGETS, TEXT, None, ClipESSettings(siblings=True, affinity=False))
    assert torch.equal(maps.amax((1, 2)), torch.ones(3))


def test_a_saturated_softmax_does_not_round_the_map_away():
    clip, images = tiny_clip(), some_images()
    words = -TEXT[:1]  # so far from the class that its probability rounds to 0 or 1
    sharp = ClipESSettings(affinity=False, logit_scale=1e4)
    maps = clip_es(clip, images, TARGETS * 0, TEXT, words, sharp)
    soft = clip_es(clip, images, TARGETS * 0, TEXT, words, PLAIN)
    torch.testing.assert_close(maps, soft, atol=1e-3, rtol=1e-3)  # one rival: the direction is t_y - t_b


def reference_refinement(maps, images, clip, blocks):
    """Class-aware affinity in float64 loops, from torch's own attention weights and OpenCV's contours."""
    tokens, weights = clip.tower._embeds(images), []
    for block in clip.tower.transformer.resblocks:
        normed = block.ln_1(tokens)
        weights.append(block.attn(normed, normed, normed, need_weights=True)[1][:, 1:, 1:].double().numpy())
        tokens = block(tokens)
    refined = []
    for one, affinity in zip(maps, np.mean(weights[-blocks:], axis=0), strict=True):
        for _ in range(3):
            affinity = affinity / affinity.sum(0)
            affinity = affinity / affinity.sum(1)[:, None]
        affinity = (affinity + affinity.T) / 2
        affinity = affinity @ affinity
        allowed = np.zeros(one.shape)
        high = (one > 0.4).numpy().astype(np.uint8)
        for contour in cv2.findContours(high, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)[0]:
            x, y, width, height = cv2.boundingRect(contour)
            allowed[y : y + height, x : x + width] = 1
        refined.append(((affinity * allowed.ravel()) @ one.numpy().ravel()).reshape(one.shape))
    return stretch(torch.from_numpy(np.array(refined))).float()


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_affinity_equals_its_definition_in_loops(blocks):
    clip, images = tiny_clip(), some_images()
    cam = clip_es(clip, images, TARGETS, TEXT, WORDS, PLAIN)
    refined = clip_es(clip, images, TARGETS, TEXT, WORDS, ClipESSettings(affinity_blocks=blocks))
    torch.testing.assert_close(refined, reference_refinement(cam, images, clip, blocks), atol=1e-5, rtol=1e-4)


def test_two_thirds_of_the_blocks_are_averaged_by_default():
    arguments = (tiny_clip(), some_images(), TARGETS, TEXT, WORDS)
    assert torch.equal(clip_es(*arguments), clip_es(*arguments, ClipESSettings(affinity_blocks=2)))


@pytest.mark.parametrize("blocks", [0, 4])
def test_affinity_over_blocks_that_do_not_exist_is_refused(blocks):
    with pytest.raises(UserError, match=f"affinity_blocks = {blocks}.*3 blocks"):
        clip_es(tiny_clip(), some_images(), TARGETS, TEXT, WORDS, ClipESSettings(affinity_blocks=blocks))


@pytest.mark.parametrize("affinity", [False, True])
def test_maps_are_normalised_on_the_patch_grid_and_independent_of_the_batch(affinity):
    clip, images, settings = tiny_clip(), some_images(height=48, width=32), ClipESSettings(affinity=affinity)
    maps = clip_es(clip, images, TARGETS, TEXT, WORDS, settings)
    assert maps.shape == (3, 6, 4) and maps.dtype == torch.float32 and not maps.requires_grad
    assert torch.equal(maps.amax((1, 2)), torch.ones(3)) and torch.equal(maps.amin((1, 2)), torch.zeros(3))
    for n in range(3):
        alone = clip_es(clip, images[n : n + 1], TARGETS[n : n + 1], TEXT, WORDS, settings)
        torch.testing.assert_close(alone[0], maps[n], atol=1e-3, rtol=0)  # random attention is nearly flat


def test_callers_may_have_switched_gradients_off():
    clip = tiny_clip()
    expected = clip_es(clip, some_images(), TARGETS, TEXT, WORDS)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            found = clip_es(clip, some_images() * 1, TARGETS * 1, TEXT * 1, WORDS * 1)
        torch.testing.assert_close(found, expected)
    assert all(values.grad is None for values in clip.model.parameters())


@given(
    arrays(np.float32, (6, 5), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])),
    st.sampled_from([0.25, 0.4]),
)
def test_box_mask_is_the_union_of_contour_boxes(score_map, threshold):
    high = (score_map > threshold * score_map.max()).astype(np.uint8)
    expected = np.zeros((6, 5), bool)
    for contour in cv2.findContours(high, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]:
        x, y, width, height = cv2.boundingRect(contour)
        expected[y : y + height, x : x + width] = True
    assert np.array_equal(box_mask(score_map, threshold), expected)


def test_box_mask_fills_the_box_of_a_corner_and_ignores_what_only_reaches_the_threshold():
    score_map = np.zeros((4, 6), np.float32)
    score_map[0, 0:3] = score_map[0:2, 0] = 1.0
    score_map[3, 5] = 0.5
    mask = box_mask(score_map, 0.5)
    assert mask[:2, :3].all() and mask.sum() == 6
    assert not box_mask(np.zeros((4, 6), np.float32), 0.4).any()


def test_maps_of_the_shipped_clip_lie_on_the_bird():
    if not (paths.WEIGHTS / "clip.safetensors").exists():
        pytest.skip("weights/clip.safetensors is not here: data_scripts/train_towers.py makes it")
    clip, birds = load_clip("aviary/clip"), open_split("aviary", "val", per_class=2)
    settings = profiles.get("aviary").pseudo_labels.clip_es
    text = class_embeddings(clip, birds.class_names, settings.template)
    words = background_embeddings(clip, settings)
    pixels = clip.preprocess([birds.image(n) for n in range(len(birds))])
    maps = clip_es(clip, pixels, torch.from_numpy(birds.labels), text, words, settings).numpy()
    masks = np.stack([birds.mask(n) for n in range(len(birds))])
    masks = masks.reshape(len(birds), 10, 8, 10, 8).mean((2, 4))  # share of bird in each patch
    inside = (maps * masks).sum((1, 2)) / masks.sum((1, 2))
    outside = (maps * (1 - masks)).sum((1, 2)) / (1 - masks).sum((1, 2))
    assert inside.mean() > 1.5 * outside.mean()
    assert (inside > outside).mean() > 0.8  # a map that knows nothing: 0.5; the whole split: 0.90
