"""CATR's stimulation tells classes apart by attention, its constraint shapes it, its weights balance."""

import pytest
import torch
from synthetic_attention import random_seen
from torch.nn import functional as F

from tedloc.backbones.attention import AttentionViT
from tedloc.methods.catr import CategoryStimulation, CATRNet, UncertaintyWeighting, background
from tedloc.methods.ts_cam import TSCAMNet, semantic_head

CLASSES = 4


@pytest.fixture(scope="module")
def net() -> CATRNet:
    backbone = AttentionViT("aviary/vit")
    torch.manual_seed(0)
    return CATRNet(backbone, semantic_head(backbone.dim, CLASSES), CLASSES, early=0.75)


def spots(images: int, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attention (images, 1, 4, 8, 8), the head of the image's class sees a 2x2 spot; labels; corners."""
    labels = torch.randint(CLASSES, (images,), generator=random)
    corner = torch.randint(7, (2, images), generator=random)
    attention = 0.2 * torch.rand(images, 1, 4, 8, 8, generator=random)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        attention[torch.arange(images), 0, labels, corner[0] + dy, corner[1] + dx] += 1
    return attention, labels, corner


def test_stimulation_maps_are_class_specific():
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    module = CategoryStimulation(4, CLASSES)
    optimiser = torch.optim.AdamW(module.parameters(), 0.01)
    for _ in range(30):
        attention, labels, _ = spots(32, random)
        loss = F.cross_entropy(module(attention).mean((2, 3)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    attention, labels, (y, x) = spots(100, random)
    image = torch.arange(100)
    with torch.no_grad():
        maps = module.eval()(attention)
    own, other = maps[image, labels], maps[image, (labels + 1) % CLASSES]
    assert (own[image, y, x] > other[image, y, x]).float().mean() > 0.9
    peak = torch.stack([own.flatten(1).argmax(1) // 8, own.flatten(1).argmax(1) % 8])
    near = (peak - torch.stack([y, x]) - 0.5).abs().amax(0) <= 1.5  # by chance a quarter
    assert near.float().mean() > 0.8


def test_stimulation_and_constraint_reach_the_vits_attention(net):
    images, labels = torch.randn(4, 3, 80, 80, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    queries = net.backbone.body.blocks[0].attn.qkv.weight
    for name in ("stimulation", "object", "background"):
        net.zero_grad()
        net.losses(net.train().backbone(images), labels, share=0.25)[name].backward()
        assert queries.grad.abs().sum() > 0, name
        assert net.head.weight.grad is None, name  # they say nothing of the class maps


@torch.no_grad()
def test_the_object_constraint_reads_the_early_blocks_only(net):
    seen = random_seen(dim=128)
    before = net.eval().constraint(seen.cls_to_patches())
    assert before.shape == (3, 10, 10) and ((0 < before) & (before < 1)).all()
    for block, read in ((4, False), (3, True)):  # three quarters of five blocks: four
        seen.attention[block][:, :, 0, 1:] *= torch.rand(100, generator=torch.Generator().manual_seed(1))
        assert torch.allclose(net.constraint(seen.cls_to_patches()), before, atol=1e-7) != read


def test_the_background_term_lowers_the_lowest_values_and_leaves_the_object():
    attention = torch.rand(2, 10, 10, generator=torch.Generator().manual_seed(0)).requires_grad_()
    background(attention, share=0.25).backward()
    for values, gradient in zip(attention.detach().flatten(1), attention.grad.flatten(1)):
        assert (gradient > 0).sum() == 25 and values[gradient > 0].max() < values[gradient == 0].min()


def test_the_weight_of_a_loss_that_stays_large_falls():
    weighting = UncertaintyWeighting(4)
    optimiser = torch.optim.AdamW(weighting.parameters(), 0.02, weight_decay=0.0)
    random = torch.Generator().manual_seed(0)
    for _ in range(400):
        noisy = torch.tensor([0.1, 0.1, 0.1, 3.0]) * (0.5 + torch.rand(4, generator=random))
        optimiser.zero_grad()
        weighting(noisy).backward()
        optimiser.step()
    weights = 1 / (2 * weighting.s.detach() ** 2)
    assert weights[3] < 0.25 * weights[:3].min() and weights[3] < 0.5 < weights[:3].min()


@torch.no_grad()
def test_the_map_adds_stimulation_to_ts_cams_class_map_and_keeps_its_scores(net):
    seen = random_seen(dim=128)
    classes = torch.tensor([0, 3, 1])
    found, plain = net.eval().couple(seen), TSCAMNet(torch.nn.Identity(), net.head).couple(seen)
    added = plain.attention * net.stimulation(seen.cls_to_patches())[torch.arange(3), classes]
    assert torch.allclose(found.of(classes), plain.of(classes) + added, atol=1e-5)
    assert torch.equal(found.scores, plain.scores)
