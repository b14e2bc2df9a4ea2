"""BAS covers what speaks for the class, and needs its stop-gradients for that."""

import numpy as np
import torch

from tedloc import profiles
from tedloc.methods import bas
from tedloc.methods.bas import BAS, activation, on_frozen, suppression
from tedloc.methods.trained import Batch
from tedloc.training import engine
from tedloc.training.distributed import Draws

DIM, CLASSES, SIDE = 16, 4, 8


def planted(images: int = 32, seed: int = 0) -> tuple[Batch, torch.Tensor]:
    """A batch with a 4x4 object that carries its class in one channel, on noise; and where the object is,
    (B, SIDE, SIDE) bool."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (images,), generator=random)
    x = torch.randn(images, DIM, SIDE, SIDE, generator=random)
    inside = torch.zeros(images, SIDE, SIDE, dtype=torch.bool)
    for i, (row, column) in enumerate(torch.randint(SIDE - 3, (images, 2), generator=random)):
        inside[i, row : row + 4, column : column + 4] = True
        x[i, labels[i], inside[i]] += 3
    return Batch(x, labels, np.arange(images), torch.zeros(images, dtype=torch.bool), Draws(random, images)), inside


def trained(steps: int = 150) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Mean map on and beside unseen planted objects after training, and the terms of the loss there."""
    method = BAS(profiles.get("aviary"))
    net = engine.seeded(0, lambda: on_frozen(DIM, CLASSES, 32))
    optimiser = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    for step in range(steps):
        loss, _ = method.loss(net, planted(seed=step)[0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    batch, inside = planted(seed=1000)
    with torch.no_grad():
        mask = method.routes(net, batch.x, batch.labels)["true"].maps
        return torch.stack([mask[inside].mean(), mask[~inside].mean()]), method.loss(net, batch)[1]


def test_the_map_covers_a_planted_object_and_little_else():
    (on, beside), terms = trained()
    assert on > 0.8 and beside < 0.3 and terms["background"] < 0.15 and terms["CE"] < 0.05


def test_without_the_stop_gradient_the_loss_falls_to_a_trivial_map(monkeypatch):
    monkeypatch.setattr(bas, "held", lambda module, x: module(x))  # f2 may unlearn what lies outside the map
    (on, _), terms = trained()
    assert terms["background"] < 0.01 and terms["area"] < 0.25  # all suppressed by a small map ...
    assert on < 0.4  # ... that leaves out the object


def test_suppression_moves_the_map_alone():
    net = engine.seeded(0, lambda: on_frozen(DIM, CLASSES, 32))
    batch, _ = planted()
    mask = bas.of_class(net.generator(batch.x), batch.labels)
    hidden = bas.held(net.f2, batch.x * (1 - mask)[:, None])
    whole = net.f2(batch.x)
    suppression(activation(hidden, batch.labels), activation(whole, batch.labels) + 1).backward()
    assert all(p.grad is None for p in net.f2.parameters())
    assert all(p.grad.abs().sum() > 0 for p in net.generator.parameters())
    assert torch.equal(hidden, net.f2(batch.x * (1 - mask)[:, None]))  # the same function at this step


def test_nothing_is_suppressed_where_hiding_the_map_does_not_lower_the_class():
    remains = torch.tensor([2.0, 1.0], requires_grad=True)
    whole = torch.tensor([1.0, 4.0], requires_grad=True)
    loss = suppression(remains, whole)
    loss.backward()
    assert loss == 0.125 and torch.equal(remains.grad, torch.tensor([0.0, 0.125])) and whole.grad is None


def test_the_test_map_is_the_mean_over_the_classes_with_the_highest_scores():
    method, net = BAS(profiles.get("aviary")), engine.seeded(0, lambda: on_frozen(DIM, 12, 32))
    batch, _ = planted(images=3)
    routes = method.routes(net, batch.x, batch.labels)
    maps = net.generator(batch.x)
    for i, scores in enumerate(routes["top-k"].scores):
        best = scores.argsort(descending=True)[: method.own.top]
        assert torch.allclose(routes["top-k"].maps[i], maps[i, best].mean(0), atol=1e-6)
    assert torch.equal(routes["true"].maps[1], maps[1, batch.labels[1]])
