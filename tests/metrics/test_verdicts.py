"""The rule by which claims are judged: exact where it can be, and seldom wrong where the truth is known."""

import math

import numpy as np
import pytest

from tedloc.book import simulated
from tedloc.errors import UserError
from tedloc.metrics import verdicts
from tedloc.metrics.meter import LocalizationMeter
from tedloc.metrics.verdicts import Difference

IMAGES, GRID = 60, 32


def meter(right: float, world: int = 0, seed: int = 0, prefix: str = "image") -> LocalizationMeter:
    """Boxes of which a share is right, on ground truth that is the world's."""
    rng = np.random.default_rng([world, seed])
    low = np.random.default_rng(world).integers(0, 20, (IMAGES, 2))
    truth = np.concatenate([low, low + 11], axis=1)
    found = LocalizationMeter(grid=GRID)
    predicted = np.where(rng.random((IMAGES, 1)) < right, truth, [[0, 0, 1, 1]])
    ids = [f"{prefix}{n:02d}" for n in range(IMAGES)]
    found.update_boxes(ids, predicted, list(truth[:, None]), np.full((IMAGES, 2), GRID))
    return found


def side(right: float, worlds=(1, 2, 3, 4, 5), seed: int = 0) -> dict[int, LocalizationMeter]:
    return {world: meter(right, world, seed) for world in worlds}


@pytest.mark.parametrize("sd", simulated.SPREADS)
def test_where_nothing_differs_at_most_five_percent_of_verdicts_are_wrong(sd):
    wrong = sum(simulated.shares(simulated.of_rule(0, sd, 600)))
    assert wrong <= 5 + 1.65 * 100 * math.sqrt(0.05 * 0.95 / 600)  # as many as a rate of 5 % gives 19 times of 20


def test_where_worlds_share_their_images_no_more_are_wrong():
    wrong = sum(simulated.shares(simulated.of_rule(0, 1.0, 300, shared=True)))
    assert wrong <= 5 + 1.65 * 100 * math.sqrt(0.05 * 0.95 / 300)


def test_large_differences_are_found_and_never_turned_round():
    (found, turned), (rarely, _) = (simulated.shares(simulated.of_rule(truth, 2.0, 200)) for truth in (10, 1))
    assert found > 99 and turned == 0 and rarely < 30


def test_the_first_editions_rule_was_wrong_more_often():
    found = simulated.of_first_edition(0, 4.0, 600, one_world=True)
    assert sum(found) > 20


def test_a_difference_is_that_of_the_metrics_world_by_world():
    ours, theirs = side(0.9), side(0.6, seed=1)
    found = verdicts.difference(ours, theirs)
    expected = {w: ours[w].compute()["MaxBoxAcc@0.5"] - theirs[w].compute()["MaxBoxAcc@0.5"] for w in ours}
    assert found.worlds == pytest.approx(expected) and found.mean == pytest.approx(np.mean(list(expected.values())))
    assert found.low < found.mean < found.high and found.p < 0.05
    opposite = verdicts.difference(theirs, ours)
    assert (opposite.mean, opposite.low) == pytest.approx((-found.mean, -found.high), abs=1.0)


def test_the_interval_covers_students_t_and_p_is_not_below_its():
    points = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    narrow = np.repeat(points[:, None], 100, axis=1)  # images say nothing
    mean, low, high, p = verdicts.judged(points, narrow)
    reach = 2.7764451 * points.std(ddof=1) / math.sqrt(5)
    assert mean == 4 and low == pytest.approx(min(low, mean - reach)) and high >= mean + reach - 1e-6
    assert p >= 1 - verdicts.t_within(mean / (points.std(ddof=1) / math.sqrt(5)), 4)


def test_worlds_that_agree_by_chance_are_not_believed_against_their_images():
    points = np.full(5, 1.0)
    wide = 1 + 8 * np.random.default_rng(0).standard_normal((5, 1000))
    _, low, high, p = verdicts.judged(points, wide)
    assert low < 0 < high and p > 0.05


def test_shared_images_widen_the_interval():
    points = np.array([1.0, 1.2, 0.8, 1.1, 0.9])
    drawn = points[:, None] + np.random.default_rng(0).standard_normal(1000)
    own, shared = verdicts.judged(points, drawn), verdicts.judged(points, drawn, shared=True)
    assert shared[1] < own[1] and shared[2] > own[2]
    photos = {world: meter(0.8, 0, world) for world in (1, 2, 3)}
    assert len({each.images for each in photos.values()}) == 1 and verdicts._shared(photos)
    assert not verdicts._shared(side(0.8))


def test_students_t_is_that_of_the_tables():
    for freedom, t in ((1, 12.7062), (2, 4.30265), (4, 2.77645), (7, 2.36462), (30, 2.04227)):
        assert verdicts.t_quantile(0.95, freedom) == pytest.approx(t, abs=1e-4)
        assert verdicts.t_within(t, freedom) == pytest.approx(0.95, abs=1e-6)


def test_holms_correction_is_that_of_his_example():
    assert verdicts.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert verdicts.holm([0.01, math.nan, 0.2])[::2] == pytest.approx([0.02, 0.2])
    assert math.isnan(verdicts.holm([0.01, math.nan])[1]) and verdicts.holm([0.9, 0.8]) == [1.0, 1.0]


def clear(mean: float, p: float) -> Difference:
    return Difference(mean, mean - 1, mean + 1, p, {1: mean, 2: mean})


@pytest.mark.parametrize(
    "differences, holds",
    [
        ([clear(2, 0.01)], True),
        ([clear(-2, 0.01)], False),
        ([clear(2, 0.06)], None),
        ([clear(2, 0.01), clear(3, 0.04)], True),
        ([clear(2, 0.01), clear(3, 0.06)], None),
        ([clear(2, 0.01), clear(-3, 0.02)], False),
        ([clear(2, 0.01), clear(-3, 0.03)], None),  # Bonferroni over the two
        ([clear(0, 1.0)], None),
        ([Difference(9, 8, 10, math.nan, {0: 9})], None),  # one world
        ([], None),
    ],
)
def test_a_claim_holds_when_all_its_differences_are_positive(differences, holds):
    ((found, _),) = verdicts.decide([differences])
    assert found is holds


def test_claims_of_a_chapter_are_corrected_together():
    alone = verdicts.decide([[clear(2, 0.03)]])
    among = verdicts.decide([[clear(2, 0.03)], [clear(1, 0.5)], [Difference(1, 0, 2, math.nan, {0: 1})]])
    assert alone == [(True, 0.03)] and among[0] == (None, 0.06) and among[2][0] is None


def test_one_world_gives_an_interval_over_its_images_and_no_p():
    found = verdicts.difference({0: meter(0.9)}, {0: meter(0.5, seed=1)})
    assert math.isnan(found.p) and found.low < found.mean < found.high


def test_sides_that_do_not_belong_together_are_refused():
    with pytest.raises(UserError, match="same worlds on both sides, not 1, 2 and 1, 2, 3"):
        verdicts.difference(side(0.9, (1, 2)), side(0.5, (1, 2, 3)))
    with pytest.raises(UserError, match="in world 1 these hold different ones"):
        verdicts.difference({1: meter(0.9, 1)}, {1: meter(0.9, 2)})
    with pytest.raises(UserError, match="in world 1"):
        verdicts.difference({1: meter(0.9, 1)}, {1: meter(0.9, 1, prefix="photo")})
    with pytest.raises(UserError, match="no world was computed"):
        verdicts.difference({}, {})


def test_equal_results_differ_by_nothing():
    found = verdicts.difference(side(0.8), side(0.8))
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_subset_that_a_resample_misses_is_no_gap_in_the_interval():
    ours, theirs = side(0.9, (1, 2)), side(0.5, (1, 2), seed=1)
    two = {world: np.arange(IMAGES) < 2 for world in ours}
    found = verdicts.difference(ours, theirs, subset=two)
    assert np.isfinite([found.mean, found.low, found.high]).all()
    with pytest.raises(UserError, match="no image of world 1"):
        verdicts.difference(ours, theirs, subset={world: np.zeros(IMAGES, bool) for world in ours})
