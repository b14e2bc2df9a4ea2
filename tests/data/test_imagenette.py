"""Imagenette and Imagewoof in miniature, as archives and as squeezed copies; the real photos where they lie at hand."""

import hashlib
import importlib
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from miniature import pack, use

from conftest import ROOT
from tedloc import profiles
from tedloc.data import at_hand, fetching, imagenette, open_data, open_split
from tedloc.data.files import rank, unreadable_list
from tedloc.errors import UserError
from tedloc.methods import create
from tedloc.metrics.boxes import scale_boxes
from tedloc.settings import DataSettings, as_record, override

CLASSES = {"n01440764": 0, "n02086240": 155}  # tench and Shih Tzu: one of each subset, with ILSVRC's numbers
TRAINING, LISTED = 6, 20  # photos a class
ORIGINAL = (100, 75)
BOXES = [(10, 15, 69, 59), (2, 3, 20, 30)]  # one or two a photo
FIRST = "ILSVRC2012_val_00000000.JPEG"


def write_photo(path: Path, size: tuple[int, int]) -> None:
    """Red, its first box white."""
    pixels = np.full((ORIGINAL[1], ORIGINAL[0], 3), (0, 0, 200), dtype=np.uint8)
    x0, y0, x1, y1 = BOXES[0]
    pixels[y0 : y1 + 1, x0 : x1 + 1] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path.with_suffix(".jpg")), cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    path.with_suffix(".jpg").rename(path)


def write_subset(folder: Path, wnids: Iterable[str], size: tuple[int, int]) -> Path:
    """A subset's folder: half of the photos of either kind in train/, half in val/."""
    for wnid in wnids:
        label = list(CLASSES).index(wnid)
        training = [f"{wnid}_{number}.JPEG" for number in range(TRAINING)]
        listed = [f"ILSVRC2012_val_{LISTED * label + number:08d}.JPEG" for number in range(LISTED)]
        for number, name in enumerate(training + listed):
            write_photo(folder / ("train", "val")[number % 2] / wnid / name, size)
    return folder


def write_metadata(root: Path) -> None:
    rows = [
        (f"val/ILSVRC2012_val_{LISTED * n + number:08d}.JPEG", label, number)
        for n, label in enumerate(CLASSES.values())
        for number in range(LISTED)
    ]
    text = {
        "image_ids": [name for name, *_ in rows],
        "class_labels": [f"{name},{label}" for name, label, _ in rows],
        "image_sizes": [f"{name},{ORIGINAL[0]},{ORIGINAL[1]}" for name, *_ in rows],
        "localization": [
            f"{name},{','.join(map(str, box))}" for name, _, number in rows for box in BOXES[: 1 + number % 2]
        ],
    }
    folder = root / "wsol-metadata" / "ILSVRC" / "test"
    folder.mkdir(parents=True)
    for name, lines in text.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def small(monkeypatch):
    """One class in each subset, few photos in each class."""
    names = list(CLASSES)
    monkeypatch.setattr(imagenette, "SUBSETS", {"imagenette": names[:1], "imagewoof": names[1:]})
    monkeypatch.setattr(imagenette, "TRAINING", dict.fromkeys(CLASSES, TRAINING))
    imagenette._known.cache_clear()
    yield
    imagenette._known.cache_clear()


@pytest.fixture
def kept(small, tmp_path, monkeypatch) -> Path:
    """A data folder with both archives, aspect kept."""
    return both(tmp_path, monkeypatch, "2-320", (64, 48))


@pytest.fixture
def squeezed(small, tmp_path, monkeypatch) -> Path:
    """A data folder with squeezed copies of both."""
    return both(tmp_path, monkeypatch, "2", (224, 224))


def both(root: Path, monkeypatch, suffix: str, size: tuple[int, int]) -> Path:
    for subset, wnids in imagenette.SUBSETS.items():
        write_subset(root / f"{subset}{suffix}", wnids, size)
    write_metadata(root)
    use(root, monkeypatch)
    return root


def test_photos_count_as_there_when_any_folder_of_theirs_is_so_that_half_of_them_is_an_error(tmp_path, monkeypatch):
    use(tmp_path, monkeypatch)
    assert not at_hand(DataSettings(name="imagenette")) and at_hand(DataSettings(name="aviary"))
    (tmp_path / "imagewoof2").mkdir()
    assert at_hand(DataSettings(name="imagenette"))
    write_metadata(tmp_path)
    with pytest.raises(UserError, match="no Imagenette at"):
        open_split("imagenette", "test")


def splits(**settings) -> dict[str, imagenette.ImagenetteImages]:
    return {split: open_split("imagenette", split, **settings) for split in ("train", "val", "test")}


def test_no_validation_photo_of_ilsvrc_is_trained_on_whichever_folder_it_lies_in(kept):
    found = splits()
    assert len(list((kept / "imagenette2-320" / "train").rglob("ILSVRC2012_val_*"))) == LISTED // 2
    assert not [name for name in found["train"].ids if "ILSVRC2012_val_" in name]
    assert np.bincount(found["train"].labels).tolist() == [TRAINING, TRAINING]
    assert all("ILSVRC2012_val_" in name for split in ("val", "test") for name in found[split].ids)
    assert not any(map(len, found["train"].boxes)) and not found["train"].sizes.any()


def test_of_each_class_the_15_photos_of_lowest_hash_are_val_and_the_others_test(kept):
    found = splits()
    for label, wnid in enumerate(CLASSES):
        names = [f"{wnid}/ILSVRC2012_val_{LISTED * label + number:08d}.JPEG" for number in range(LISTED)]
        names.sort(key=lambda name: rank(0, name))
        for split, expected in (("val", names[:15]), ("test", names[15:])):
            assert [name for name in found[split].ids if name.startswith(wnid)] == sorted(expected)


def test_per_class_takes_the_photos_of_lowest_hash_so_that_every_copy_gives_the_same(kept):
    few = open_split("imagenette", "train", per_class=2)
    for wnid in CLASSES:
        names = sorted((f"{wnid}/{wnid}_{number}.JPEG" for number in range(TRAINING)), key=lambda name: rank(0, name))
        assert [name for name in few.ids if name.startswith(wnid)] == sorted(names[:2])
    for name in set(splits()["train"].ids) - set(few.ids):
        next(kept.glob(f"*/*/{name}")).unlink()  # a copy that holds no more
    assert open_split("imagenette", "train", per_class=2).ids == few.ids


def test_per_class_leaves_the_evaluated_photos_as_they_are(kept):
    for split in ("val", "test"):
        assert open_split("imagenette", split, per_class=2).ids == splits()[split].ids


def test_boxes_sizes_and_labels_are_the_benchmarks_and_pixels_lie_under_the_box(kept):
    images = open_split("imagenette", "test")
    assert images.wnids == list(CLASSES) and images.class_names == ["tench", "Shih Tzu"]
    assert set(images.labels.tolist()) == {0, 1} and (images.sizes == ORIGINAL).all()
    for index, name in enumerate(images.ids):
        number = int(name[-13:-5]) % LISTED
        assert images.boxes[index].tolist() == [list(box) for box in BOXES[: 1 + number % 2]]
        pixels = images.image(index)
        assert pixels.shape == (48, 64, 3)
        white = pixels.min(axis=2) > 128
        rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
        x0, y0, x1, y1 = scale_boxes(images.boxes[index], ORIGINAL, 224)[0] * (64, 48, 64, 48) / 224
        assert np.abs(np.array([columns[0], rows[0], columns[-1], rows[-1]]) - (x0, y0, x1, y1)).max() <= 1.5


def test_a_squeezed_copy_has_the_same_splits_and_boxes_and_another_fingerprint(kept, tmp_path, monkeypatch):
    first = splits()
    second = tmp_path / "squeezed"
    imagenette._known.cache_clear()
    both(second, monkeypatch, "2", (224, 224))
    for split, images in splits().items():
        assert images.ids == first[split].ids and images.image(0).shape == (224, 224, 3)
        assert all(np.array_equal(*pair) for pair in zip(images.boxes, first[split].boxes, strict=True))
        assert images.fingerprint() != first[split].fingerprint()


def test_a_picture_for_figures_has_the_size_that_the_boxes_refer_to(squeezed):
    images = open_split("imagenette", "test")
    assert images.image(0).shape == (224, 224, 3) and images.picture(0).shape == (ORIGINAL[1], ORIGINAL[0], 3)
    x0, y0, x1, y1 = images.boxes[0][0]
    assert images.picture(0)[y0 + 2 : y1 - 1, x0 + 2 : x1 - 1].min() > 200
    training = open_split("imagenette", "train")
    assert training.picture(0).shape == (224, 224, 3)  # its original size is not known


def test_either_subset_or_single_classes_by_setting(kept):
    shutil.rmtree(kept / "imagenette2-320")
    for asked in (("imagewoof",), ("n02086240",), ("n02086240", "imagewoof")):
        images = open_data(DataSettings(name="imagenette", only_classes=asked), "test")
        assert images.wnids == ["n02086240"] and set(images.labels) == {0}


def test_unset_the_setting_is_left_out_of_records_and_elsewhere_it_is_refused():
    assert "only_classes" not in as_record(DataSettings(name="imagenette"))
    assert as_record(DataSettings(only_classes=("imagewoof",)))["only_classes"] == ("imagewoof",)
    with pytest.raises(UserError, match="data.only_classes is of data set 'imagenette', not 'cub'"):
        open_data(DataSettings(name="cub", only_classes=("imagewoof",)), "test")


def test_training_photos_on_the_list_of_unreadable_ones_are_skipped_in_a_part_of_the_classes_too(kept):
    images = open_split("imagenette", "train")
    listed = unreadable_list("imagenette", "train")
    listed.parent.mkdir()
    listed.write_text(f"{images.ids[0]}\tcut off\n{images.ids[-1]}\tcut off\n")
    rest = open_split("imagenette", "train", unreadable="skip")
    assert rest.ids == images.ids[1:-1]
    part = open_split("imagenette", "train", unreadable="skip", only_classes=["imagewoof"])
    assert part.ids == [name for name in images.ids[:-1] if name.startswith("n02086240")]


def test_the_twenty_classes_and_their_photos_are_the_published_ones():
    totals = {"imagenette": 9469 + 3925, "imagewoof": 9025 + 3929}  # photos in train/ and val/ of the archives
    for subset, wnids in imagenette.SUBSETS.items():
        assert len(set(wnids)) == 10 and sum(imagenette.TRAINING[wnid] + 50 for wnid in wnids) == totals[subset]


# Bad input


def add(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


DAMAGE = {
    "no data": (
        lambda f: shutil.rmtree(f / "imagewoof2-320"),
        "val",
        r"no Imagewoof at .*imagewoof2-320: run `python data_scripts/imagenette.py fetch`.*TEDLOC_DATA",
    ),
    "half extracted archive": (
        lambda f: shutil.rmtree(f / "imagenette2-320/val"),
        "train",
        r"imagenette2-320/val lacks the class n01440764; run",
    ),
    "missing class": (
        lambda f: shutil.rmtree(f / "imagewoof2-320/train/n02086240"),
        "test",
        r"imagewoof2-320/train lacks the class n02086240; run",
    ),
    "missing validation photo": (
        lambda f: (f / "imagenette2-320/train/n01440764" / FIRST).unlink(),
        "train",
        rf"lacks 1 of the 20 validation photos of class n01440764, first {FIRST}: half extracted; run",
    ),
    "missing training photo": (
        lambda f: (f / "imagenette2-320/train/n01440764/n01440764_0.JPEG").unlink(),
        "train",
        r"holds 5 of the 6 training photos of class n01440764, and 6 are asked for; .*set data.per_class to 5",
    ),
    "no metadata": (
        lambda f: shutil.rmtree(f / "wsol-metadata"),
        "train",
        r"no split files for ILSVRC/test.*wsol_metadata.py fetch",
    ),
    "metadata without a class": (
        lambda f: [
            path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
            for name, lines in (("image_ids", 20), ("class_labels", 20), ("image_sizes", 20), ("localization", 30))
            for path in [f / "wsol-metadata/ILSVRC/test" / f"{name}.txt"]
        ],
        "train",
        r"the split files of ILSVRC/test have no photo of class n02086240; fetch them from .*wsolevaluation",
    ),
    "photo that the metadata lacks": (
        lambda f: add(
            f / "imagenette2-320/train/n01440764" / FIRST,
            f / "imagenette2-320/val/n01440764/ILSVRC2012_val_00049999.JPEG",
        ),
        "test",
        r"ILSVRC2012_val_00049999.JPEG is neither a training photo of class n01440764 nor .* split files; run",
    ),
    "photo of another class": (
        lambda f: add(
            f / "imagewoof2-320/train/n02086240/n02086240_0.JPEG",
            f / "imagenette2-320/train/n01440764/n02086240_0.JPEG",
        ),
        "train",
        r"n01440764/n02086240_0.JPEG is neither a training photo of class n01440764",
    ),
    "two archives mixed": (
        lambda f: add(
            f / "imagenette2-320/train/n01440764" / FIRST,
            f / "imagenette2-320/val/n01440764" / FIRST,
        ),
        "train",
        rf"{FIRST} lies in both train/ and val/ of .*imagenette2-320",
    ),
    "a squeezed subset beside an aspect-kept one": (
        lambda f: (shutil.rmtree(f / "imagewoof2-320"), write_subset(f / "imagewoof2", ["n02086240"], (224, 224))),
        "train",
        r"imagewoof2/.* is 224 x 224 pixels where those of class n01440764 are not squeezed: .*mixed; use one kind",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_data_is_named(kept, damage):
    harm, split, sentence = DAMAGE[damage]
    harm(kept)
    with pytest.raises(UserError, match=sentence) as error:
        open_split("imagenette", split)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "size, split, sentence",
    [
        ((224, 224), "train", r"is 224 x 224 pixels where the others are not squeezed: copies of two kinds are mixed"),
        ((224, 224), "test", r"is 224 x 224 pixels where the others are not squeezed: copies of two kinds are mixed"),
        (
            (48, 64),
            "test",
            r"48 x 64 pixels, not of the same aspect as the original \(100 x 75\), so its box would not",
        ),
    ],
)
def test_a_single_photo_of_another_kind_is_named_when_it_is_read(kept, size, split, sentence):
    images = open_split("imagenette", split)
    write_photo(kept / images.places[-1], size)
    with pytest.raises(UserError, match=f"{images.places[-1]} .*{sentence}"):
        images.image(len(images) - 1)


def test_an_aspect_kept_photo_among_squeezed_ones_is_named_when_it_is_read(squeezed):
    images = open_split("imagenette", "train")
    write_photo(squeezed / images.places[-1], (64, 48))
    with pytest.raises(UserError, match="is 64 x 48 pixels where the others are squeezed to 224 x 224"):
        images.image(len(images) - 1)


def test_a_photo_that_is_cut_off_is_named(kept):
    images = open_split("imagenette", "train")
    path = kept / images.places[-1]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=f"{images.places[-1]} cannot be read"):
        images.image(len(images) - 1)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"only_classes": ["imagewoofs"]}, "unknown class of imagenette 'imagewoofs'; choose one of: .*imagewoof"),
        ({"only_classes": []}, "data.only_classes names no class"),
        ({"per_class": 0}, "per_class is 0"),
    ],
)
def test_settings_out_of_range_are_refused(kept, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        open_split("imagenette", "train", **settings)


# Profiles and the ImageNet head


def test_the_head_of_imagenet_applies_where_the_data_set_says_that_its_classes_are_imagenets():
    for name, applies in {"imagenette": True, "imagenette-small": True, "aviary": False}.items():
        assert create("head-cam", profiles.get(name)).applies() == applies
    elsewhere = override(profiles.get("imagenette"), {"data.name": "cub"})
    assert not create("head-cam", elsewhere).applies()


def test_the_small_profile_differs_in_the_number_of_photos_and_in_what_the_book_computes():
    small, whole = profiles.get("imagenette-small"), profiles.get("imagenette")
    assert small.data.per_class == 300 and whole.data.per_class is None
    assert replace(small, name=whole.name, data=whole.data, live=None) == whole


# The script


@pytest.fixture
def script(small, tmp_path, monkeypatch):
    """data_scripts/imagenette.py with miniature archives in a folder ``site``, and an empty data folder."""
    monkeypatch.syspath_prepend(ROOT / "data_scripts")
    module = importlib.import_module("imagenette")
    monkeypatch.setattr(module, "SUBSETS", imagenette.SUBSETS)
    for subset, wnids in imagenette.SUBSETS.items():
        made = write_subset(tmp_path / "made" / f"{subset}2-320", wnids, (64, 48))
        archive = pack(made, tmp_path / "site" / f"{subset}2-320.tgz", made.name)
        kind = module.UNVERIFIED[subset][0].split(":")[0]
        found = hashlib.new(kind, archive.read_bytes()).hexdigest()
        monkeypatch.setitem(module.UNVERIFIED, subset, (f"{kind}:{found}", "a test"))
    (tmp_path / "data").mkdir()
    write_metadata(tmp_path / "data")
    use(tmp_path / "data", monkeypatch)
    return module


def test_fetch_brings_what_is_not_there_and_it_verifies(script, tmp_path, capsys, monkeypatch):
    def downloaded(archive: fetching.Archive) -> Path:
        return Path(shutil.copy(tmp_path / "site" / archive.name, archive.path))

    monkeypatch.setattr(fetching, "download", downloaded)
    script.status()
    assert "imagenette/train: MISSING. no Imagewoof at" in capsys.readouterr().out
    script.fetch()
    assert "imagenette2-320.tgz has the md5 that a test records" in capsys.readouterr().out
    script.verify()
    assert (
        f"imagenette/train: {2 * TRAINING} of {2 * TRAINING} images of 2 classes can be read" in capsys.readouterr().out
    )
    assert not list((tmp_path / "data").glob("*.tgz"))
    monkeypatch.setattr(fetching, "download", None)  # nothing is downloaded twice
    script.fetch()


def test_another_checksum_is_named_with_what_was_found_and_how_to_go_on(script, tmp_path, monkeypatch):
    source = tmp_path / "site" / "imagewoof2-320.tgz"
    monkeypatch.setitem(script.UNVERIFIED, "imagewoof", (f"sha256:{'0' * 64}", "a test"))
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    with pytest.raises(UserError, match=rf"sha256 {found}; a test records 0+, which nobody .*--any-checksum"):
        script.prepare("imagewoof", source)
    assert not (tmp_path / "data" / "imagewoof2-320").exists()
    script.prepare("imagewoof", source, any_checksum=True)
    assert len(open_split("imagenette", "train", only_classes=["imagewoof"])) == TRAINING


def test_an_archive_of_something_else_leaves_nothing(script, tmp_path):
    (tmp_path / "made/imagenette2-320/train/n01440764" / FIRST).unlink()
    source = pack(tmp_path / "made/imagenette2-320", tmp_path / "site" / "other.tgz", "imagenette2-320")
    with pytest.raises(UserError, match="other.tgz is not taken as imagenette: .*lacks 1 of the 20 validation photos"):
        script.prepare("imagenette", source, any_checksum=True)
    assert not (tmp_path / "data" / "imagenette2-320").exists()


def test_a_folder_of_fewer_photos_is_linked_and_looked_at_with_their_number(script, tmp_path, capsys):
    folder = tmp_path / "made" / "imagewoof2-320"
    for number in range(3, TRAINING):
        next(folder.rglob(f"n02086240_{number}.JPEG")).unlink()
    script.prepare("imagewoof", folder, per_class=3)
    assert (tmp_path / "data" / "imagewoof2").is_symlink()
    assert "imagenette/train: 3 images of 1 classes" in capsys.readouterr().out
    with pytest.raises(UserError, match="imagewoof is in .* already"):
        script.prepare("imagewoof", folder)


# The real photos


def test_the_real_photos_have_the_splits_that_the_module_promises(shared, monkeypatch):
    if not (shared / "imagenette2").is_dir():
        pytest.skip("no imagenette2 in ../shared/data")
    use(shared, monkeypatch)
    found = splits(per_class=300)
    assert {split: len(images) for split, images in found.items()} == {"train": 6000, "val": 300, "test": 700}
    assert sum(sum(map(len, found[split].boxes)) for split in ("val", "test")) == 1416
    assert all(images.image(0).shape == (224, 224, 3) for images in found.values())
    with pytest.raises(UserError, match="holds 300 of the 1300 training photos of class n01440764"):
        open_split("imagenette", "train")
