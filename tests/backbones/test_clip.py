"""Loading a CLIP, its scores, its words, and its image tower taken apart."""

import copy

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, Transformer
from tiny_clip import CONFIG, VISION, some_images, tiny_clip, unit_vectors

from tedloc import profiles
from tedloc.backbones.clip import Clip, embed, load_clip, project, run_block
from tedloc.backbones.text import (
    TEMPLATES,
    VOC_BACKGROUND,
    background_embeddings,
    class_embeddings,
    class_text,
    templates,
)
from tedloc.errors import UserError
from tedloc.methods import create
from tedloc.settings import ClipESSettings, override


def walk(clip: Clip, images: torch.Tensor, weights: bool) -> torch.Tensor:
    """The class token's embedding through our own walk over the blocks."""
    tokens = embed(clip.tower, images)
    for block in clip.tower.transformer.resblocks:
        tokens, _ = run_block(block, tokens, weights=weights)
    return project(clip.tower, tokens[:, 0])


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("vision", [{}, {"ls_init_value": 0.5}, {"no_ln_pre": True}])
def test_walk_over_the_blocks_equals_the_models_own_forward_pass(vision, weights):
    clip = tiny_clip(quick_gelu=not vision, **vision)
    own = F.normalize(clip.model.encode_image(some_images()), dim=-1)
    torch.testing.assert_close(walk(clip, some_images(), weights), own)
    torch.testing.assert_close(clip.encode_image(some_images()), own)


def test_walk_does_not_depend_on_the_token_order_of_open_clip():
    clip = tiny_clip()
    expected = clip.model.encode_image(some_images())
    sequence_first = Transformer(32, 3, 2, batch_first=False).eval()
    sequence_first.load_state_dict(clip.tower.transformer.state_dict())
    clip.tower.transformer = sequence_first
    torch.testing.assert_close(clip.model.encode_image(some_images()), expected)
    torch.testing.assert_close(walk(clip, some_images(), True), F.normalize(expected, dim=-1))


def test_attention_weights_are_those_of_torch():
    clip = tiny_clip()
    block, tokens = clip.tower.transformer.resblocks[1], embed(clip.tower, some_images())
    normed = block.ln_1(tokens)
    _, expected = block.attn(normed, normed, normed, need_weights=True, average_attn_weights=False)
    torch.testing.assert_close(run_block(block, tokens, weights=True)[1], expected)


def test_other_input_sizes_interpolate_positions_as_open_clip_does():
    clip, state = tiny_clip(), {}
    larger = tiny_clip(seed=1, image_size=48)
    state.update(clip.model.state_dict())
    open_clip.model.resize_pos_embed(state, larger.model)
    larger.model.load_state_dict(state)
    images = some_images(height=48, width=48)
    torch.testing.assert_close(clip.encode_image(images), F.normalize(larger.model.encode_image(images), dim=-1))


def test_a_size_that_the_patches_do_not_divide_is_refused():
    with pytest.raises(UserError, match="36x36 pixels.*multiple of 8"):
        tiny_clip().encode_image(some_images(height=36, width=36))


@pytest.mark.parametrize(
    "vision",
    [
        {"layers": (1, 1, 1, 1), "width": 8},
        {"pool_type": "avg"},
        {"final_ln_after_pool": True},
        {"qk_norm": True},
    ],
)
def test_towers_that_cannot_be_taken_apart_are_refused(vision):
    with pytest.raises(UserError, match="VisionTransformer with a class token"):
        _ = tiny_clip(**vision).tower


def test_preprocess_squeezes_the_whole_image_and_standardises():
    clip = tiny_clip()
    image = np.zeros((20, 80, 3), np.uint8)
    image[:, 40:] = 255
    pixels = clip.preprocess([image, np.full((7, 9, 3), 255, np.uint8)])
    assert pixels.shape == (2, 3, 32, 32) and pixels.dtype == torch.float32
    black, white = (torch.tensor([(v - m) / s for m, s in zip(clip.mean, clip.std, strict=True)]) for v in (0, 1))
    torch.testing.assert_close(pixels[0, :, :, :14], black[:, None, None].expand(3, 32, 14))
    torch.testing.assert_close(pixels[0, :, :, 18:], white[:, None, None].expand(3, 32, 14))
    torch.testing.assert_close(pixels[1], white[:, None, None].expand(3, 32, 32))


def test_preprocess_takes_a_tensor_as_well_as_arrays():
    clip = tiny_clip()
    batch = torch.randint(0, 256, (2, 3, 50, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    arrays = [one.permute(1, 2, 0).numpy() for one in batch]
    torch.testing.assert_close(clip.preprocess(batch, 48), clip.preprocess(arrays, 48))


def test_zero_shot_logits_are_scaled_cosines():
    clip, text = tiny_clip(), unit_vectors(5)
    image = clip.model.encode_image(some_images())
    expected = clip.logit_scale * F.cosine_similarity(image[:, None], text[None], dim=-1)
    torch.testing.assert_close(clip.zero_shot(some_images(), text), expected)
    assert clip.logit_scale == pytest.approx(1 / 0.07)  # what CLIP starts from: these weights are not trained


# names


@pytest.fixture
def architecture(monkeypatch):
    """An open_clip architecture called tiny."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", copy.deepcopy(CONFIG))
    return "tiny"


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone(architecture):
    before = torch.get_rng_state()
    first, same, other = (load_clip("tiny/random", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.tower.proj, same.tower.proj)
    assert not torch.equal(first.tower.proj, other.tower.proj)
    assert first.image_size == VISION["image_size"] and not first.model.training
    assert not any(values.requires_grad for values in first.model.parameters())


def test_a_local_checkpoint_loads_by_name_or_as_weights(architecture, tmp_path):
    clip, file = tiny_clip(), tmp_path / "tiny.pt"
    torch.save(clip.model.state_dict(), file)
    for opened in (load_clip(f"tiny/{file}"), load_clip("tiny", weights=file)):
        torch.testing.assert_close(opened.encode_image(some_images()), clip.encode_image(some_images()))


def test_the_openai_tag_gets_quickgelu_though_the_architecture_lacks_it(architecture, tmp_path, monkeypatch):
    clip, file = tiny_clip(quick_gelu=True), tmp_path / "tiny.pt"
    torch.save(clip.model.state_dict(), file)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"openai": {"file": str(file), "quick_gelu": True}})
    opened = load_clip("tiny/openai")
    assert isinstance(opened.tower.transformer.resblocks[0].mlp.gelu, QuickGELU)
    torch.testing.assert_close(opened.encode_image(some_images()), clip.encode_image(some_images()))


def test_normalisation_is_that_of_the_tag(architecture, tmp_path, monkeypatch):
    file = tmp_path / "tiny.pt"
    torch.save(tiny_clip().model.state_dict(), file)
    tags = {
        "ours": {"file": str(file), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.1)},
        "usual": {"file": str(file)},
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", tags)
    ours, usual = load_clip("tiny/ours"), load_clip("tiny/usual")
    assert ours.mean == (0.5, 0.4, 0.3) and ours.std == (0.2, 0.2, 0.1)
    assert usual.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert ours.image_size == usual.image_size == VISION["image_size"]


def test_anchors_and_pseudo_labels_take_a_local_file_by_their_settings(architecture, tmp_path):
    from safetensors.torch import save_file

    clip, file = tiny_clip(), tmp_path / "tiny.safetensors"
    save_file({name: value.contiguous() for name, value in clip.model.state_dict().items()}, file)
    expected = class_embeddings(clip, ["wren", "robin"])
    torch.testing.assert_close(class_text(f"tiny/{file}", ["wren", "robin"]), expected)  # anchors.text
    changes = {"pseudo_labels.clip": f"tiny/{file}", "data.per_class": 1}
    method = create("clip-es", override(profiles.get("smoke"), changes))
    scores = next(iter(method.predict("test"))).routes["true"].scores
    assert scores.shape[1] == 20 and torch.isfinite(scores).all()


def test_unusable_names_and_files_end_in_one_sentence(architecture, tmp_path):
    junk, other = tmp_path / "junk.pt", tmp_path / "other.pt"
    junk.write_text("not a checkpoint")
    torch.save(tiny_clip(width=64).model.state_dict(), other)
    for name, sentence in {
        "nothing/openai": "unknown CLIP architecture 'nothing'",
        "tiny/openai": "neither a tag",
        "tiny": "neither a tag",
        f"tiny/{tmp_path}/absent.pt": "absent.pt: neither a tag.*nor a file",
        f"tiny/{junk}": "junk.pt: not a checkpoint of tiny",
        f"tiny/{other}": "other.pt: not a checkpoint of tiny",
    }.items():
        with pytest.raises(UserError, match=sentence) as caught:
            load_clip(name)
        assert "\n" not in str(caught.value)


def test_an_unreachable_hub_says_what_to_fetch_and_how(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip.factory, "download_pretrained", fail)
    with pytest.raises(UserError, match="vit_base_patch16_clip_224.openai.*HF_HUB_OFFLINE"):
        load_clip("ViT-B-16/openai")


# words


def test_class_embeddings_are_the_renormalised_mean_over_prompts():
    clip = tiny_clip()
    prompts = [clip.encode_text([form("robin")]) for form in TEMPLATES["imagenet-80"]]
    expected = F.normalize(torch.cat(prompts).mean(dim=0, keepdim=True), dim=1)
    torch.testing.assert_close(class_embeddings(clip, ["wren", "robin"], "imagenet-80")[1:], expected)
    assert len(prompts) == 80


def test_templates_go_by_name_or_as_they_are():
    assert templates("ted-loc") == templates("Image of a {}.")
    with pytest.raises(UserError, match="aviary, clip-es, imagenet-80, ted-loc"):
        templates("origami")


def test_background_words_follow_the_settings():
    clip = tiny_clip()
    words = background_embeddings(clip, ClipESSettings())
    assert words.shape == (25, CONFIG["embed_dim"])
    torch.testing.assert_close(words[:1], clip.encode_text([f"a clean origami {VOC_BACKGROUND[0]}."]))
    assert background_embeddings(clip, ClipESSettings(background="none")) is None
    assert len(background_embeddings(clip, ClipESSettings(background="aviary"))) > 5
    with pytest.raises(UserError, match="background words 'ocean'"):
        background_embeddings(clip, ClipESSettings(background="ocean"))


def test_class_text_opens_a_clip_by_name(architecture):
    text = class_text("tiny/random", ["wren", "robin"], "a drawing of a {}")
    torch.testing.assert_close(
        text, load_clip("tiny/random").encode_text(["a drawing of a wren", "a drawing of a robin"])
    )
    with pytest.raises(UserError, match="no class name"):
        class_text("tiny/random", [])
