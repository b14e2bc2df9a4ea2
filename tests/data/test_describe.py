"""A look at a data set before a run: counts, shares, trivial boxes, and what is broken or there twice."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tedloc.data import __main__ as command
from tedloc.data import aviary, describe


def run(capsys, *arguments) -> tuple[int, str, str]:
    try:
        command.main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as stop:
        code = stop.code
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture(scope="module")
def birds():
    return aviary.open("train", per_class=4)


@pytest.fixture
def photos(tmp_path, birds):
    """A folder of two classes with splits by folder, four photos a class in each; boxes for all but train."""
    lines = ["image,x0,y0,x1,y1"]
    for i in range(24):
        split, name = ("train", "val", "test")[i % 3], "ab"[i // 12]
        file = tmp_path / "photos" / split / name / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(birds.image(i)).save(file)
        if split != "train":
            lines.append(f"{split}/{name}/{i}.png,0,0,56,80")
    (tmp_path / "photos" / "boxes.csv").write_text("\n".join(lines))
    return tmp_path / "photos"


def test_it_tells_classes_counts_boxes_and_what_chance_scores(photos, tmp_path, capsys):
    sheet, file = tmp_path / "sheet.png", tmp_path / "story.json"
    found = run(capsys, "describe", "--data.root", photos, "--sheet", sheet, "--json", file)
    assert found[0] == 0
    story = json.loads(file.read_text())
    assert story["classes"] == {name: {"train": 4, "val": 4, "test": 4} for name in "ab"}
    assert story["splits"]["test"] == {
        "photos": 8,
        "photos with boxes": 8,
        "boxes": 8,
        "photos with several boxes": 0,
        "width and height": {"smallest": [80, 80], "median": [80, 80], "largest": [80, 80]},
        "share of the photo that its largest box fills": {"10 %": 0.7, "median": 0.7, "90 %": 0.7},
    }
    assert story["splits"]["train"]["boxes"] == 0
    assert story["trivial boxes"]["full-image box"]["MaxBoxAcc@0.5"] == 100 and story["unreadable"] == {}
    for line in (
        "Splits: the folders train, val, test.",
        "near-duplicates in two splits: none",
        "70 to 70 %",
        str(sheet),
    ):
        assert line in found[1]
    with Image.open(sheet) as image:
        assert image.format == "PNG" and min(image.size) > 300


def test_photos_that_cannot_be_read_are_all_named_and_the_rest_is_told(photos, tmp_path, capsys):
    broken = sorted((photos / "train" / "a").iterdir())[:2]
    for file in broken:
        file.write_bytes(file.read_bytes()[:2000])
    code, out, err = run(capsys, "describe", "--data.root", photos, "--sheet", tmp_path / "s.png")
    assert code == 2 and err.splitlines()[-1].startswith("error: 2 photos cannot be read")
    assert all(f"train: train/a/{file.name} (" in out for file in broken) and "photos a class" in out


def test_copies_are_named(photos, tmp_path, birds, capsys):
    shutil.copy(photos / "train" / "a" / "0.png", photos / "train" / "b" / "same.png")
    small = Image.fromarray(birds.image(0)).resize((60, 60))
    small.save(photos / "train" / "a" / "small.png")
    small.save(photos / "train" / "b" / "other.jpg")
    shutil.copy(photos / "val" / "a" / "1.png", photos / "train" / "b" / "val.png")
    code, out, _ = run(capsys, "describe", "--data.root", photos, "--sheet", tmp_path / "s.png")
    assert code == 0
    assert "identical photos: 2\n" in out and "train: train/a/0.png = train: train/b/same.png" in out
    assert "train: train/b/val.png = val: val/a/1.png" in out and "near-duplicates in two splits: none" in out
    small.save(photos / "test" / "b" / "again.png")
    with open(photos / "boxes.csv", "a") as file:
        file.write("\ntest/b/again.png,1,1,9,9")
    from tedloc.data import folder

    folder.scan.cache_clear()
    command.open_data.cache_clear()
    _, out, _ = run(capsys, "describe", "--data.root", photos, "--sheet", tmp_path / "s.png")
    for name in ("a/0.png", "a/small.png", "b/other.jpg", "b/same.png"):
        assert f"train: train/{name} ~ test: test/b/again.png" in out or f"train: train/{name} = test: t" in out


def test_a_data_set_without_files_is_described_too(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, "describe", "--profile", "smoke")
    assert code == 0 and out.startswith("data set aviary, 20 classes") and (tmp_path / "contact_sheet.png").exists()


def test_a_folder_that_cannot_be_used_gets_one_report(tmp_path, capsys):
    (tmp_path / "cats").mkdir()
    code, out, err = run(capsys, "describe", "--data.root", tmp_path)
    assert code == 2 and out == "" and err.startswith(f"error: 1 problem in {tmp_path}:\n  a class without a photo")


def test_near_duplicates_are_told_from_different_pictures(birds):
    """Every copy that a camera roll makes is found, and no two of eighty drawn birds are taken for one another."""
    hashes = np.array([describe.perceptual_hash(birds.image(i)) for i in range(80)], np.uint64)
    assert describe.near(hashes, np.arange(80)) == []
    for i in range(0, 80, 4):
        image = Image.fromarray(birds.image(i))
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=40)
        copies = [Image.open(packed), image.resize((50, 50)), ImageEnhance.Contrast(image).enhance(0.8)]
        for copy in copies:
            again = describe.perceptual_hash(np.asarray(copy))
            assert describe.near(np.array([hashes[i], again], np.uint64), np.arange(2)) == [(0, 1)]


def test_flat_pictures_are_no_copies_of_one_another():
    flat = np.array([describe.perceptual_hash(np.full((9, 9, 3), level, np.uint8)) for level in (0, 255)], np.uint64)
    assert describe.near(flat, np.arange(2)) == []


def test_a_data_set_of_many_classes_is_summarised():
    counts = {f"class {n}": {"train": n, "val": 1, "test": 2} for n in range(1, 101)}
    split = {"photos": 5050, "photos with boxes": 0, "boxes": 0, "photos with several boxes": 0}
    story = {
        "name": "folder",
        "notes": [],
        "classes": counts,
        "splits": dict.fromkeys(("train", "val", "test"), split),
        "trivial boxes": {},
        "unreadable": {f"train: {n}.jpg": "cut off" for n in range(500)},
        "identical": [],
        "near-duplicates across splits": [],
    }
    text = describe.text(story)
    assert "class 1 " in text and "class 50 " not in text and "no boxes in test" in text
    assert "photos that cannot be read: 500" in text and len(text.splitlines()) < 60
