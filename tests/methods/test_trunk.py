"""Where the encoder can be trained along, methods train all of it; cut in two, its halves are the whole."""

import numpy as np
import pytest
import torch

from tedloc import profiles
from tedloc.backbones.encoders import load_encoder
from tedloc.errors import UserError
from tedloc.methods import create
from tedloc.methods.trained import Batch
from tedloc.methods.trunk import EarlyTrunk, LateTrunk, Trunk
from tedloc.settings import override
from tedloc.training.distributed import Draws

METHODS = ("psol", "bas", "da-wsol")
WHOLE = {f"methods.{name}.whole": True for name in METHODS}
PROFILE = override(profiles.get("smoke"), {"data.per_class": 1} | WHOLE)
PHOTOS = override(profiles.get("imagenette-small"), {"encoder.weights": "random"})


def encoder():
    return load_encoder("aviary/cnn")


@torch.no_grad()
@pytest.mark.parametrize("stages", [1, 2])
def test_the_early_stages_and_the_late_ones_are_the_whole(stages):
    images = torch.randn(2, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    early, late = EarlyTrunk(encoder(), stages), LateTrunk(encoder(), stages).train()
    x = early(images)
    assert x.shape[1] == early.dim and late(x).shape == (2, late.dim, 10, 10)
    torch.testing.assert_close(late(x), Trunk(encoder())(images))


@pytest.mark.parametrize("name", METHODS)
def test_every_weight_of_the_trunk_is_trained_where_it_is_cheap(name):
    method = create(name, PROFILE)
    assert method.on_images and method.backbone_name == "aviary/cnn"
    net, random = method.network(method.shape).train(), torch.Generator().manual_seed(0)
    x, labels = torch.randn(4, 3, 80, 80, generator=random), torch.arange(4)
    method.boxes = torch.tensor([[0.1, 0.2, 0.6, 0.9]]).repeat(4, 1)
    batch = Batch(x, labels, np.arange(4), torch.zeros(4, dtype=torch.bool), Draws(random, 4))
    method.loss(net, batch)[0].backward()
    still = {key for key, value in net.named_parameters() if value.grad is None}
    assert all("encoder.body.head." in key for key in still), still  # it lies behind the embeddings
    assert sum(value.grad is not None for value in net.parameters()) > 30


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
    with pytest.raises(UserError, match="whole trains the aviary's CNN along, and 'efficientnet-lite0' is another"):
        create(name, override(PHOTOS, {f"methods.{name}.whole": True})).backbone_name  # noqa: B018
