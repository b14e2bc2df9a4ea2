"""Real photos: which runs stand behind the question; a difference is of TeD-Loc and the teacher that taught it."""

import dataclasses
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tedloc import paths, profiles
from tedloc.book import compared, evidence, real_photos
from tedloc.metrics.meter import LocalizationMeter
from tedloc.runs import kept

PHOTOS = profiles.get("imagenette-small")
IDS = [f"{wnid}/{n}.JPEG" for wnid in ("n01440764", "n02086240") for n in range(20)]


def meter(right: int) -> LocalizationMeter:
    """Of 40 photos of two classes so many boxes are right; every other object fills the photo."""
    found = LocalizationMeter(grid=32)
    boxes = [np.array([[0, 0, 31, 31]] if n % 2 else [[4, 4, 11, 11]]) for n in range(40)]
    predicted = np.array([box[0] if n < right else [30, 0, 31, 1] for n, box in enumerate(boxes)])
    scores = np.eye(2)[np.repeat([0, 1], 20)]
    found.update_boxes(IDS, predicted, boxes, np.full((40, 2), 32), np.repeat([0, 1], 20), scores=scores)
    return found


@pytest.fixture
def collected(monkeypatch):
    """Variants and their runs: TeD-Loc has 30 to 32 photos right, its teacher 20."""
    monkeypatch.setattr(evidence, "meter", lambda run, route=None, split="test": meter(run.right))
    variants = real_photos.variants(PHOTOS)
    asked = real_photos.requests(variants)
    run = lambda request, right: SimpleNamespace(right=right, metrics={"provenance": {"seed": request.seed}})  # noqa: E731
    found = {
        name: [run(each, 20 if name.endswith("teacher") else 30 + each.seed) for each in some]
        for name, some in asked.items()
    }
    return variants, found


def test_every_group_but_the_encoders_holds_the_profile_itself_once():
    variants = real_photos.variants(PHOTOS)
    groups = list(dict.fromkeys(each.group for each in variants))
    assert len(groups) == 5 and [each.group for each in variants if each.own] == groups[:4]
    own = [each.requests for each in variants if each.own]
    assert all(requests == own[0] for requests in own)
    assert all(len(each.requests) == len(PHOTOS.seeds) for each in variants)


def test_what_is_varied_differs_from_the_profile_in_one_setting():
    for each in real_photos.variants(PHOTOS):
        changed = kept.changes(dataclasses.replace(each.requests[0], routes=()))
        changed = {
            name: value for name, value in changed.items() if not name.startswith("methods.")
        }  # the teacher's own
        changed.pop("data.per_class", None) if each.group.startswith("encoder") else None
        assert len(changed) == (0 if each.own or each.label == "EfficientNet-Lite0" else 1), (each.name, changed)


def test_a_difference_is_of_tedloc_and_the_teacher_that_taught_it(collected):
    variants, found = collected
    table, gaps = real_photos.against_teachers(variants, found)
    assert len(table) == len(variants) and len(gaps) == len(variants)
    for gap in gaps.values():
        assert gap.worlds == {0: 25.0, 1: 27.5, 2: 30.0}
    own = table.loc["teacher: CAM of the ImageNet classifier"]
    assert own["teacher"] == "50.0" and own["TeD-Loc"].startswith("77.5 ± 2.5")
    figure = real_photos.figure(variants, gaps)
    assert len(figure.axes) == 5
    plt.close(figure)


def test_what_is_neither_kept_nor_can_be_computed_is_left_out_and_named(monkeypatch):
    variants = real_photos.variants(PHOTOS)
    monkeypatch.setattr(real_photos, "at_hand", lambda data: False)
    first, second, *_ = variants
    stored = {*first.requests, *first.teachers, *second.requests, *second.teachers}
    monkeypatch.setattr(real_photos.kept, "holds", lambda asked: asked in stored)
    able, others = real_photos.to_be_had(variants)
    assert able == [first, second] and others == variants[2:]  # the profile is kept, but alone in its other groups
    monkeypatch.setattr(real_photos, "at_hand", lambda data: True)
    assert real_photos.to_be_had(variants) == (variants, [])


def test_parts_of_the_photos_are_of_their_classes_or_of_small_objects():
    parts = real_photos.subsets({0: meter(40)}, {"fish": ["n01440764"], "dogs": ["n02086240"]})
    assert [int(part[0].sum()) for part in parts.values()] == [20, 20, 20]
    assert not (parts["fish"][0] & parts["dogs"][0]).any()


def test_boxes_that_see_no_photo_are_read_where_the_photos_are_not(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "EVIDENCE", tmp_path)
    names = ("centre", "full", "gaussian")
    monkeypatch.setattr(compared, "at_hand", lambda data: True)
    monkeypatch.setenv(kept.MAKING, "make")
    photos = dataclasses.replace(profiles.get("smoke"), synthetic=False)  # drawn, and taken for photos
    made = compared.unseeing(photos, names)
    monkeypatch.delenv(kept.MAKING)
    monkeypatch.setattr(compared, "at_hand", lambda data: False)
    monkeypatch.setattr(compared, "open_data", None)
    read = compared.unseeing(photos, names)
    assert list(read) == list(names) and read["full"][1] is None
    for name in names:
        for mine, theirs in zip(made[name], read[name], strict=True):
            assert mine is theirs is None or mine.compute()[evidence.HALF] == theirs.compute()[evidence.HALF]
