"""Where the encoder can be trained along, methods train all of it; cut in two, its halves are the whole."""

import numpy as np
import pytest
import torch

from tedloc import profiles
from tedloc.backbones.encoders import load_encoder
from tedloc.methods import create
from tedloc.methods.trained import Batch
from tedloc.methods.trunk import EarlyTrunk, LateTrunk, Trunk
from tedloc.settings import override
from tedloc.training.distributed import Draws

PROFILE = override(profiles.get("smoke"), {"data.per_class": 1})
PHOTOS = override(profiles.get("tiny-imagenet"), {"encoder.weights": "random"})
METHODS = ("psol", "bas", "da-wsol")


def encoder():
    return load_encoder("aviary/encoder")


@torch.no_grad()
@pytest.mark.parametrize("blocks", [1, 3])
def test_the_early_blocks_and_the_late_ones_without_class_token_are_close_to_the_whole(blocks):
    images = torch.randn(2, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    early, late = EarlyTrunk(encoder(), blocks), LateTrunk(encoder(), blocks)
    assert len(early.encoder.body.blocks) == blocks and len(late.layers) == len(encoder().body.blocks) - blocks + 2
    x = early(images)
    assert x.shape == (2, 128, 10, 10) and late(x).shape == x.shape
    whole, own = Trunk(encoder())(images), late(x)
    assert torch.nn.functional.cosine_similarity(own, whole).mean() > 0.8  # one token of 101 is missing


@pytest.mark.parametrize("name", METHODS)
def test_every_weight_of_the_trunk_is_trained_where_it_is_cheap(name):
    method = create(name, PROFILE)
    assert method.on_images and method.backbone_name == "aviary/encoder"
    net, random = method.network(method.shape).train(), torch.Generator().manual_seed(0)
    x, labels = torch.randn(4, 3, 80, 80, generator=random), torch.arange(4)
    method.boxes = torch.tensor([[0.1, 0.2, 0.6, 0.9]]).repeat(4, 1)
    batch = Batch(x, labels, np.arange(4), torch.zeros(4, dtype=torch.bool), Draws(random, 4))
    method.loss(net, batch)[0].backward()
    still = {key for key, value in net.named_parameters() if value.grad is None}
    beyond = ("encoder.body.head.", "encoder.body.norm.", "encoder.body.fc_norm.")  # what lies behind the embeddings
    assert all(any(part in key for part in beyond) for key in still), still
    assert sum(value.grad is not None for value in net.parameters()) > 50


@pytest.mark.parametrize("name", METHODS)
def test_an_image_is_seen_alike_in_any_batch_while_the_trunk_trains(name):
    method = create(name, PROFILE)
    net = method.network(method.shape).train()
    trunk = next(m for m in net.modules() if isinstance(m, Trunk))
    x = torch.randn(3, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(trunk(x)[:1], trunk(x[:1]), atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_a_frozen_encoder_is_named_in_the_row(name):
    method = create(name, PHOTOS)
    assert not method.on_images and method.backbone_name == "efficientnet-lite0 (frozen)"
