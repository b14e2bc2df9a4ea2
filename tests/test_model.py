"""Decoder, pooling (Eq. 3), losses (Eqs. 1, 2, 4, 5)."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tedloc.errors import UserError
from tedloc.losses import image_classification, knowledge_distillation, patch_classification, total
from tedloc.model import Decoder, DoublingConv, Output, TeDLoc, anchor_maps, pool
from tedloc.sampler import Samples
from tedloc.settings import DecoderSettings, LossSettings


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def samples(foreground, background, valid=None) -> Samples:
    foreground, background = torch.tensor(foreground), torch.tensor(background)
    return Samples(
        foreground, background, torch.ones_like(foreground, dtype=torch.bool) if valid is None else torch.tensor(valid)
    )


def output(z: torch.Tensor, anchors: torch.Tensor | None = None) -> Output:
    """What a model whose decoder gives z, with random g, says."""
    g = random(len(z), *z.shape[2:], seed=1)
    h = pool(z, g.sigmoid())
    return Output(z, nn.Identity(), g, h, h @ (torch.eye(z.shape[1]) if anchors is None else anchors).T)


@pytest.mark.parametrize("upsampling", [1, 2, 4, 16])
def test_the_decoder_upsamples_to_the_anchors_dimension(upsampling):
    decoder = Decoder(12, 7, DecoderSettings(width=8, upsampling=upsampling))
    assert decoder(random(2, 12, 3, 4)).shape == (2, 7, 3 * upsampling, 4 * upsampling)


def test_a_doubling_convolution_doubles_by_nearest_neighbours_and_convolves():
    ours = DoublingConv(3, 5).double()
    plain = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 5, 3, padding=1, bias=False)).double()
    plain[1].load_state_dict(ours.state_dict())
    x, weights = random(2, 3, 4, 6).double(), random(2, 5, 8, 12, seed=1).double()
    for module in (ours, plain):
        (module(x) * weights).sum().backward()
    assert torch.allclose(ours(x), plain(x)) and torch.allclose(ours.weight.grad, plain[1].weight.grad)


@pytest.mark.parametrize("setting, value", [("upsampling", 3), ("convs", 0)])
def test_an_impossible_decoder_is_refused(setting, value):
    with pytest.raises(UserError, match=f"decoder.{setting} is {value}"):
        Decoder(12, 7, DecoderSettings(**{setting: value}))


def test_pooling_is_the_weighted_mean_of_the_patches():
    z, weights = random(2, 3, 4, 5), random(2, 4, 5, seed=1).sigmoid()
    expected = torch.stack(
        [sum(weights[b, i, j] * z[b, :, i, j] for i in range(4) for j in range(5)) / weights[b].sum() for b in range(2)]
    )
    assert torch.allclose(pool(z, weights), expected, atol=1e-6)


def test_pooling_survives_a_zero_map():
    z, weights = random(1, 3, 4, 5).requires_grad_(), torch.zeros(1, 4, 5, requires_grad=True)
    h = pool(z, weights)
    h.sum().backward()
    assert torch.equal(h, torch.zeros_like(h)) and weights.grad.isfinite().all()


def test_the_anchors_are_frozen_and_saved():
    model = TeDLoc(4, torch.eye(3))
    assert "anchors" in model.state_dict() and "anchors" not in dict(model.named_parameters())


def test_scores_are_dot_products_of_the_image_embedding():
    anchors = random(5, 6)
    out = TeDLoc(4, anchors).eval()(random(2, 4, 3, 3))
    assert torch.allclose(out.scores, out.h @ anchors.T, atol=1e-6)


def test_an_anchor_map_holds_each_patchs_dot_product_with_its_images_class():
    z, anchors, classes = random(2, 6, 3, 4), random(5, 6, seed=1), torch.tensor([4, 1])
    maps = anchor_maps(z, anchors, classes)
    assert torch.allclose(maps[1, 2, 3], z[1, :, 2, 3] @ anchors[1], atol=1e-6)


def test_embeddings_at_pixels_are_those_of_the_flat_index():
    out = TeDLoc(4, random(5, 6), DecoderSettings(width=3, upsampling=1))(random(2, 4, 3, 4))
    chosen = out.z_at(torch.tensor([[5, 0], [11, 2]]))
    assert chosen.shape == (2, 2, 6) and torch.allclose(chosen[1, 0], out.z[1, :, 2, 3], atol=1e-6)


def test_the_model_does_to_features_what_g_and_the_pooling_say_of_every_patch_embedding():
    """Values and gradients; z_p is not made for them."""
    model = TeDLoc(4, random(5, 6), DecoderSettings(width=3)).double()
    tokens, weights = random(2, 4, 3, 4).double(), random(2, 5, seed=1).double()
    ours = model(tokens)
    z = model.decoder(tokens)
    g = model.g(z).squeeze(1)
    h = pool(z, g.sigmoid())
    found, literal = [], []
    for gradients, (some_g, some_scores) in ((found, (ours.g, ours.scores)), (literal, (g, h @ model.anchors.T))):
        loss = some_g.square().sum() + (some_scores * weights).sum()
        gradients += torch.autograd.grad(loss, list(model.parameters()))
    assert torch.allclose(ours.z, z) and torch.allclose(ours.g, g) and torch.allclose(ours.h, h)
    assert all(torch.allclose(a, b) for a, b in zip(found, literal, strict=True))


def test_kd_is_the_mean_cross_entropy_of_foreground_patches():
    z, anchors, labels = random(2, 6, 3, 4), random(5, 6, seed=1), torch.tensor([4, 1])
    foreground, valid = torch.tensor([[0, 3], [7, 2]]), torch.tensor([[True, True], [True, False]])
    by_hand = [
        F.cross_entropy((z[b].flatten(1)[:, p] @ anchors.T)[None], labels[b : b + 1])
        for b, p in [(0, 0), (0, 3), (1, 7)]
    ]
    ours = knowledge_distillation(output(z).z_at(foreground), valid, labels, anchors)
    assert torch.allclose(ours, torch.stack(by_hand).mean(), atol=1e-6)


def test_kd_pulls_only_the_sampled_foreground_patches():
    z = random(1, 6, 3, 4).requires_grad_()
    drawn = output(z).z_at(torch.tensor([[5]]))
    knowledge_distillation(drawn, torch.tensor([[True]]), torch.tensor([2]), torch.eye(6)).backward()
    moved = z.grad.flatten(2).abs().sum(1)[0].nonzero()[:, 0]
    assert moved.tolist() == [5]


def test_patch_loss_is_binary_cross_entropy_over_both_kinds():
    g, drawn = random(1, 2, 3), samples([[0, 1]], [[4, 5]])
    logits = g.flatten(1)[0, [0, 1, 4, 5]]
    expected = F.binary_cross_entropy_with_logits(logits, torch.tensor([1.0, 1, 0, 0]))
    assert torch.allclose(patch_classification(g, drawn), expected)


def test_an_image_without_valid_samples_adds_nothing():
    g, drawn = random(1, 2, 3), samples([[0, 1]], [[4, 5]], [[False, False]])
    assert patch_classification(g, drawn) == 0


def test_uniform_scores_cost_log_k():
    assert image_classification(torch.zeros(3, 8), torch.tensor([0, 3, 7])).item() == pytest.approx(math.log(8))


def test_the_total_weighs_its_terms_and_leaves_out_those_with_zero_weight():
    anchors, labels = torch.eye(4), torch.tensor([0, 2])
    out, drawn = output(random(2, 4, 3, 3), anchors), samples([[0], [1]], [[4], [5]])
    loss, terms = total(out, drawn, labels, anchors, LossSettings(0.5, 0.25, 2.0))
    assert torch.allclose(loss, 0.5 * terms["L_KD"] + 0.25 * terms["P_CL"] + 2 * terms["I_CL"])
    _, only = total(out, drawn, labels, anchors, LossSettings(1.0, 0.0, 0.0))
    assert list(only) == ["L_KD"]
