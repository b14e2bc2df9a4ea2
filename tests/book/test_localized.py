"""A run's pictures hold its own boxes and maps, image by image."""

import numpy as np
import pytest

from tedloc import profiles
from tedloc.book import localized
from tedloc.data import open_data
from tedloc.metrics import boxes
from tedloc.runs import Run


@pytest.fixture(scope="module")
def run(small_run) -> Run:
    return Run(small_run)


@pytest.fixture(scope="module")
def shown(run) -> localized.Localized:
    return localized.Localized(run, "g", open_data(profiles.get("smoke").data, "test"), 224)


def test_each_image_has_its_own_result(run, shown):
    lines = run.per_image("g").set_index("id")
    for image in (0, 7, len(shown.images) - 1):
        line = lines.loc[shown.images.ids[image]]
        assert shown.iou(image) == pytest.approx(line["iou"]) and shown.right(image) == (line["rank"] == 1)


def test_kept_images_are_chosen_from_the_best_to_the_worst(shown):
    chosen = shown.by_iou(4)
    overlaps = [shown.iou(image) for image in chosen]
    every = [shown.iou(image) for image in shown.kept]
    assert set(chosen) <= set(shown.kept) and overlaps == sorted(overlaps, reverse=True)
    assert overlaps[0] == max(every) and overlaps[-1] == min(every)


def test_a_panel_shows_the_image_with_its_map_and_the_box_that_was_scored(run, shown):
    position, image = 3, int(shown.kept[3])
    panel = shown.panel(image)
    assert np.array_equal(panel["image"], shown.images.image(image)) and panel["title"] == f"IoU {shown.iou(image):.2f}"
    assert np.array_equal(panel["score_map"], boxes.to_grid(run.maps()["g"][position], 224))
    scored = run.per_image("g").set_index("id").loc[shown.images.ids[image], ["x0", "y0", "x1", "y1"]]
    assert panel["predicted_box"].tolist() == pytest.approx(scored.tolist())
    assert shown.panel(image, "")["title"] == ""
