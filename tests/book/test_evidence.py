"""What the notebooks' verdicts rest on: sides, subsets, and claims from the file that are decided together."""

from types import SimpleNamespace

import numpy as np
import pytest

from tedloc import paper, profiles
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
def good() -> dict[int, LocalizationMeter]:
    return {world: meter(0.5, world) for world in (1, 2, 3, 4, 5)}


@pytest.fixture(scope="module")
def bad() -> dict[int, LocalizationMeter]:
    return {world: meter(3.0, 10 + world) for world in (1, 2, 3, 4, 5)}


AVIARY = profiles.get("aviary")


def shown(*judged: evidence.Judged, profile=AVIARY) -> list[dict]:
    """The verdicts on these claims as the executed notebook carries them."""
    return evidence.verdicts(profile, judged).data[report.VERDICTS]


def test_a_subset_is_scored_at_the_threshold_of_all_images(bad):
    small = evidence.object_shares(bad[1]) <= 0.2
    assert 0 < small.sum() < IMAGES
    for metric, column in (("MaxBoxAcc@0.5", "correct@0.5"), ("Top-1 Loc", "Top-1 Loc")):
        expected = [
            100 * each.per_image()[column][small].mean() for each in bad.values()
        ]  # per_image: at the oracle of all images
        assert evidence.values(bad, metric, subset=dict.fromkeys(bad, small)) == pytest.approx(expected)


def test_a_carried_threshold_is_that_of_the_validation_meter(good, bad):
    expected = [good[world].compute(val=bad[world])["MaxBoxAcc@0.5 (val threshold)"] for world in good]
    assert evidence.values(good, "MaxBoxAcc@0.5 (val threshold)", val=bad) == pytest.approx(expected)
    everything = dict.fromkeys(good, np.ones(IMAGES, bool))
    assert evidence.values(good, "MaxBoxAcc@0.5 (val threshold)", val=bad, subset=everything) == pytest.approx(expected)


def test_a_claim_is_taken_from_the_file_and_shown_with_its_source_and_what_it_is_about(good, bad):
    (told,) = shown(evidence.judge("over-cam", evidence.difference(good, bad), "MaxBoxAcc: "))
    assert told["id"] == "over-cam" and told["holds"] is True
    assert told["about"] == "aviary, synthetic images; 5 worlds (1, 2, 3, 4, 5)"
    assert told["evidence"].startswith("MaxBoxAcc: +") and "by seed" in told["evidence"] and "; p " in told["evidence"]
    page = evidence.verdicts(AVIARY, [evidence.judge("over-cam", evidence.difference(good, bad))]).to_markdown()
    assert paper.claim("over-cam").text in page and paper.OWN in page
    with pytest.raises(UserError, match="claim"):
        evidence.judge("a claim of the notebook's own", evidence.difference(good, bad))


def test_the_claims_of_a_chapter_are_decided_together_and_no_others(good, bad):
    close = Difference(2.0, 0.1, 3.9, 0.04, dict.fromkeys((1, 2, 3, 4, 5), 2.0))
    (alone,) = shown(evidence.judge("over-cam", close))
    both = shown(evidence.judge("over-cam", close), evidence.judge("over-centre", close))
    assert alone["holds"] is True and [each["holds"] for each in both] == [None, None]
    assert "p = 0.080, corrected for 2 claims" in both[0]["evidence"]
    for wrong in (("over-cam", "adding-p-cl"), ("over-cam", "over-cam")):
        with pytest.raises(UserError, match="claims of one chapter, each once"):
            shown(*(evidence.judge(name, close) for name in wrong))


def test_one_world_decides_nothing_and_says_so(good, bad):
    (told,) = shown(evidence.judge("over-cam", evidence.difference({0: good[1]}, {0: bad[1]})))
    assert told["holds"] is None and "1 world (0)" in told["about"]
    assert "over the images of seed 0 alone, which decides nothing of others" in told["evidence"]
    assert "p " not in told["evidence"].partition("others")[2]


def test_the_smoke_profile_decides_nothing_that_images_must_decide(good, bad):
    smoke = profiles.get("smoke")
    judged = evidence.judge("over-cam", evidence.difference(good, bad))
    assert shown(judged, profile=smoke)[0]["holds"] is None
    assert "decides nothing" in evidence.verdicts(smoke, [judged]).to_markdown()
    assert shown(evidence.counted("ts-cam-cheaper", True, "fewer"), profile=smoke)[0]["holds"] is True


def test_what_is_counted_depends_on_no_images_and_what_needs_images_cannot_be_counted():
    (told,) = shown(evidence.counted("ts-cam-cheaper", np.False_, "more"))
    assert told["holds"] is False and told["about"].startswith("no images")
    with pytest.raises(UserError, match="decided by images"):
        evidence.counted("over-cam", True, "by hand")
    (lacking,) = shown(evidence.undecided("over-clip", "needs weights"))
    assert lacking["holds"] is None and lacking["evidence"] == "needs weights" and "not tested" in lacking["about"]


def test_object_shares_are_box_areas_over_the_image():
    found = LocalizationMeter(grid=10)
    boxes = [np.array([[0, 0, 9, 9]]), np.array([[0, 0, 2, 2], [2, 2, 6, 5]])]
    found.update_boxes(["a", "b"], np.zeros((2, 4)), boxes, np.full((2, 2), 10))
    assert evidence.object_shares(found) == pytest.approx([1.0, 0.2])


def holds(judged: evidence.Judged) -> bool | None:
    return shown(judged)[0]["holds"]


def test_an_order_holds_only_when_every_pair_shows_it(good, bad):
    found = {"good": good, "bad": bad, "same": bad}
    assert holds(evidence.judge_order("better-labels-maps", {"good": 2, "bad": 1}, found)) is True
    assert holds(evidence.judge_order("better-labels-maps", {"good": 1, "bad": 2}, found)) is False
    undecided = evidence.judge_order("better-labels-maps", {"good": 3, "bad": 2, "same": 1}, found)
    assert holds(undecided) is None and "2 of 3 pairs" in undecided.evidence and "bad / same" in undecided.evidence


def test_the_best_must_beat_every_other_clearly(good, bad):
    assert holds(evidence.judge_best("best-maxboxacc", good, {"bad": bad})) is True
    lost = evidence.judge_best("best-maxboxacc", bad, {"good": good, "same": bad})
    assert holds(lost) is False and "of 2 the least is the difference from good" in lost.evidence
    assert holds(evidence.judge_best("best-maxboxacc", good, {"bad": bad, "same": good})) is None


def test_lines_by_image_stand_in_the_order_asked_for(good):
    ids = ["image03", "image00", "image11"]
    found = evidence.by_image(good[1], ids)
    assert list(found.index) == ids
    assert found["iou"].tolist() == [good[1].per_image().set_index("id")["iou"][name] for name in ids]


def test_what_runs_were_measured_on_is_read_from_them_unless_it_is_said_otherwise(small_run):
    run = Run(small_run)
    on = evidence.measured_on(profiles.get("smoke"), [run, run], threshold="oracle on test", split="val")
    assert on["seeds"] == [0, 0] and on["num_images"] == run.metrics["provenance"]["num_images"]
    assert on["split"] == "val" and "threshold: oracle on test" in report.badge(on)
    with pytest.raises(UserError, match="colour"):
        evidence.measured_on(profiles.get("smoke"), [run], colour="blue")


def test_runs_of_one_variant_are_a_side_by_their_seed(small_run):
    run = Run(small_run)
    assert list(evidence.meters([run])) == [run.metrics["provenance"]["seed"]]
    with pytest.raises(UserError, match="same seed"):
        evidence.meters([run, run])


def test_variants_are_compared_in_worlds_that_all_have_and_not_in_the_first_unless_it_is_all(monkeypatch):
    monkeypatch.setattr(evidence, "meter", lambda run, route, split: route)
    every, few, first = (
        [SimpleNamespace(metrics={"provenance": {"seed": world}}) for world in worlds]
        for worlds in ((0, 1, 2, 3), (0, 2, 3), (0,))
    )
    assert evidence.paired(AVIARY, (every, "g")) == [{1: "g", 2: "g", 3: "g"}]
    assert evidence.paired(AVIARY, (every, "g"), (few, None)) == [{2: "g", 3: "g"}, {2: None, 3: None}]
    assert evidence.paired(AVIARY, (every, "g"), (first, "true")) == [{0: "g"}, {0: "true"}]
    photos = profiles.get("imagenette-small")  # no worlds are drawn: the first seed is as good as the others
    assert [list(side) for side in evidence.paired(photos, (few[:2], "g"), (few[:2], "g"))] == [[0, 2]] * 2
