"""The open ViT computes what timm's fused one does, and its attention is attention."""

import pytest
import torch

from tedloc.backbones import towers
from tedloc.backbones.attention import AttentionViT
from tedloc.errors import UserError

IMAGES = torch.rand(3, 3, 80, 80, generator=torch.Generator().manual_seed(0))


def test_tokens_are_those_of_the_untouched_tower():
    seen = AttentionViT("aviary/vit").eval()(IMAGES)
    expected = towers.load_vit()(IMAGES), towers.load_vit().forward_features(IMAGES)
    assert torch.allclose(seen.cls, expected[1][:, 0], atol=1e-4)
    assert torch.allclose(seen.tokens.flatten(2).transpose(1, 2), expected[1][:, 1:], atol=1e-4)


def test_every_block_and_head_attends_to_all_tokens_with_weights_that_sum_to_one():
    net = AttentionViT("aviary/vit").eval()
    seen = net(IMAGES)
    assert len(seen.attention) == net.depth and seen.cls_to_patches().shape == (3, net.depth, net.heads, 10, 10)
    for weights in seen.attention:
        assert weights.shape == (3, net.heads, 101, 101) and weights.min() >= 0
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)


def test_the_whole_network_trains_through_its_attention():
    net = AttentionViT("aviary/vit")
    net(IMAGES).cls_to_patches()[:, -1].square().sum().backward()
    assert net.body.blocks[-1].attn.qkv.weight.grad.abs().sum() > 0
    assert net.body.blocks[0].mlp.fc1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["efficientnet-lite0", "timm/resnet18.a1_in1k"])
def test_an_encoder_without_attention_is_refused_by_name(name):
    with pytest.raises(UserError, match="plain ViT with a class token"):
        AttentionViT(name, weights="random")
