"""C2AM tells foreground from background by contrast, and which is which by the border; without test boxes."""

import numpy as np
import pytest
import torch

from tedloc import profiles
from tedloc.data import open_data
from tedloc.methods import c2am, create
from tedloc.settings import OptimiserSettings, override
from tedloc.training import engine

GRID, DIM = 10, 8
PROFILE = override(profiles.get("smoke"), {"data.per_class": 2})


def two_clusters(count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (count, DIM, GRID, GRID) of two kinds of patches, and the mask (count, GRID, GRID) of the one
    that stands in the middle."""
    g = torch.Generator().manual_seed(0)
    mask = torch.zeros(count, GRID, GRID, dtype=torch.bool)
    for each in mask:
        y, x = torch.randint(2, 4, (2,), generator=g).tolist()
        each[y : y + 4, x : x + 4] = True
    centres = torch.eye(DIM)[:2]
    noise = 0.3 * torch.randn(count, DIM, GRID, GRID, generator=g)
    return torch.where(mask[:, None], centres[0][:, None, None], centres[1][:, None, None]) + noise, mask


@pytest.fixture(scope="module")
def trained() -> c2am.Foreground:
    x, _ = two_clusters()

    def step(net, index, draws):
        z = c2am.parts(x[index])
        p = net(z)
        net.watch(p)
        return sum(c2am.contrast(z, p, 0.05).values()), {}

    net = engine.seeded(0, lambda: c2am.Foreground(DIM))
    return engine.train(net, step, len(x), OptimiserSettings(epochs=25, batch_size=16, learning_rate=0.1), 0)


@torch.no_grad()
def test_the_loss_separates_two_planted_kinds_of_patches(trained):
    x, mask = two_clusters()
    found = trained.maps(c2am.parts(x)) > 0.5
    assert ((found & mask).sum() / (found | mask).sum()) > 0.8


@torch.no_grad()
def test_an_inverted_map_is_turned_round_by_the_border(trained):
    x, mask = two_clusters()
    z = c2am.parts(x)
    inverted = c2am.Foreground(DIM).eval()
    inverted.load_state_dict(trained.state_dict())
    inverted.layers[1].weight.neg_(), inverted.layers[1].bias.neg_()
    assert torch.allclose(inverted(z), 1 - trained(z), atol=1e-5)
    assert not torch.allclose(inverted.maps(z), trained.maps(z), atol=0.1)
    for _ in range(20):
        inverted.watch(inverted(z))
    assert torch.allclose(inverted.maps(z), trained.maps(z), atol=1e-5)


def test_the_loss_is_the_same_for_both_sides():
    """So that nothing but the border can tell the object."""
    z, p = torch.rand(6, DIM, 4, 4), torch.rand(6, 4, 4)
    one, other = c2am.contrast(z, p, 0.3), c2am.contrast(z, 1 - p, 0.3)
    assert torch.allclose(sum(one.values()), sum(other.values()))
    assert torch.allclose(one["foreground"], other["background"])


def test_the_contrast_of_vectors_that_agree_is_the_same_under_bf16():
    """There 0.9995, which keeps the logarithm finite, is 1."""
    z, p = torch.rand(1, DIM, 4, 4).expand(6, -1, -1, -1), torch.full((6, 4, 4), 0.5)  # cosines of 1 everywhere
    expected = c2am.contrast(z, p, 0.3)
    with torch.autocast("cpu", torch.bfloat16):
        found = c2am.contrast(z, p, 0.3)
    assert found == expected and expected["apart"] == pytest.approx(-np.log(5e-4), abs=0.01)


def test_weights_fall_with_rank_and_the_closest_pair_counts_in_full():
    weights = c2am.rank_weights(torch.tensor([[0.2, 0.9, 0.5], [0.7, 0.1, 0.3]]), alpha=0.5)
    expected = torch.exp(-0.5 * torch.tensor([[2.0, 0, 1], [0, 2, 1]]))
    assert torch.allclose(weights, expected)


def test_positive_and_negative_parts_keep_everything_and_hold_nothing_negative():
    x = torch.randn(2, DIM, 3, 3)
    z = c2am.parts(x)
    assert z.min() >= 0 and torch.equal(z[:, :DIM] - z[:, DIM:], x)


def test_the_threshold_never_looks_at_test_boxes_but_the_named_variant_does(monkeypatch):
    ours, leaking = create("c2am", PROFILE), create("c2am:test-threshold", PROFILE)

    def maps(split):
        count = len(open_data(PROFILE.data, split))
        peak = np.exp(-((np.mgrid[:GRID, :GRID] - 4.5) ** 2).sum(0) / 8)
        yield np.arange(count), np.repeat(peak[None], count, axis=0)

    def thresholds():
        return ours.threshold(), leaking.threshold()

    for method in (ours, leaking):
        monkeypatch.setattr(method, "maps", maps)
    images = open_data(PROFILE.data, "test")
    found = []
    for share in (0.05, 0.45):  # half a side of the boxes: objects are small, then they fill the image
        sides = np.concatenate([(0.5 - share) * images.sizes, (0.5 + share) * images.sizes], 1).astype(int)
        monkeypatch.setattr(
            c2am.C2AM,
            "images",
            lambda method, split, boxes=list(sides[:, None]): (
                open_data(PROFILE.data, split) if split != "test" else _with_boxes(images, boxes)
            ),
        )
        found.append(thresholds())
    (val_before, test_before), (val_after, test_after) = found
    assert val_before == val_after and test_before > test_after


def _with_boxes(images, boxes):
    from types import SimpleNamespace

    return SimpleNamespace(ids=images.ids, boxes=boxes, sizes=images.sizes)


def test_a_finished_fit_trains_neither_stage_again(tmp_path, monkeypatch):
    first = create("c2am", PROFILE)
    first.fit(tmp_path)
    assert {p.parent.name for p in tmp_path.rglob("checkpoint.safetensors")} == {
        tmp_path.name,
        "foreground",
        "classifier",
    }
    monkeypatch.setattr(engine, "train", lambda *_: pytest.fail("trained again"))
    second = create("c2am", PROFILE)
    second.fit(tmp_path)
    for a, b in zip(first.predict("val"), second.predict("val"), strict=True):
        assert torch.equal(a.routes["box"].boxes, b.routes["box"].boxes)
        assert torch.equal(a.routes["map"].maps, b.routes["map"].maps)
