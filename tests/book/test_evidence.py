"""What the notebooks' verdicts rest on: paired differences, subsets, and when a difference counts."""

import numpy as np
import pytest

from tedloc import profiles
from tedloc.book import evidence, report
from tedloc.book.evidence import Difference
from tedloc.errors import UserError
from tedloc.metrics.meter import LocalizationMeter
from tedloc.runs import Run

GRID, IMAGES, CLASSES = 32, 24, 3


def meter(noise: float, seed: int, prefix: str = "image") -> LocalizationMeter:
    """Blobs that fill the ground-truth box, blurred by noise, on boxes of very different size."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    low = fixed.integers(0, 10, (IMAGES, 2))
    high = low + fixed.integers(4, 21, (IMAGES, 2))
    labels = np.arange(IMAGES) % CLASSES
    maps = noise * rng.random((IMAGES, GRID, GRID))
    for n in range(IMAGES):
        maps[n, low[n, 1] : high[n, 1] + 1, low[n, 0] : high[n, 0] + 1] += 0.5
    boxes = [np.concatenate([low[n], high[n]])[None] for n in range(IMAGES)]
    scores = rng.random((IMAGES, CLASSES)) + 0.3 / noise * np.eye(CLASSES)[labels]
    found = LocalizationMeter(grid=GRID, step=0.01)
    found.update([f"{prefix}{n:02d}" for n in range(IMAGES)], maps, boxes, np.full((IMAGES, 2), GRID), labels, scores)
    return found


@pytest.fixture(scope="module")
def good() -> list[LocalizationMeter]:
    return [meter(0.5, seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def bad() -> list[LocalizationMeter]:
    return [meter(3.0, seed) for seed in (4, 5, 6)]


@pytest.mark.parametrize("metric", ["MaxBoxAcc@0.5", "Top-1 Loc", "Top-1 CL"])
def test_a_difference_is_that_of_the_metrics_seed_by_seed(good, bad, metric):
    found = evidence.difference(good, bad, metric)
    by_seed = [one.compute()[metric] - other.compute()[metric] for one, other in zip(good, bad, strict=True)]
    assert found.seeds == pytest.approx(by_seed) and found.mean == pytest.approx(np.mean(by_seed))
    assert found.low <= found.mean <= found.high and found.low < found.high
    assert evidence.difference(bad, good, metric).mean == pytest.approx(-found.mean)


def test_a_method_without_seeds_is_compared_with_every_run(good, bad):
    found = evidence.difference(good, bad[:1])
    assert found.seeds == pytest.approx(
        [one.compute()["MaxBoxAcc@0.5"] - bad[0].compute()["MaxBoxAcc@0.5"] for one in good]
    )


def test_a_subset_is_scored_at_the_threshold_of_all_images(bad):
    small = evidence.object_shares(bad[0]) <= 0.2
    assert 0 < small.sum() < IMAGES
    for metric, column in (("MaxBoxAcc@0.5", "correct@0.5"), ("Top-1 Loc", "Top-1 Loc")):
        expected = [
            100 * each.per_image()[column][small].mean() for each in bad
        ]  # per_image: at the oracle of all images
        assert evidence.values(bad, metric, subset=small) == pytest.approx(expected)


def test_a_carried_threshold_is_that_of_the_validation_meter(good, bad):
    expected = [one.compute(val=other)["MaxBoxAcc@0.5 (val threshold)"] for one, other in zip(good, bad, strict=True)]
    assert evidence.values(good, "MaxBoxAcc@0.5 (val threshold)", val=bad) == pytest.approx(expected)
    everything = np.ones(IMAGES, bool)
    assert evidence.values(good, "MaxBoxAcc@0.5 (val threshold)", val=bad, subset=everything) == pytest.approx(expected)


def test_equal_results_differ_by_nothing(good):
    assert evidence.difference(good, good) == Difference(0.0, 0.0, 0.0, (0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    "difference, sign",
    [
        (Difference(2.0, 0.5, 3.5, (1.0, 3.0)), 1),
        (Difference(-2.0, -3.5, -0.5, (-1.0, -3.0)), -1),
        (Difference(2.0, 0.5, 3.5, (4.1, -0.1)), 0),  # one seed disagrees
        (Difference(2.0, -0.5, 4.5, (1.0, 3.0)), 0),  # other images might
        (Difference(0.0, 0.0, 0.0, (0.0,)), 0),
    ],
)
def test_a_difference_counts_only_when_images_and_seeds_agree(difference, sign):
    assert difference.sign() == sign
    assert evidence.judge("a claim", difference).holds is {1: True, -1: False, 0: None}[sign]
    assert evidence.judge("a claim", difference, decidable=False).holds is None


def test_results_that_do_not_belong_together_are_refused(good, bad):
    with pytest.raises(UserError, match="3 runs cannot be paired with 2"):
        evidence.difference(good, bad[:2])
    with pytest.raises(UserError, match="same images"):
        evidence.difference(good[:1], [meter(0.5, 1, prefix="photo")])


def test_object_shares_are_box_areas_over_the_image():
    found = LocalizationMeter(grid=10)
    boxes = [np.array([[0, 0, 9, 9]]), np.array([[0, 0, 2, 2], [2, 2, 6, 5]])]
    found.update_boxes(["a", "b"], np.zeros((2, 4)), boxes, np.full((2, 2), 10))
    assert evidence.object_shares(found) == pytest.approx([1.0, 0.2])


def test_an_order_holds_only_when_every_pair_shows_it(good, bad):
    found = {"good": good, "bad": bad, "same": bad}
    assert evidence.judge_order("c", {"good": 2, "bad": 1}, found).holds is True
    assert evidence.judge_order("c", {"good": 1, "bad": 2}, found).holds is False
    undecided = evidence.judge_order("c", {"good": 3, "bad": 2, "same": 1}, found)
    assert undecided.holds is None and "2 of 3 pairs" in undecided.evidence and "bad / same" in undecided.evidence
    assert evidence.judge_order("c", {"good": 2, "bad": 1}, found, decidable=False).holds is None


def test_the_best_must_beat_every_other_clearly(good, bad):
    assert evidence.judge_best("c", good, {"bad": bad}).holds is True
    lost = evidence.judge_best("c", bad, {"good": good, "same": bad})
    assert lost.holds is False and "the closest or best is good" in lost.evidence
    assert evidence.judge_best("c", good, {"bad": bad, "same": good}).holds is None
    assert evidence.judge_best("c", good, {"bad": bad}, decidable=False).holds is None


def test_lines_by_image_stand_in_the_order_asked_for(good):
    ids = ["image03", "image00", "image11"]
    found = evidence.by_image(good[0], ids)
    assert list(found.index) == ids
    assert found["iou"].tolist() == [good[0].per_image().set_index("id")["iou"][name] for name in ids]


def test_only_where_numbers_mean_nothing_a_word_of_caution_stands():
    smoke, aviary = profiles.get("smoke"), profiles.get("aviary")
    assert evidence.caution(aviary) == "" and "decides nothing" in evidence.caution(smoke)
    assert evidence.checked(aviary, "Table 2") == "Claims of Table 2, checked in this profile."
    assert "decides nothing" in evidence.checked(smoke, "Table 2")


def test_what_runs_were_measured_on_is_read_from_them_unless_it_is_said_otherwise(small_run):
    run = Run(small_run)
    on = evidence.measured_on(profiles.get("smoke"), [run, run], threshold="oracle on test", split="val")
    assert on["seeds"] == [0, 0] and on["num_images"] == run.metrics["provenance"]["num_images"]
    assert on["split"] == "val" and "threshold: oracle on test" in report.badge(on)
    with pytest.raises(UserError, match="colour"):
        evidence.measured_on(profiles.get("smoke"), [run], colour="blue")
