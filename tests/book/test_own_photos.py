"""The report on photos of one's own: with boxes, with some, without any."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tedloc import predict, runs, train, tune
from tedloc.book import own_photos
from tedloc.data import SPLITS, describe, example, open_data
from tedloc.errors import UserError
from tedloc.settings import override


class Report:
    """What the notebook has at hand: a run and its teacher's on a folder of drawn birds, trained for three steps."""

    def __init__(self, root: Path | None = None):
        profile = own_photos.profile("smoke")
        self.profile = override(profile, {"data.root": str(root)}) if root else profile
        request = runs.Request(self.profile, device="cpu")
        self.run, self.teacher = runs.collect([request, request.teacher()], jobs=1)
        self.splits = {split: open_data(self.profile.data, split) for split in SPLITS}
        self.images = self.splits["test"]
        self.story = describe.describe(self.splits)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    with pytest.MonkeyPatch.context() as environment:
        for name in ("RUNS", "CACHE"):
            environment.setenv(f"TEDLOC_{name}", str(tmp_path_factory.mktemp(name.lower())))
        yield environment


@pytest.fixture(scope="module")
def full(places):
    return Report()


@pytest.fixture(scope="module")
def bare(places, tmp_path_factory):
    """The same pictures without boxes."""
    root = tmp_path_factory.mktemp("bare") / "photos"
    example.write(root, 6)
    (root / "boxes.json").unlink()
    return Report(root)


def test_the_example_is_drawn_once_and_needs_no_weights(full):
    first = own_photos.profile("smoke")
    made = Path(first.data.root).stat().st_mtime_ns
    assert own_photos.profile("smoke") == first and Path(first.data.root).stat().st_mtime_ns == made
    assert first.synthetic and first.encoder.name == "aviary/cnn" and first.name == "smoke"
    assert len(full.images.class_names) == len(example.SPECIES)


def test_a_folder_of_ones_own_is_trained_on_under_its_profile(tmp_path):
    found = own_photos.profile("smoke", str(tmp_path), {"encoder.image_size": 224})
    assert (found.name, found.data.root, found.synthetic) == ("photos", str(tmp_path), False)
    assert found.encoder.name == "efficientnet-lite0" and found.encoder.image_size == 224


def test_the_table_stands_the_run_beside_its_teacher_and_boxes_that_look_at_nothing(full):
    table = own_photos.scores(full.run, full.teacher, full.profile)
    assert list(table.index) == ["TeD-Loc", "its teacher", "full-image box", "centred box", "centred Gaussian"]
    assert table.loc["TeD-Loc", "MaxBoxAcc"] == full.run["MaxBoxAcc@0.5"]
    assert table.loc["its teacher", "Top-1 CL"] == full.teacher.metrics["Top-1 CL"]
    assert np.isnan(table.loc["full-image box", "Top-1 CL"]) and "to" in table.loc["TeD-Loc", "95 % interval"]


def test_without_boxes_classes_alone_are_scored_and_that_is_said(bare, capsys):
    table = own_photos.scores(bare.run, bare.teacher, bare.profile)
    assert list(table.columns) == ["Top-1 CL"] and list(table.index) == ["TeD-Loc", "its teacher"]
    assert bare.run.metrics["centre box"] == {} and bare.run.metrics["without boxes"] == ["val", "test"]
    assert not any("Loc" in name or "Box" in name or "IoU" in name for name in bare.run.metrics)
    assert list(bare.run.per_image().columns) == ["id", "label", "predicted", "rank"]
    said = train.routes_table(bare.run.metrics)
    assert "no boxes in test: localization is not scored" in said and "no boxes in val: no threshold is carried" in said
    assert said.splitlines()[1].split()[2:5] == ["-", "-", "-"]


def test_without_boxes_answers_are_cut_at_half_and_say_so(bare):
    localizer = predict.load(bare.run.folder)
    said = predict.about(localizer)
    assert said["threshold"] == 0.5 and said["threshold from"] == "no box chose it: half of the map's maximum"
    assert localizer(bare.images.image(0)).box is not None
    with pytest.raises(UserError, match="the validation split has no boxes, so nothing says which settings are better"):
        tune.search(bare.profile, "tedloc", 1, device="cpu")


def test_classes_are_listed_with_what_they_are_taken_for(full, bare):
    for report in (full, bare):
        table = own_photos.by_class(report.run.meter(), report.images.class_names)
        assert table["test photos"].sum() == len(report.images) and table["class right (%)"].is_monotonic_increasing
        wrong = table["class right (%)"] < 100
        assert set(table.loc[wrong, "taken for"]) <= set(report.images.class_names)
        right = (table["class right (%)"] * table["test photos"]).sum() / len(report.images)
        assert right == pytest.approx(report.run["Top-1 CL"])


def test_examples_go_from_the_best_to_the_worst_and_the_worst_are_the_worst(full):
    overlap, localizer = full.run.per_image().set_index("id")["iou"], predict.load(full.run.folder)
    shown, panels = own_photos.examples_by_rule(full.run, full.teacher, full.images, localizer)
    values = [overlap[full.images.ids[i]] for i in shown]
    assert values == sorted(values, reverse=True) and len(shown) == 5 and {len(row) for row in panels} == {2}
    assert panels[0][0]["title"] == f"IoU {values[0]:.2f}" and panels[0][1]["score_map"].shape == (224, 224)
    worst = own_photos.worst(full.run, full.images, localizer, count=2)
    lowest = overlap[full.images.ids].argsort(kind="stable")[:2]
    for each, index in zip(worst, lowest, strict=True):
        assert np.array_equal(each["image"], full.images.image(index))


def test_without_boxes_there_are_pictures_all_the_same(bare):
    localizer = predict.load(bare.run.folder)
    shown, panels = own_photos.examples_by_rule(bare.run, bare.teacher, bare.images, localizer, 3)
    assert len(shown) == 3 and {len(row) for row in panels} == {1} and panels[0][0]["predicted_box"]
    assert len(own_photos.worst(bare.run, bare.images, localizer)) == len(bare.images)
    assert own_photos.mean_box(bare.images, 224) is None and own_photos.mean_map(bare.run).max() <= 1


def test_mean_boxes_count_each_photo_once(full):
    mean = own_photos.mean_box(full.images, 224)
    x0, y0, x1, y1 = full.images.boxes[0][0] * 224 // 80
    assert 0 < mean.max() <= 1 and mean[y0 : y1 + 1, x0 : x1 + 1].min() >= 1 / len(full.images) - 1e-9


def test_refusals_grow_with_the_bound(full):
    localizer = predict.load(full.run.folder)
    table = own_photos.refusals(localizer, full.images, example.without_bird(5))
    assert list(table.columns) == ["test photos refused (%)", "no object refused (%)"]
    assert all(table[name].is_monotonic_increasing for name in table)
    assert list(own_photos.refusals(localizer, full.images).columns) == ["test photos refused (%)"]


def test_advice_names_what_is_wrong_with_this_folder(full, bare):
    said = "\n".join(own_photos.advice(full.story, full.run, full.profile))
    assert "The threshold rests on 5 boxes of val" in said and "5 classes have fewer than 10 training photos" in said
    assert "--checkpoint" in said and "FOLDER" in said
    assert "No photo of test has a box" in "\n".join(own_photos.advice(bare.story, bare.run, bare.profile))


def test_advice_begins_with_copies_across_splits(full):
    copies = {"identical": [["train: a.png", "test: b.png"], ["train: c.png", "train: d.png"]]}
    story = full.story | copies
    assert own_photos.advice(story, full.run, full.profile)[0].startswith("**1 photos of one split are nearly those")


def test_the_example_is_not_written_over_anything(tmp_path):
    example.write(tmp_path / "photos", 5)
    content = json.loads((tmp_path / "photos" / "boxes.json").read_text())
    assert len(content["annotations"]) == 2 * len(example.SPECIES)
    with pytest.raises(UserError, match="is there already; choose another place"):
        example.write(tmp_path / "photos", 5)
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(UserError, match="too few for train, val and test; give 5 or more"):
        example.write(tmp_path / "photos", 2)
    assert not list(tmp_path.glob("**/photos*"))
