"""TS-CAM couples what patches say of a class with where the class token looked."""

import pytest
import torch
from synthetic_attention import random_seen

from tedloc.backbones.attention import AttentionViT
from tedloc.methods.catr import CATRNet
from tedloc.methods.lctr import CueDigging, LCTRNet
from tedloc.methods.scm import SCMNet
from tedloc.methods.ts_cam import TSCAMNet, semantic_head

CLASSES = 7


def network() -> TSCAMNet:
    torch.manual_seed(0)
    return TSCAMNet(torch.nn.Identity(), semantic_head(16, CLASSES)).eval()


def test_the_map_is_zero_where_no_block_looks_and_follows_the_class():
    seen = random_seen()
    for weights in seen.attention:
        weights[:, :, 0, 1:6] = 0  # the class token ignores the first five patches
    found = network().couple(seen)
    first, second = found.of(torch.tensor([0, 1, 2])), found.of(torch.tensor([3, 1, 2]))
    assert (first.flatten(1)[:, :5] == 0).all() and (first.flatten(1)[:, 5:] != 0).all()
    assert not torch.allclose(first[0], second[0]) and torch.equal(first[1:], second[1:])


def test_a_patch_that_looks_like_the_class_counts_for_its_score_and_lights_up_in_its_map():
    seen, net = random_seen(images=1), network()
    before = net.couple(seen)
    seen.tokens[0, :, 4, 6] += 3 * net.head.weight[2, :, 1, 1].detach()  # what the head takes for class 2
    after = net.couple(seen)
    assert after.scores[0, 2] > before.scores[0, 2]
    grown = (after.of(torch.tensor([2])) - before.of(torch.tensor([2])))[0]
    assert grown[4, 6] > 0 and torch.count_nonzero(grown) <= 9  # a 3x3 head reaches no further


@pytest.mark.parametrize("block", range(5))
@torch.no_grad()
def test_every_block_and_head_takes_part_in_the_attention(block):
    seen, net = random_seen(images=1), network()
    before = net.couple(seen).attention
    for head in range(4):
        seen.attention[block][0, head, 0, 1 + 37] += 1
        after = net.couple(seen).attention
        assert (after - before)[0, 3, 7] == pytest.approx(1 / 4, abs=1e-5)
        before = after


@pytest.mark.parametrize("backbone", [("aviary/vit",), ("timm/deit_tiny_patch16_224", 64, "random")])
def test_depth_heads_and_grid_come_from_the_backbone(backbone):
    vit = AttentionViT(*backbone)
    side = vit.body.patch_embed.grid_size[0]
    assert (vit.depth, vit.heads, side) == ((5, 4, 10) if backbone[0].startswith("aviary") else (12, 3, 4))
    images = torch.randn(2, 3, *vit.body.patch_embed.img_size, generator=torch.Generator().manual_seed(0))
    head = semantic_head(vit.dim, CLASSES)
    for net in (
        TSCAMNet(vit, head),
        SCMNet(vit, head),
        LCTRNet(vit, CueDigging(vit.dim, CLASSES)),
        CATRNet(vit, head, CLASSES, early=0.75),
    ):
        found = net.train()(images)
        assert found.attention.shape == (2, side, side) and found.class_maps.shape == (2, CLASSES, side, side)
        assert found.scores.shape == (2, CLASSES)
