"""Grad-CAM weighs the channels of a layer by what they do for one class's score."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tedloc import profiles
from tedloc.backbones.encoders import load_encoder
from tedloc.methods.cam import LinearCAM
from tedloc.methods.grad_cam import GradCAM, explained, grad_cam, input_norm
from tedloc.model import anchor_maps
from tedloc.settings import override

CLASSES = 5


def pictures(count: int, size: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(count)]


def vit(name: str, size: int | None = None, weights: str | None = None):
    """Encoder, explained layer and scores of a linear classifier for two noise images."""
    encoder = load_encoder(name, image_size=size, weights=weights)
    tokens, layer = explained(encoder, input_norm(encoder), encoder.preprocess(pictures(2, 80)))
    weight = torch.randn(CLASSES, encoder.dim, generator=torch.Generator().manual_seed(0))
    return encoder, layer, F.linear(tokens.mean((2, 3)), weight)


def test_on_a_pooled_linear_classifier_it_is_the_positive_part_of_cam_up_to_scale():
    random = torch.Generator().manual_seed(0)
    x, weight = torch.randn(3, 16, 6, 7, generator=random), torch.randn(CLASSES, 16, generator=random)
    layer = x.flatten(2).transpose(1, 2).requires_grad_()
    classes = torch.tensor([4, 0, 2])
    found = grad_cam(F.linear(layer.mean(1), weight), layer, classes)
    expected = anchor_maps(x, weight, classes).relu().flatten(1)
    assert torch.allclose(found * layer.shape[1], expected, atol=1e-5) and (expected > 0).any(1).all()


def test_with_a_convolutional_encoder_its_maps_are_the_positive_part_of_cams():
    profile = override(
        profiles.get("smoke"),
        {
            "data.per_class": 1,
            "encoder.name": "efficientnet-lite0",
            "encoder.image_size": 64,
            "encoder.weights": "random",
            "encoder.mirror": False,
        },
    )
    cam, gradient = LinearCAM(profile), GradCAM(profile)
    cam.fit(), gradient.fit()
    for theirs, ours in zip(cam.predict("val"), gradient.predict("val"), strict=True):
        for route in ("true", "pred"):
            expected, found = theirs.routes[route].maps.relu(), ours.routes[route].maps
            patches = expected.shape[1] * expected.shape[2]
            assert torch.allclose(found * patches, expected, atol=1e-4) and expected.max() > 0
            assert torch.allclose(ours.routes[route].scores, theirs.routes[route].scores, atol=1e-4)


@pytest.mark.parametrize(
    "name, size, weights",
    [
        ("aviary/vit", None, None),
        ("timm/vit_tiny_patch16_224", 64, "random"),
        ("timm/deit_tiny_distilled_patch16_224", 64, "random"),
        ("timm/eva02_tiny_patch14_224", 56, "random"),
    ],
)
def test_a_vits_map_covers_its_patches_and_changes_with_the_class(name, size, weights):
    encoder, layer, scores = vit(name, size, weights)
    prefix = encoder.body.num_prefix_tokens
    first, second = (grad_cam(scores, layer, torch.tensor([c, 3]), prefix) for c in (0, 1))
    assert first.shape[1] == np.prod(encoder.body.patch_embed.grid_size) and (first > 0).any()
    assert not torch.allclose(first[0], second[0]) and torch.equal(first[1], second[1])


def test_a_tapped_vit_is_explained_in_front_of_the_block_that_is_tapped():
    profile = override(profiles.get("smoke"), {"data.per_class": 1, "encoder.name": "aviary/vit", "encoder.tap": 2})
    method = GradCAM(profile)
    encoder = method.encoder
    assert encoder.tap == 2 and input_norm(encoder) is encoder.body.blocks[1].norm1
    method.fit()
    cam = LinearCAM(profile)
    cam.fit()
    for theirs, ours in zip(cam.predict("val"), method.predict("val"), strict=True):  # the classifier is CAM's own
        assert torch.allclose(ours.routes["pred"].scores, theirs.routes["pred"].scores, atol=1e-4)


def test_only_the_last_block_is_differentiated_and_the_score_is_the_encoders_own():
    encoder, layer, scores = vit("aviary/vit")
    assert layer.is_leaf and layer.requires_grad and not any(p.requires_grad for p in encoder.parameters())
    first = [n for n in _graph(scores.grad_fn) if "ScaledDotProduct" in n or "Softmax" in n]
    assert len(first) == 1  # one attention in the graph, of five in the encoder
    with torch.no_grad():
        again = encoder(encoder.preprocess(pictures(2, 80))).mean((2, 3))
    weight = torch.randn(CLASSES, encoder.dim, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(scores, F.linear(again, weight), atol=1e-5)


def _graph(node, seen=None) -> list[str]:
    """Names of all operations that autograd keeps behind a tensor."""
    seen = {} if seen is None else seen
    if node is not None and node not in seen:
        seen[node] = node.name()
        for child, _ in node.next_functions:
            _graph(child, seen)
    return list(seen.values())


def test_the_weights_of_a_channel_are_its_mean_gradient_over_the_patches_alone():
    encoder, layer, scores = vit("aviary/vit")
    (gradient,) = torch.autograd.grad(scores[:, 2].sum(), layer, retain_graph=True)
    found = grad_cam(scores, layer, torch.tensor([2, 2]), 1)
    by_hand = sum(gradient[:, 1:, c].mean(1, keepdim=True) * layer[:, 1:, c] for c in range(layer.shape[2]))
    assert torch.allclose(found, by_hand.clamp(min=0), atol=1e-6)
