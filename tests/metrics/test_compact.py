"""Results that are kept small: the same metrics and the same verdicts as before, and no number that is not there."""

import lzma

import numpy as np
import pytest

from tedloc.errors import UserError
from tedloc.metrics import compact, verdicts
from tedloc.metrics.meter import LocalizationMeter

GRID, IMAGES, CLASSES = 32, 40, 3


def meter(noise: float, seed: int, masks: bool = False, prefix: str = "test") -> LocalizationMeter:
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    low = fixed.integers(0, 10, (IMAGES, 2))
    high = low + fixed.integers(4, 21, (IMAGES, 2))
    maps, covered = noise * rng.random((IMAGES, GRID, GRID)), np.zeros((IMAGES, GRID, GRID), bool)
    for n in range(IMAGES):
        covered[n, low[n, 1] : high[n, 1] + 1, low[n, 0] : high[n, 0] + 1] = True
    boxes = [np.array([[*low[n], *high[n]]]) for n in range(IMAGES)]
    found, labels = LocalizationMeter(grid=GRID, step=0.01), np.arange(IMAGES) % CLASSES
    found.update(
        [f"{prefix}/{n:03d}" for n in range(IMAGES)],
        maps + 0.5 * covered,
        boxes,
        np.full((IMAGES, 2), GRID),
        labels,
        rng.random((IMAGES, CLASSES)) + 0.3 * np.eye(CLASSES)[labels],
        covered if masks else None,
    )
    return found


@pytest.fixture(scope="module")
def both():
    return {"test-g": meter(1.0, 1, masks=True), "test-pred": meter(3.0, 2), "val-g": meter(1.0, 3, prefix="val")}


def test_a_kept_meter_computes_the_same_but_what_needs_boxes_or_pixels(both):
    kept = compact.unpack(compact.pack(both))
    assert list(kept) == list(both)
    for name, whole in both.items():
        known, found = (
            each.compute(val=side["val-g"], fixed=0.3) for each, side in ((whole, both), (kept[name], kept))
        )
        missing = {key for key in known if key not in found}
        assert {key.partition(" (")[0] for key in missing} <= {"mean IoU", "PxAP"} and "mean IoU" in missing
        assert found == {key: known[key] for key in found}
        assert kept[name].images == whole.images
        assert kept[name].records.ids.tolist() == whole.records.ids.tolist()


def test_verdicts_on_kept_results_are_those_on_whole_ones(both):
    kept = compact.unpack(compact.pack(both))
    for metric in ("MaxBoxAcc@0.5", "Top-1 Loc", "Top-1 CL", "MaxBoxAccV2"):
        sides = [[{0: found["test-g"]}, {0: found["test-pred"]}] for found in (both, kept)]
        whole, small = (verdicts.difference(*pair, metric) for pair in sides)
        assert (whole.mean, whole.low, whole.high) == (small.mean, small.low, small.high)


def test_ground_truth_that_routes_share_is_kept_once(both):
    one = len(compact.pack({"test-g": both["test-g"]}))
    again = len(compact.pack({"test-g": both["test-g"], "test-again": both["test-g"]}))
    assert again - one < 0.5 * one


def test_a_run_on_600_images_takes_a_few_kilobytes():
    boxes = np.random.default_rng(0).integers(0, 100, (1000, 2))
    truth = np.concatenate([boxes, boxes + 100], axis=1)
    found = LocalizationMeter()
    levels = truth[:, None] + np.random.default_rng(1).integers(-20, 20, (1000, 255, 1)).cumsum(axis=1) // 8
    levels = np.sort(levels.clip(0, 223).reshape(1000, 255, 2, 2), axis=2).reshape(1000, 255, 4)
    found.update_boxes(
        [f"test/{n:04d}" for n in range(1000)], levels, list(truth[:, None]), np.full((1000, 2), 224), top=255
    )
    assert len(compact.pack({"test-g": found})) < 45_000  # even where maps are noise


def test_boxes_that_were_not_kept_are_refused_not_invented(both):
    (kept,) = compact.unpack(compact.pack({"test-g": both["test-g"]})).values()
    with pytest.raises(UserError, match="do not hold predicted boxes"):
        kept.per_image()


@pytest.mark.parametrize("data", [b"", b"no results", lzma.compress(b"nor these")])
def test_bytes_that_are_no_results_are_refused(data):
    with pytest.raises(UserError, match="no packed results"):
        compact.unpack(data)
