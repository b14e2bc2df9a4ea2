"""Tiny-ImageNet: real photos of 64 x 64 pixels with one box each, in the official archive's layout.

Below ``paths.data() / "tiny-imagenet-200"``:

``wnids.txt``                         the classes, one WordNet id a line (any subset of the archive's 200)
``words.txt``                         wnid, tab, synonyms separated by commas
``train/<wnid>/images/*.JPEG``        training images
``train/<wnid>/<wnid>_boxes.txt``     file, x0, y0, x1, y1, separated by tabs
``val/images/*.JPEG``                 official validation images
``val/val_annotations.txt``           file, wnid, x0, y0, x1, y1, separated by tabs

The archive's own test images have neither labels nor boxes. Hence *test* here means the official validation
images, and *val* is taken from the training images, class by class. Classes are numbered by sorted wnid.

The photos come from ImageNet: a network with ImageNet weights has seen the labels, and probably these very
training photos; it has seen no box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tedloc import paths
from tedloc.data import text_files
from tedloc.data.files import FileImages, limited, rank, readable, where
from tedloc.errors import UserError, choose

OF_IMAGENET = True
FOLDER = "tiny-imagenet-200"
SIDE = 64
REMEDY = "run `python data_scripts/tiny_imagenet.py fetch`, or extract tiny-imagenet-200.zip again"


@dataclass(frozen=True, eq=False)
class TinyImages(FileImages):
    """One split of Tiny-ImageNet. wnids: K WordNet ids in the order of the labels."""

    wnids: list[str]


def open(
    split: str,
    *,
    classes: Sequence[str] | None = None,
    val_fraction: float = 0.25,
    seed: int = 0,
    per_class: int | None = None,
    unreadable: str = "fatal",
) -> TinyImages:
    """Open one split: ``train`` and ``val`` of the training images, ``test``: the official validation images.

    classes:      wnids to keep; None keeps all of ``wnids.txt``
    val_fraction: share of each class's training images that ``val`` takes (our choice: a tenth is too few
                  images to tell variants apart)
    seed:         which ones; the choice depends on nothing but the seed and the file's name
    per_class:    keep at most this many images a class (for trials)
    unreadable:   ``skip`` leaves out training images that ``verify`` could not read
    (``tedloc.data.files.readable``)

    Raises ``UserError`` naming file, line and remedy for missing or half-extracted data and malformed lines.
    """
    choose("split", split, ("train", "val", "test"))
    if not 0 < val_fraction < 1:
        raise UserError(f"val_fraction is {val_fraction}; it must lie between 0 and 1, e.g. 0.25")
    folder = paths.data() / FOLDER
    if not folder.is_dir():
        raise UserError(f"no Tiny-ImageNet at {folder}: {REMEDY} ({where()})")

    listed = [fields[0] for _, fields in _lines(folder / "wnids.txt", columns=1)]
    if not listed:
        raise UserError(f"{folder / 'wnids.txt'} lists no class; {REMEDY}")
    for wnid in classes or ():
        choose("Tiny-ImageNet class", wnid, listed)
    wnids = sorted(set(classes or listed))
    names = _class_names(folder / "words.txt", wnids)

    found = _test_images(folder, wnids) if split == "test" else _train_images(folder, wnids)
    ids, labels, boxes = [], [], []
    for label, wnid in enumerate(wnids):
        records = found[wnid]
        if split != "test":
            shuffled = sorted(records, key=lambda record: rank(seed, record[0]))
            held_out = max(1, round(val_fraction * len(shuffled)))
            records = shuffled[:held_out] if split == "val" else shuffled[held_out:]
        for image_id, box in sorted(records):
            ids.append(image_id)
            labels.append(label)
            boxes.append(np.array([box], dtype=np.int64))
    well = readable("tiny-imagenet", split, ids, unreadable)
    kept = well[limited([ids[index] for index in well], np.array(labels)[well], per_class, seed)]
    return TinyImages(
        name="tiny-imagenet",
        split=split,
        ids=[ids[index] for index in kept],
        labels=np.array(labels, dtype=np.int64)[kept],
        boxes=[boxes[index] for index in kept],
        sizes=np.full((len(kept), 2), SIDE, dtype=np.int64),
        class_names=names,
        folder=folder,
        wnids=wnids,
        upright=False,
    )


Record = tuple[str, tuple[int, ...]]  # image id, box


def _train_images(folder: Path, wnids: list[str]) -> dict[str, list[Record]]:
    found = {}
    for wnid in wnids:
        listing = folder / "train" / wnid / f"{wnid}_boxes.txt"
        records = [(fields[0], _box(listing, line, fields)) for line, fields in _lines(listing, columns=5)]
        _check_images(listing, listing.parent / "images", [name for name, _ in records], complete=True)
        found[wnid] = [(f"train/{wnid}/images/{name}", box) for name, box in records]
    return found


def _test_images(folder: Path, wnids: list[str]) -> dict[str, list[Record]]:
    listing = folder / "val" / "val_annotations.txt"
    found: dict[str, list[Record]] = {wnid: [] for wnid in wnids}
    names = []
    for line, fields in _lines(listing, columns=6):
        if fields[1] in found:
            names.append(fields[0])
            found[fields[1]].append((f"val/images/{fields[0]}", _box(listing, line, fields)))
    _check_images(listing, folder / "val" / "images", names, complete=False)
    return found


def _check_images(listing: Path, folder: Path, names: list[str], complete: bool) -> None:
    """Every listed image must lie in ``folder``; if ``complete``, every image there must also be listed."""
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{listing} lists {repeated!r} more than once; {REMEDY}")
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not present:
        raise UserError(f"no images in {folder}; {REMEDY}")
    missing = sorted(set(names) - present)
    if missing:
        raise UserError(f"{folder} lacks {len(missing)} images that {listing} lists, first {missing[0]!r}; {REMEDY}")
    unlisted = sorted(name for name in present - set(names) if name.endswith(".JPEG"))
    if complete and unlisted:
        raise UserError(f"{listing} lacks {len(unlisted)} of the images beside it, first {unlisted[0]!r}; {REMEDY}")


def _lines(path: Path, columns: int) -> list[tuple[int, list[str]]]:
    """(line number, ``columns`` fields) of each line that is not blank."""
    rows = []
    for number, line in text_files.lines(path, f"{REMEDY} ({where()})"):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != columns or not all(fields):
            raise UserError(
                f"{path}, line {number}: {line!r} does not hold {columns} fields separated by tabs; {REMEDY}"
            )
        rows.append((number, fields))
    return rows


def _box(path: Path, line: int, fields: list[str]) -> tuple[int, ...]:
    """The last four fields as x0, y0, x1, y1."""
    try:
        box = tuple(int(field) for field in fields[-4:])
    except ValueError:
        raise UserError(f"{path}, line {line}: box {fields[-4:]} is not four whole numbers; {REMEDY}") from None
    x0, y0, x1, y1 = box
    if not (0 <= x0 <= x1 < SIDE and 0 <= y0 <= y1 < SIDE):
        raise UserError(f"{path}, line {line}: box {box} does not lie in a {SIDE} x {SIDE} image; {REMEDY}")
    return box


def _class_names(path: Path, wnids: list[str]) -> list[str]:
    """The first synonym of each class."""
    words = {fields[0]: fields[1].split(",")[0].strip() for _, fields in _lines(path, columns=2)}
    unnamed = [wnid for wnid in wnids if not words.get(wnid)]
    if unnamed:
        raise UserError(f"{path} has no name for {unnamed[0]}, which wnids.txt lists; {REMEDY}")
    return [words[wnid] for wnid in wnids]
