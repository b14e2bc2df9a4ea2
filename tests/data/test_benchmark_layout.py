"""Photos of one's own in the benchmark's layout, as CUB's are: read as their owner sees them, or refused by name."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tedloc import errors
from tedloc.data import aviary, open_split

CLASSES = ("001.Red_Mug", "002.Coffee_Pot")
PHOTOS = 2  # a class and split


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """A folder with photos of two classes and the benchmark's lists; drawn birds stand for the mugs."""
    drawn = aviary.open("test", per_class=3 * PHOTOS)
    for number, split in enumerate(("train", "val", "test")):
        lists = {"image_ids": [], "class_labels": [], "image_sizes": [], "localization": []}
        for label, folder in enumerate(CLASSES):
            own = [i for i in range(len(drawn)) if drawn.labels[i] == label][PHOTOS * number : PHOTOS * (number + 1)]
            for i in own:
                name = f"{folder}/{split}-{i}.jpg"
                file = tmp_path / "CUB" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(drawn.image(i)).resize((100, 60)).save(file)
                x0, y0, x1, y1 = drawn.boxes[i][0]
                lists["image_ids"].append(name)
                lists["class_labels"].append(f"{name},{label}")
                lists["image_sizes"].append(f"{name},100,60")
                lists["localization"].append(f"{name},{x0},{y0 * 3 // 4},{x1},{y1 * 3 // 4}")
        needed = ("image_ids", "class_labels") if split == "train" else lists
        for kind in needed:
            file = tmp_path / "wsol-metadata" / "CUB" / split / f"{kind}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(lists[kind]) + "\n")
    monkeypatch.setenv("TEDLOC_DATA", str(tmp_path))
    return tmp_path


def test_the_layout_is_read(photos):
    images = open_split("cub", "test")
    assert images.class_names == ["red mug", "coffee pot"] and len(images) == 2 * PHOTOS
    assert images.image(0).shape == (60, 100, 3)
    assert not any(map(len, open_split("cub", "train").boxes))  # none needed


def relisted(photos: Path, name: str, change) -> None:
    """Every list of every split with its lines changed."""
    for file in (photos / "wsol-metadata" / "CUB").rglob(name):
        file.write_text("".join(f"{change(line)}\n" for line in file.read_text().splitlines()))


def test_photos_of_a_phone_are_what_its_owner_sees(photos):
    """Stored turned, with EXIF's tag; boxes and sizes as they are shown. The training split has no sizes."""
    before = {split: open_split("cub", split) for split in ("train", "test")}
    pixels = {split: images.image(0) for split, images in before.items()}
    tags = Image.Exif()
    tags[0x0112] = 6
    for file in (photos / "CUB").rglob("*.jpg"):
        with Image.open(file) as image:
            turned = image.transpose(Image.Transpose.ROTATE_90)
        turned.save(file.with_suffix(".png"), exif=tags)
        file.with_suffix(".png").rename(file)
    for split, upright in pixels.items():
        assert np.array_equal(open_split("cub", split).image(0), upright)
    relisted(photos, "image_sizes.txt", lambda line: line.replace(",100,60", ",60,100"))
    relisted(photos, "localization.txt", lambda line: f"{line.rsplit(',', 4)[0]},10,10,50,90")
    stored = open_split("cub", "test").image(0)
    assert np.array_equal(np.rot90(stored, -1), pixels["test"])


def test_archives_count_pixels_as_stored_where_sizes_do_not_tell(photos):
    """A half turn leaves the size as it is: the benchmark's own photos are read as it reads them, others upright."""
    tags = Image.Exif()
    tags[0x0112] = 3
    file = photos / "CUB" / open_split("cub", "test").ids[0]
    with Image.open(file) as image:
        image.load()
        stored = np.array(image)
        image.save(file.with_suffix(".png"), exif=tags)
    file.with_suffix(".png").rename(file)
    assert np.array_equal(open_split("cub", "test").image(0), stored[::-1, ::-1])
    (photos / "CUB_200_2011").mkdir()
    (photos / "CUB").rename(photos / "CUB_200_2011" / "images")
    assert np.array_equal(open_split("cub", "test").image(0), stored)


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("image_sizes.txt", lambda line: line.replace(",100,60", ",60,100"), "are width and height swapped"),
        ("class_labels.txt", lambda line: line.replace(",1", ",2").replace(",0", ",1"), "no image of class 0; classes"),
        ("class_labels.txt", lambda line: line.replace(",1", ",3"), "no image of class 1; classes count from 0"),
    ],
)
def test_a_list_that_is_off_by_a_convention_is_refused(photos, name, change, words):
    relisted(photos, name, change)
    with pytest.raises(errors.UserError, match=words):
        open_split("cub", "test")


def test_a_photo_that_is_not_the_listed_copy_is_refused_when_it_is_read(photos):
    images = open_split("cub", "test")
    file = images.folder / images.ids[0]
    Image.open(file).resize((50, 30)).save(file)
    with pytest.raises(errors.UserError, match="is 50 x 30 pixels where the split files say 100 x 60"):
        images.image(0)


PATHS = {  # a layout -> what is said of it
    "flat": (lambda folder, name: f"{folder[4:]}-{name}", "'Red_Mug-.*' lies in no class folder"),
    "a folder a split": (lambda folder, name: f"train/{folder[4:]}/{name}", "'train' is the folder of class 0"),
    "a folder a split and day": (
        lambda folder, name: f"{name[:4]}/{name}",
        "whose other images lie in|is the folder of",
    ),
    "two spellings": (lambda folder, name: f"{'001.Red_Mug' if folder[2] == '1' else '002.red_mug'}/{name}", None),
}


@pytest.mark.parametrize("layout", PATHS)
def test_classes_that_cannot_be_told_apart_are_refused(photos, layout):
    place, words = PATHS[layout]
    for file in list((photos / "CUB").rglob("*.jpg")):
        there = photos / "CUB" / place(file.parent.name, file.name)
        there.parent.mkdir(parents=True, exist_ok=True)
        file.rename(there)
    for name in ("image_ids.txt", "class_labels.txt", "image_sizes.txt", "localization.txt"):
        relisted(photos, name, lambda line: place(*line.split("/")))
    if layout == "two spellings":  # "red mug" and "red-mug"
        assert open_split("cub", "test").class_names == ["red mug", "red-mug"]
        relisted(photos, "*.txt", lambda line: line.replace("002.red_mug", "002.Red_Mug"))
        (photos / "CUB" / "002.red_mug").rename(photos / "CUB" / "002.Red_Mug")
        words = "class 1 has the name 'red mug', as class 0 has"
    with pytest.raises(errors.UserError, match=words):
        open_split("cub", "test")


def test_classes_that_change_their_number_between_splits_are_refused(photos):
    file = photos / "wsol-metadata" / "CUB" / "test" / "class_labels.txt"
    file.write_text("".join(f"{line[:-1]}{1 - int(line[-1])}\n" for line in file.read_text().splitlines()))
    for split in ("train", "test"):
        with pytest.raises(
            errors.UserError, match="CUB/test/class_labels.txt, line 1: .* of class 1, whose other images"
        ):
            open_split("cub", split)


def test_a_class_name_with_accents_may_have_another_form_on_the_disk(photos):
    relisted(photos, "*.txt", lambda line: line.replace("001.Red_Mug", "001.Tasse_À_Thé"))
    (photos / "CUB" / "001.Red_Mug").rename(photos / "CUB" / unicodedata.normalize("NFD", "001.Tasse_À_Thé"))
    images = open_split("cub", "test")
    assert images.class_names[0] == "tasse à thé" and images.image(0).shape == (60, 100, 3)
    assert images.fingerprint() == open_split("cub", "test").fingerprint()


def test_a_photo_that_is_there_under_another_spelling_is_mentioned(photos):
    images = open_split("cub", "test")
    (images.folder / images.ids[1]).rename(images.folder / images.ids[1].replace(".jpg", ".JPG"))
    with pytest.raises(errors.UserError, match=r"lacks 1 of 4 images, .* \(there is '001.Red_Mug/.*.JPG'"):
        open_split("cub", "test")
