"""DDT finds what a class's images share; PSOL's regressor learns where it is, in mirrored images too."""

import numpy as np
import pytest
import torch

from tedloc import profiles
from tedloc.methods import create, ddt, psol
from tedloc.methods.trained import Batch, Trained
from tedloc.settings import override
from tedloc.training import engine
from tedloc.training.features import Features

GRID, DIM = 10, 16
PROFILE = override(profiles.get("smoke"), {"data.per_class": 10, "evaluation.batch_size": 7})


def planted(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (count, DIM, GRID, GRID) with one pattern at varying places before other clutter in every image,
    and the boxes (count, 4) of the pattern as shares."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, DIM, 1, 1, generator=g) + torch.randn(count, DIM, GRID, GRID, generator=g)
    x *= 0.4
    pattern, boxes = torch.ones(DIM) * torch.tensor([1.0, -1.0]).repeat(DIM // 2), torch.empty(count, 4)
    for image, box in zip(x, boxes, strict=True):
        y0, x0 = torch.randint(1, 4, (2,), generator=g).tolist()
        h, w = torch.randint(3, 6, (2,), generator=g).tolist()
        image[:, y0 : y0 + h, x0 : x0 + w] += 2 * pattern[:, None, None]
        box[:] = torch.tensor([x0, y0, x0 + w, y0 + h]) / GRID
    return x, boxes


def overlap(boxes: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(B,) IoU of boxes as shares."""
    sides = torch.minimum(boxes[:, 2:], targets[:, 2:]) - torch.maximum(boxes[:, :2], targets[:, :2])
    both = sides.clamp_min(0).prod(1)
    return both / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + (targets[:, 2:] - targets[:, :2]).prod(1) - both)


@pytest.fixture
def planted_data(monkeypatch, tmp_path) -> torch.Tensor:
    """200 training images of 20 classes whose tokens are planted; gives their boxes."""
    x, boxes = planted(200)
    both = torch.stack([x, x.flip(-1)], dim=1)
    stored = Features(both.numpy().astype(np.float16), tmp_path / "features")
    monkeypatch.setattr(Trained, "stored", lambda self, split: stored)
    return boxes


def test_ddt_finds_the_pattern_that_the_images_share_and_not_their_clutter(planted_data):
    method = ddt.DDT(PROFILE)
    method.fit_directions()
    assert overlap(torch.from_numpy(method.training_boxes()), planted_data).mean() > 0.9


def test_whitening_finds_the_class_where_every_class_has_the_same_stronger_clutter(monkeypatch, tmp_path):
    """The published direction follows the clutter, since it varies more than the object does."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(20).repeat_interleave(10)
    _, boxes = planted(200)
    where = torch.zeros(200, 1, GRID, GRID)
    for mask, box in zip(where[:, 0], (boxes * GRID).round().int().tolist(), strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = 1
    patterns = torch.randint(2, (20, 16), generator=g).mul(2).sub(1)[labels][:, :, None, None]  # one a class
    clutter = 4.0 * (torch.rand(200, 1, GRID, GRID, generator=g) < 0.3).expand(-1, 48, -1, -1)
    noise = 0.1 * torch.randn(200, 64, GRID, GRID, generator=g)
    x = torch.cat([where * patterns, clutter], dim=1) + noise
    stored = Features(x[:, None].numpy().astype(np.float16), tmp_path / "features")
    monkeypatch.setattr(Trained, "stored", lambda self, split: stored)
    found = {}
    for name in ("ddt", "ddt:whitened"):
        method = create(name, PROFILE)
        method.fit_directions()
        found[name] = overlap(torch.from_numpy(method.training_boxes()), boxes).mean()
    assert found["ddt:whitened"] > 0.9 > 0.5 > found["ddt"]


def test_only_the_whitened_variant_has_something_to_search():
    assert not create("ddt", PROFILE).search() and list(create("ddt:whitened", PROFILE).search()) == [
        "methods.ddt.whiten"
    ]


def test_the_directions_do_not_depend_on_the_batches_they_are_computed_in(planted_data):
    found = []
    for size in (3, 200):
        method = ddt.DDT(override(PROFILE, {"evaluation.batch_size": size}))
        method.fit_directions()
        found.append(method.net[1])
    assert torch.allclose(found[0].direction, found[1].direction, atol=1e-4)
    assert torch.allclose(found[0].mean, found[1].mean, atol=1e-4)


def test_a_directions_sign_makes_the_border_negative_on_average(planted_data):
    method = ddt.DDT(PROFILE)
    method.fit_directions()
    x = method.net[0](method.input("train", np.arange(200)))
    labels = torch.arange(20).repeat_interleave(10)
    projected = method.net[1](x, labels)[:, ddt.border((GRID, GRID))]
    assert (projected.view(20, -1).mean(1) < 0).all()


def test_a_finished_ddt_is_read_and_not_computed_again(planted_data, tmp_path, monkeypatch):
    first = ddt.DDT(PROFILE)
    first.fit_directions(tmp_path)
    monkeypatch.setattr(ddt.DDT, "moments", lambda *_: pytest.fail("computed again"))
    second = ddt.DDT(PROFILE)
    second.fit_directions(tmp_path)
    assert torch.equal(first.net[1].direction, second.net[1].direction)


def test_the_box_is_that_of_the_largest_component_from_edge_to_edge():
    mask = np.zeros((8, 10), bool)
    mask[2:4, 5:10], mask[6, 0] = True, True
    assert ddt.component_box(mask) == (0.5, 0.25, 1.0, 0.5)
    assert ddt.component_box(np.zeros((8, 10), bool)) == (0, 0, 1, 1)


def test_the_coverage_of_a_box_is_its_share_of_each_patch():
    boxes = torch.tensor([[0.25, 0.0, 0.75, 0.5], [0.0, 0.0, 1.0, 1.0], [0.3, 0.2, 0.4, 0.9]])
    covered = psol.coverage(boxes, (4, 2))
    assert torch.allclose(covered[0], torch.tensor([[0.5, 0.5], [0.5, 0.5], [0, 0], [0, 0]]))
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    assert torch.allclose(covered.mean((1, 2)), areas)


@pytest.fixture(scope="module")
def regressor() -> torch.nn.Module:
    """Trained as PSOL does, on 300 planted images and their mirrored views."""
    x, boxes = planted(300)
    method = psol.PSOL(PROFILE)
    method.boxes = boxes
    net = engine.seeded(0, lambda: psol.BoxRegressor(DIM, (GRID, GRID), 16, 64))

    def step(net, index, draws):
        mirrored = draws.rand() < 0.5
        views = torch.where(mirrored[:, None, None, None], x[index].flip(-1), x[index])
        return method.loss(net, Batch(views, torch.zeros(len(index)), index, mirrored, draws))

    settings = override(method.own.optimiser, {"epochs": 20, "learning_rate": 3e-3})
    return engine.train(net, step, len(x), settings, 0)


@torch.no_grad()
def test_the_regressor_follows_the_object_in_new_images(regressor):
    x, boxes = planted(100, seed=1)
    found = psol.corners(regressor(x))
    always_the_same = boxes.mean(0, keepdim=True).expand(100, 4)
    assert overlap(found, boxes).mean() > overlap(always_the_same, boxes).mean() + 0.15


@torch.no_grad()
def test_the_box_of_a_mirrored_image_is_the_mirrored_box(regressor):
    x, boxes = planted(100, seed=1)
    mirrored = psol.corners(regressor(x.flip(-1)))
    expected = psol.corners(psol.corner_and_size(boxes, torch.ones(100, dtype=torch.bool)))
    x0, y0, x1, y1 = boxes.unbind(1)
    assert torch.allclose(expected, torch.stack([1 - x1, y0, 1 - x0, y1], dim=1))
    assert overlap(mirrored, expected).mean() > overlap(mirrored, boxes).mean() + 0.15


def test_the_regressor_does_not_saturate_on_many_wide_features():
    """As on real photos: 432 channels on a 20 x 20 grid. It once answered with the same empty box everywhere."""
    random = torch.Generator().manual_seed(0)
    x, target = torch.randn(64, 432, 20, 20, generator=random), torch.rand(64, 4, generator=random)
    x[:, :4] += 4 * target[:, :, None, None]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = psol.BoxRegressor(432, (20, 20), 32, 512)
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.1)
    for step in range(12):
        part = slice(32 * (step % 2), 32 * (step % 2) + 32)
        loss = 50 * (net(x[part]) - target[part]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = net(x)
    dead = ((found < 0.001) | (found > 0.999)).float().mean()
    assert dead < 0.05 and found.std(0).min() > 0.02
