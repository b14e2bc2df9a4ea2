"""The sampler of appendix A: Otsu, pools, balanced draws."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tedloc import sampler
from tedloc.errors import UserError
from tedloc.sampler import otsu, pools, sample, to_grid
from tedloc.settings import SamplerSettings
from tedloc.training.distributed import Draws

sizes = st.integers(4, 24)


def draws(pool: torch.Tensor, seed: int) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), len(pool))


def cams(seed: int, side: int, levels: int = 256, count: int = 3) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    smooth = [cv2.resize(rng.random((4, 4)).astype(np.float32), (side, side)) for _ in range(count)]
    steps = np.floor(np.stack(smooth) * levels) / levels
    return torch.from_numpy((steps * 255).clip(0, 255).astype(np.uint8))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), side=sizes, levels=st.sampled_from([2, 3, 7, 256]))
def test_otsu_splits_like_opencv(seed, side, levels):
    maps = cams(seed, side, levels)
    ours = otsu(maps.flatten(1))
    for threshold, cam in zip(ours, maps.numpy()):
        theirs, _ = cv2.threshold(cam, 0, 255, cv2.THRESH_OTSU)
        same = np.array_equal(cam > int(threshold), cam > theirs)
        assert same or between_class_variance(cam, int(threshold)) == pytest.approx(
            between_class_variance(cam, int(theirs)), rel=1e-9
        )  # a tie: either threshold is Otsu's


def between_class_variance(cam: np.ndarray, threshold: int) -> float:
    upper, lower = cam[cam > threshold].astype(float), cam[cam <= threshold].astype(float)
    share = len(upper) / cam.size
    return share * (1 - share) * (upper.mean() - lower.mean()) ** 2


def test_a_flat_cam_gives_no_samples():
    flat = torch.full((1, 6, 6), 77, dtype=torch.uint8)
    foreground, background = pools(flat, SamplerSettings(), draws(flat, 0))
    samples = sample(foreground, background, 5, draws(foreground, 0))
    assert not samples.valid.any()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), side=sizes, n=st.integers(1, 40))
def test_samples_come_from_their_pools_balanced_and_without_repetition(seed, side, n):
    maps = cams(seed, side)
    foreground, background = pools(maps, SamplerSettings(background=0.3), draws(maps, seed))
    drawn = sample(foreground, background, n, draws(foreground, seed))
    assert not (foreground & background).any()
    for b in range(len(foreground)):
        fg, bg = drawn.foreground[b][drawn.valid[b]], drawn.background[b][drawn.valid[b]]
        assert len(fg) == len(bg) == min(n, int(foreground[b].sum()), int(background[b].sum()))
        assert foreground[b][fg].all() and background[b][bg].all()
        assert len(set(fg.tolist())) == len(fg) and len(set(bg.tolist())) == len(bg)


def test_foreground_pool_is_the_most_active_share_of_the_otsu_region():
    ramp = torch.arange(100, dtype=torch.uint8).reshape(1, 10, 10) * 2
    region, _ = pools(ramp, SamplerSettings(foreground=1.0), draws(ramp, 0))
    top, bottom = pools(ramp, SamplerSettings(foreground=0.25, background=0.1), draws(ramp, 0))
    assert int(top.sum()) == np.ceil(0.25 * int(region.sum()))
    assert torch.equal(top[0].nonzero()[:, 0], torch.arange(100 - int(top.sum()), 100))
    assert torch.equal(bottom[0].nonzero()[:, 0], torch.arange(10))


def test_every_step_draws_anew_and_a_seed_repeats_it():
    maps = cams(1, 20)
    foreground, background = pools(maps, SamplerSettings(), draws(maps, 0))
    drawn = draws(foreground, 3)
    first, second = (sample(foreground, background, 10, drawn) for _ in range(2))
    again = sample(foreground, background, 10, draws(foreground, 3))
    assert not torch.equal(first.foreground, second.foreground)
    assert torch.equal(first.foreground, again.foreground) and torch.equal(first.background, again.background)


def test_draws_are_uniform_over_the_pool():
    foreground = torch.zeros(1, 40, dtype=torch.bool)
    foreground[0, 10:30] = True
    drawn, counts = draws(foreground, 0), torch.zeros(40)
    for _ in range(2000):
        counts[sample(foreground, ~foreground, 5, drawn).foreground[0]] += 1
    expected = 2000 * 5 / 20
    assert counts[:10].sum() == counts[30:].sum() == 0
    assert (counts[10:30] - expected).abs().max() < 5 * expected**0.5


def test_to_grid_keeps_the_range():
    grid = to_grid(torch.eye(5)[None], (20, 20))
    assert grid.dtype == torch.uint8 and grid.shape == (1, 20, 20) and grid.max() > 200


@pytest.mark.parametrize("setting", [{"foreground": 0.0}, {"background": 1.5}, {"samples": 0}])
def test_an_impossible_pool_is_named(setting):
    with pytest.raises(UserError, match=f"sampler.{next(iter(setting))}"):
        SamplerSettings(**setting)


def test_ties_at_the_edge_of_a_pool_are_drawn_at_random_and_not_in_scan_order():
    """A map of few levels, whose lowest 40 % would else be its top rows."""
    cam = torch.zeros(1, 10, 10, dtype=torch.uint8)
    cam[:, 4:7, 4:7], cam[:, 5, 5] = 200, 255
    drawn, settings = draws(cam, 0), SamplerSettings(foreground=0.5, background=0.4)
    counts, steps = torch.zeros(2, 100), 2000
    for _ in range(steps):
        each = torch.cat(pools(cam, settings, drawn))
        assert each.sum(1).tolist() == [5, 40]
        counts += each
    region = (cam[0] > 0).flatten()
    for found, free, expected in ((counts[0], region & (cam[0] < 255).flatten(), 4 / 8), (counts[1], ~region, 40 / 91)):
        spread = (steps * expected * (1 - expected)) ** 0.5
        assert (found[free] - steps * expected).abs().max() < 5 * spread
    assert counts[0, 55] == steps and counts[0][~region].sum() == counts[1][region].sum() == 0


def test_the_lowest_pixels_are_those_that_sorting_finds_with_ties_in_the_order_given():
    for seed, levels in enumerate((1, 2, 5, 256) * 5):
        random = torch.Generator().manual_seed(seed)
        cams = torch.randint(levels, (3, 50), generator=random).to(torch.uint8)
        n = torch.randint(51, (3, 1), generator=random)
        found = sampler.lowest(cams, n, torch.arange(50).expand(3, -1))
        for row, count, order in zip(found, n[:, 0], cams.argsort(dim=1, stable=True)):
            assert row.nonzero()[:, 0].tolist() == sorted(order[:count].tolist())
