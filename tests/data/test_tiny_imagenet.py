"""Tiny-ImageNet in a miniature of the official archive's layout, and the real one where it lies at hand."""

import hashlib
import importlib
import shutil
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import ROOT
from tedloc.data import open_split
from tedloc.data.files import rank, unreadable_list
from tedloc.errors import UserError

WNIDS = {"n03000000": "school bus, bus", "n01000000": "goldfish, Carassius auratus"}


def write_archive(folder: Path, train: int = 8, test: int = 3) -> Path:
    """Each image is one flat colour with the box painted white, so that pixels and boxes can be compared."""
    rng = np.random.default_rng(0)
    annotations = []
    for wnid in WNIDS:
        lines = []
        for index in range(train + test):
            x0, y0 = rng.integers(0, 30, 2)
            x1, y1 = rng.integers(34, 64, 2)
            pixels = np.full((64, 64, 3), (0, 0, 200), dtype=np.uint8)  # red, in OpenCV's BGR
            pixels[y0 : y1 + 1, x0 : x1 + 1] = 255
            name = f"{wnid}_{index}.JPEG" if index < train else f"val_{wnid[2]}{index}.JPEG"
            images = folder / ("val" if index >= train else f"train/{wnid}") / "images"
            images.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(images / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])
            if index < train:
                lines.append(f"{name}\t{x0}\t{y0}\t{x1}\t{y1}\n")
            else:
                annotations.append(f"{name}\t{wnid}\t{x0}\t{y0}\t{x1}\t{y1}\n")
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("".join(lines))
    (folder / "val" / "val_annotations.txt").write_text("".join(annotations))
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (folder / "words.txt").write_text("".join(f"{wnid}\t{names}\n" for wnid, names in WNIDS.items()) + "n09\tother\n")
    return folder


@pytest.fixture
def archive(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TEDLOC_DATA", str(tmp_path))
    return write_archive(tmp_path / "tiny-imagenet-200")


def test_classes_are_numbered_by_sorted_wnid_and_named_by_the_first_synonym(archive):
    images = open_split("tiny-imagenet", "test")
    assert images.wnids == ["n01000000", "n03000000"]
    assert images.class_names == ["goldfish", "school bus"]
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1] and len(images) == 6


def test_pixels_are_rgb_and_the_box_is_inclusive(archive):
    images = open_split("tiny-imagenet", "train")
    for index in range(len(images)):
        white = images.image(index).min(axis=2) > 128
        rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
        found = [columns[0], rows[0], columns[-1], rows[-1]]
        assert np.abs(images.boxes[index][0] - found).max() <= 1  # JPEG blurs an edge
        outside = images.image(index)[~white]
        assert np.median(outside[:, 0]) > 150 > 100 > np.median(outside[:, 2])


def test_train_and_val_share_the_training_images_class_by_class(archive):
    train = open_split("tiny-imagenet", "train", val_fraction=0.25)
    val = open_split("tiny-imagenet", "val", val_fraction=0.25)
    assert not set(train.ids) & set(val.ids)
    assert np.bincount(train.labels).tolist() == [6, 6] and np.bincount(val.labels).tolist() == [2, 2]


def test_the_split_depends_on_the_seed_and_on_no_other_class(archive):
    both = open_split("tiny-imagenet", "val", seed=0)
    one = open_split("tiny-imagenet", "val", seed=0, classes=["n03000000"])
    assert one.ids == [name for name in both.ids if "n03000000" in name]
    assert one.class_names == ["school bus"] and set(one.labels) == {0}
    others = [open_split("tiny-imagenet", "val", seed=seed).ids for seed in range(1, 4)]
    assert any(ids != both.ids for ids in others)
    assert both.fingerprint() == open_split("tiny-imagenet", "val", seed=0).fingerprint()


def test_the_split_is_the_same_on_every_machine():
    ranked = sorted((f"train/n01/images/n01_{i}.JPEG" for i in range(6)), key=lambda name: rank(0, name))
    assert [int(name[-6]) for name in ranked] == [3, 0, 5, 1, 4, 2]


def test_per_class_keeps_that_many(archive):
    assert np.bincount(open_split("tiny-imagenet", "train", per_class=3).labels).tolist() == [3, 3]


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_no_data_says_where_it_looked_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TEDLOC_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"nowhere/tiny-imagenet-200.*tiny_imagenet.py fetch.*TEDLOC_DATA"):
        open_split("tiny-imagenet", "train")


DAMAGE = {
    "no word list": (lambda f: (f / "words.txt").unlink(), "test", r"words.txt is missing"),
    "no boxes": (
        lambda f: (f / "train/n01000000/n01000000_boxes.txt").unlink(),
        "train",
        r"_boxes.txt is missing",
    ),
    "no annotations": (
        lambda f: (f / "val/val_annotations.txt").unlink(),
        "test",
        r"val_annotations.txt is missing",
    ),
    "no class list": (lambda f: (f / "wnids.txt").write_text("\n"), "test", r"wnids.txt lists no class"),
    "class without a name": (
        lambda f: (f / "wnids.txt").write_text("n07\n"),
        "test",
        r"words.txt has no name for n07",
    ),
    "no image folder": (
        lambda f: shutil.rmtree(f / "train/n01000000/images"),
        "val",
        r"no images in .*n01000000/images",
    ),
    "lost training image": (
        lambda f: (f / "train/n01000000/images/n01000000_3.JPEG").unlink(),
        "train",
        r"lacks 1 .*n01000000_3.JPEG",
    ),
    "cut off list": (
        lambda f: (f / "train/n01000000/n01000000_boxes.txt").write_text("n01000000_0.JPEG\t0\t0\t5\t5\n"),
        "train",
        r"lacks 7 of the images beside it",
    ),
    "lost test image": (
        lambda f: (f / "val/images/val_18.JPEG").unlink(),
        "test",
        r"val/images lacks 1 .*val_18.JPEG",
    ),
    "short line": (
        lambda f: spoil(f / "val/val_annotations.txt", "val_39.JPEG\t", ""),
        "test",
        r"val_annotations.txt, line 2: .* 6 fields",
    ),
    "word for a number": (
        lambda f: (f / "val/val_annotations.txt").write_text("a.JPEG\tn01000000\t1\t2\tx\t4\n"),
        "test",
        r"val_annotations.txt, line 1: box .* four whole numbers",
    ),
    "box turned over": (
        lambda f: (f / "val/val_annotations.txt").write_text("a.JPEG\tn01000000\t9\t2\t3\t4\n"),
        "test",
        r"line 1: box \(9, 2, 3, 4\) does not lie",
    ),
    "image twice": (
        lambda f: (f / "val/val_annotations.txt").write_text("a.JPEG\tn01000000\t1\t2\t3\t4\n" * 2),
        "test",
        r"lists 'a.JPEG' more than once",
    ),
    "binary": (lambda f: (f / "words.txt").write_bytes(b"\x89PNG\x00"), "test", r"words.txt is not text"),
    "class without test images": (
        lambda f: (f / "val/val_annotations.txt").write_text(
            "".join(
                line for line in (f / "val/val_annotations.txt").read_text().splitlines(True) if "n0300" not in line
            )
        ),
        "test",
        r"no image of class 'school bus'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_data_is_named(archive, damage):
    harm, split, sentence = DAMAGE[damage]
    harm(archive)
    with pytest.raises(UserError, match=sentence):
        open_split("tiny-imagenet", split)


def test_an_image_that_is_cut_off_missing_or_of_another_size_is_named(archive):
    images = open_split("tiny-imagenet", "test")
    first, second, third, fourth = (archive / images.ids[index] for index in range(4))
    first.write_bytes(first.read_bytes()[:-200])
    second.write_bytes(b"")
    third.unlink()
    cv2.imwrite(str(fourth), np.zeros((32, 48, 3), dtype=np.uint8))
    for index, sentence in enumerate(["cannot be read", "cannot be read", "is missing", "48 x 32 pixels"]):
        with pytest.raises(UserError, match=f"{Path(images.ids[index]).name} .*{sentence}|{sentence}") as error:
            images.image(index)
        assert images.ids[index] in str(error.value)


@pytest.mark.parametrize("settings", [{"classes": ["n99"]}, {"val_fraction": 1.0}, {"per_class": 0}])
def test_settings_out_of_range_are_refused(archive, settings):
    with pytest.raises(UserError, match="n99|val_fraction|per_class"):
        open_split("tiny-imagenet", "train", **settings)


def test_the_real_photos_open_and_decode(shared, monkeypatch):
    monkeypatch.setenv("TEDLOC_DATA", str(shared))
    splits = {split: open_split("tiny-imagenet", split) for split in ("train", "val", "test")}
    classes = len(splits["test"].class_names)
    assert len(splits["test"]) == 50 * classes
    assert len(set(splits["train"].ids) | set(splits["val"].ids)) == len(splits["train"]) + len(splits["val"])
    assert 0.2 < len(splits["val"]) / (len(splits["train"]) + len(splits["val"])) < 0.3
    assert all(splits["val"].image(index).std() > 0 for index in range(0, len(splits["val"]), 100))


@pytest.fixture
def script(tmp_path, monkeypatch):
    """data_scripts/tiny_imagenet.py, with the miniature's zip, served over HTTP, as official archive."""
    folder = tmp_path / "site"
    write_archive(folder / "made" / "tiny-imagenet-200")
    archive = Path(shutil.make_archive(str(folder / "tiny-imagenet-200"), "zip", folder / "made"))
    monkeypatch.syspath_prepend(ROOT / "data_scripts")
    module = importlib.import_module("tiny_imagenet")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        official = replace(
            module.ARCHIVE,
            urls=(f"http://127.0.0.1:{httpd.server_address[1]}/{archive.name}",),
            checksum=f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}",
        )
        monkeypatch.setattr(module, "ARCHIVE", official)
        monkeypatch.setenv("TEDLOC_DATA", str(tmp_path / "data"))
        yield module
        httpd.shutdown()


def test_fetch_brings_a_data_set_that_verifies(script, capsys):
    script.status()
    assert "tiny-imagenet/train: MISSING. no Tiny-ImageNet at" in capsys.readouterr().out
    script.fetch()
    script.verify()
    assert "tiny-imagenet/test: 6 of 6 images of 2 classes can be read" in capsys.readouterr().out
    with pytest.raises(UserError, match="is there already"):
        script.fetch()


def test_fetch_refuses_an_archive_with_another_checksum_and_leaves_nothing(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "ARCHIVE", replace(script.ARCHIVE, checksum=f"sha256:{'0' * 64}"))
    with pytest.raises(UserError, match="checksum"):
        script.fetch()
    assert not (tmp_path / "data" / "tiny-imagenet-200").exists()


def test_a_folder_that_is_there_is_linked(script, tmp_path):
    script.prepare(tmp_path / "site" / "made")
    assert (tmp_path / "data" / "tiny-imagenet-200").is_symlink()
    assert len(open_split("tiny-imagenet", "test")) == 6


def test_training_images_on_the_list_of_unreadable_ones_are_skipped(archive):
    images = open_split("tiny-imagenet", "train")
    listed = unreadable_list("tiny-imagenet", "train")
    listed.parent.mkdir()
    listed.write_text(f"{images.ids[1]}\tcut off\n")
    rest = open_split("tiny-imagenet", "train", unreadable="skip")
    assert rest.ids == images.ids[:1] + images.ids[2:]
    assert len(rest.boxes) == len(rest.labels) == len(images) - 1
