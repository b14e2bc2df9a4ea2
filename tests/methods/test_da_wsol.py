"""DA-WSOL sorts pixels into universum, source-like and target, and adapts the target to the source."""

import numpy as np
import pytest
import torch

from tedloc import profiles
from tedloc.methods.da_wsol import DAWSOL, SOURCE_LIKE, TARGET, UNIVERSUM, Adapter, DANet, k_means, mmd
from tedloc.methods.trained import Batch
from tedloc.settings import override
from tedloc.training import engine
from tedloc.training.distributed import Draws

DIM, CLASSES, SIDE = 16, 4, 8


def planted(images: int = 32, seed: int = 0) -> tuple[Batch, torch.Tensor]:
    """A batch with a 3x3 object that carries its class in one channel, on a background that is cluttered in
    the left half (other channels) and quiet in the right; and where the object is, (B, SIDE, SIDE) bool."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (images,), generator=random)
    x = 0.1 * torch.randn(images, DIM, SIDE, SIDE, generator=random)
    x[:, CLASSES:, :, : SIDE // 2] += torch.rand(images, DIM - CLASSES, SIDE, SIDE // 2, generator=random)
    inside = torch.zeros(images, SIDE, SIDE, dtype=torch.bool)
    for i, (row, column) in enumerate(torch.randint(SIDE - 2, (images, 2), generator=random)):
        inside[i, row : row + 3, column : column + 3] = True
        x[i, labels[i], inside[i]] += 4
    return Batch(x, labels, np.arange(images), torch.zeros(images, dtype=torch.bool), Draws(random, images)), inside


def trained(steps: int = 60, **changes) -> DANet:
    """A network after some steps on planted objects."""
    changes = {f"methods.da-wsol.{name}": value for name, value in changes.items()}
    method = DAWSOL(override(profiles.get("aviary"), changes))
    net = engine.seeded(0, lambda: DANet(Adapter(DIM), DIM, CLASSES, method.own.momentum))
    optimiser = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    for step in range(steps):
        loss, _ = method.loss(net, planted(seed=step)[0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


def pixels_of(f: torch.Tensor) -> torch.Tensor:
    return f.flatten(2).transpose(1, 2)


def test_planted_background_goes_to_the_universum_and_the_object_to_the_target():
    batch, inside = planted()
    net = DANet(Adapter(DIM), DIM, CLASSES, momentum=0.9)
    for _ in range(2):  # first from the strongest pixels, then from the running centres
        cluster = net.assign(pixels_of(net(batch.x)[0].detach()), batch.labels).unflatten(1, (SIDE, SIDE))
        assert (cluster[inside] == TARGET).float().mean() > 0.95
        assert (cluster[~inside] == TARGET).float().mean() < 0.01
        quiet = ~inside & (torch.arange(SIDE) >= SIDE // 2)
        assert (cluster[quiet] == UNIVERSUM).float().mean() > 0.95
    assert net.known.all()
    assert torch.equal(net.targets.argmax(1), torch.arange(CLASSES))  # each centre in its class's channel
    assert net.universum[:CLASSES].max() < 0.2


def test_k_means_on_a_batch_is_k_means_on_each_image():
    random = torch.Generator().manual_seed(0)
    pixels, start = torch.randn(5, 30, 3, generator=random), torch.randn(5, 3, 3, generator=random)
    cluster, centres = k_means(pixels, start, rounds=20)
    for i in range(5):
        own = start[i].clone()
        for _ in range(20):
            nearest = torch.tensor([int(((own - pixel) ** 2).sum(1).argmin()) for pixel in pixels[i]])
            for k in set(nearest.tolist()):
                own[k] = pixels[i][nearest == k].mean(0)
        assert torch.equal(cluster[i], nearest) and torch.allclose(centres[i], own, atol=1e-5)


def test_a_cluster_without_pixels_keeps_its_centre():
    far = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [100.0, 100.0]]])
    cluster, centres = k_means(torch.rand(1, 20, 2, generator=torch.Generator().manual_seed(0)), far)
    assert torch.equal(centres[0, TARGET], far[0, TARGET])
    assert set(cluster.unique().tolist()) == {UNIVERSUM, SOURCE_LIKE}


def test_the_discrepancy_is_zero_for_equal_samples_and_grows_with_a_shift():
    samples = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
    found = [float(mmd(samples, samples[torch.randperm(32)] + shift)) for shift in (0.0, 0.3, 0.6, 1.2, 2.4)]
    assert found[0] == pytest.approx(0, abs=1e-6) and found == sorted(found) and found[1] > 0.001


def test_the_universum_term_silences_the_background():
    batch, inside = planted(seed=1000)
    loud, silent = (trained(mu=mu)(batch.x)[0].detach().mean(1) for mu in (0.0, 3.0))
    assert silent[~inside].mean() < 0.5 * loud[~inside].mean()
    assert silent[inside].mean() > 3 * silent[~inside].mean()


def test_descending_on_the_discrepancy_draws_the_target_onto_the_source():
    random = torch.Generator().manual_seed(0)
    source = torch.randn(32, 8, generator=random)
    target = (torch.randn(32, 8, generator=random) + 2).requires_grad_()
    before = mmd(source, target).item()
    for _ in range(100):
        (gradient,) = torch.autograd.grad(mmd(source, target), target)
        target = (target - 20 * gradient).detach().requires_grad_()
    assert mmd(source, target) < 0.1 * before
    assert (target.mean(0) - source.mean(0)).norm() < 0.5 * (2 * 8**0.5)  # half of the shift


def test_an_image_without_target_pixels_takes_no_part():
    batch, _ = planted(images=4)
    method = DAWSOL(profiles.get("aviary"))
    net = DANet(Adapter(DIM), DIM, CLASSES, momentum=0.9)
    empty = batch._replace(x=torch.zeros_like(batch.x))  # all pixels alike: all universum
    loss, terms = method.loss(net, empty)
    assert loss.isfinite() and terms["MMD"] == 0 and terms["universum"] == 0 and not net.known.any()


@pytest.mark.parametrize("width", [None, 4])
def test_the_adapter_starts_by_adding_nothing(width):
    batch, _ = planted(2)
    f, _ = DANet(Adapter(DIM, width), DIM, CLASSES, 0.9)(batch.x)
    assert torch.equal(f, batch.x.relu())
