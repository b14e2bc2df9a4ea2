"""Examples are chosen by rule, and those that explain the measure are what they say."""

import numpy as np
import pytest

from tedloc.book import examples
from tedloc.data import open_split
from tedloc.metrics import LocalizationMeter


def test_even_ranks_go_from_the_highest_value_to_the_lowest_and_equal_ones_keep_their_order():
    values = [0.2, 0.9, 0.5, 0.9, 0.0]
    assert examples.by_rank(values, 5).tolist() == [1, 3, 2, 0, 4]
    assert examples.by_rank(values, 3).tolist() == [1, 2, 4]
    assert examples.by_rank(values, 9).tolist() == examples.by_rank(values, 5).tolist()
    assert examples.by_rank(values, 1).tolist() == [1]


def test_the_median_leaves_out_what_is_undefined():
    assert examples.median([0.3, np.nan, 0.1, 0.2]) == 3 and examples.median([4.0, 1.0, 3.0, 2.0]) == 2


@pytest.mark.parametrize("length, count", [(10, 4), (4, 10), (60, 6), (7, 7)])
def test_positions_in_a_list_are_even_without_doubles_and_reach_both_ends(length, count):
    found = examples.evenly(length, count)
    assert found[0] == 0 and found[-1] == length - 1 and len(set(found)) == len(found) == min(count, length)
    assert np.ptp(np.diff(found)) <= 1


def test_made_up_maps_like_the_crown_best_and_are_the_same_every_time():
    images = open_split("aviary", "val", per_class=1)
    for index in range(4):
        made = examples.flawed_map(images, index)
        assert made.shape == (40, 40) and np.array_equal(made, examples.flawed_map(images, index))
        bird = images.mask(index)[::2, ::2]
        crown = images.part(index, "crown")[::2, ::2]
        assert made[crown].mean() > made[bird].mean() > made[~bird].mean()


def test_a_threshold_for_each_image_scores_at_least_as_much_as_one_for_all():
    maps, grid = np.zeros((2, 8, 8)), 8
    maps[0, 2:6, 2:6], maps[0, 3, 3] = 0.3, 1.0  # right below 0.3 of its maximum
    maps[1, :, :7], maps[1, 2:6, 2:6] = 0.6, 1.0  # right from 0.6 on
    meter = LocalizationMeter(grid=grid)
    meter.update(["a", "b"], maps, [np.array([[2, 2, 5, 5]])] * 2, np.full((2, 2), grid))
    assert examples.two_searches(meter, 0.01) == (50.0, 100.0)


@pytest.mark.parametrize("side", [1, 3, 20])
def test_a_perfect_mask_is_scored_as_the_chapter_says(side):
    assert examples.perfect_square(side) == pytest.approx(side**2 / (side + 1) ** 2)
