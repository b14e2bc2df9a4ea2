"""ILSVRC 2012 (1000 classes) with the benchmark's splits: val is ImageNetV2, test ILSVRC's validation images.

Below ``paths.data() / "ILSVRC"``, as the benchmark arranges it: ``train/<wnid>/*.JPEG``, ``val/*.JPEG``, and
ImageNetV2 (threshold 0.7) as ``val2/<class>/*.jpeg``. Split files of val and test:
``wsol-metadata/ILSVRC/{val,test}/``. The training split is what ``train/`` holds: nothing localises it, so it
needs no split files, and its boxes and sizes are empty and zero.

Classes are numbered by sorted wnid: so are torchvision's, timm's, the benchmark's, and open_clip's names.

For trials, a file ``wnids.txt`` beside the folders, one wnid a line, restricts all splits to its classes:
they are numbered anew, and images of other classes need not be there. Without it all 1000 must be.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tedloc import paths
from tedloc.data import text_files
from tedloc.data.benchmark import BenchmarkSplit, read_split
from tedloc.data.files import FileImages, benchmark_images, holder, where
from tedloc.errors import UserError

OF_IMAGENET = True
CLASSES = 1000
PHOTOS = (".jpeg", ".jpg", ".png")
ARCHIVES = {
    "train": "ILSVRC2012_img_train.tar (138 GB, from https://image-net.org; `python data_scripts/ilsvrc.py "
    "prepare` arranges it)",
    "test": "ILSVRC2012_img_val.tar (6.3 GB, from https://image-net.org; `python data_scripts/ilsvrc.py "
    "prepare` arranges it) into val/",
    "val": "imagenetv2-threshold0.7.tar.gz (1.25 GB; `python data_scripts/ilsvrc.py fetch` does it) and name it val2/",
}
# open_clip calls both missiles "missile" and both classes of sunglasses "sunglasses". Two classes with one
# name would have one anchor, and the second could never be predicted; these are WordNet's names of the two.
RENAMED = {744: "projectile", 836: "sunglass"}


@dataclass(frozen=True, eq=False)
class IlsvrcImages(FileImages):
    """One split. wnids: K WordNet ids in the order of the labels."""

    wnids: list[str]


def open(split: str, *, seed: int = 0, per_class: int | None = None, unreadable: str = "fatal") -> IlsvrcImages:
    """Open one split: about 1,281,167 / 10,000 / 50,000 images (train / val / test).

    per_class keeps at most this many images a class, drawn by ``seed``: for trials.
    unreadable: ``skip`` leaves out training images that ``verify`` could not read
    (``tedloc.data.files.readable``).

    Raises ``UserError`` for missing split files or images, and says where they were looked for.
    """
    root = paths.data() / "ILSVRC"
    official = all_wnids()
    wnids = kept_wnids(root, official)
    place = {wnid: index for index, wnid in enumerate(official)}
    classes = [place[wnid] for wnid in wnids]
    if split == "train":
        records = _train(root / "train", wnids, official)
    else:
        records = _of_classes(read_split(paths.data() / "wsol-metadata", "ILSVRC", split), classes)
        holder([root], records.ids, ARCHIVES[split])
    every = class_names()
    names = [every[index] for index in classes]
    return benchmark_images(
        "ilsvrc", split, records, names, root, per_class, seed, unreadable, IlsvrcImages, wnids=wnids, upright=False
    )


def class_names() -> list[str]:
    """The 1000 names that open_clip uses in prompts, made distinct, in the order of sorted wnids."""
    from open_clip import IMAGENET_CLASSNAMES  # lazily: it imports torch

    return [RENAMED.get(index, name) for index, name in enumerate(IMAGENET_CLASSNAMES)]


def all_wnids() -> list[str]:
    """The 1000 wnids, sorted."""
    from timm.data import ImageNetInfo  # lazily: it imports torch

    return ImageNetInfo("imagenet-1k").label_names()


def kept_wnids(root: Path, official: list[str]) -> list[str]:
    """The classes that the data set is restricted to: those of ``wnids.txt``, all without it. Sorted."""
    path = root / "wnids.txt"
    if not path.exists():
        return official
    wnids = sorted({wnid for _, line in text_files.lines(path, "correct it") for wnid in line.split()})
    unknown = sorted(set(wnids) - set(official))
    if unknown or not wnids:
        raise UserError(
            f"{path} lists {unknown[0] + ', which is no class of ILSVRC' if unknown else 'no class'}; "
            "correct it, or remove it for all 1000 classes"
        )
    return wnids


def _train(folder: Path, wnids: list[str], official: list[str]) -> BenchmarkSplit:
    """What lies in the class folders. Hidden files and folders are passed over; links are followed."""
    inside = (entry for entry in os.scandir(folder) if entry.is_dir()) if folder.is_dir() else ()
    found = {entry.name for entry in inside if not entry.name.startswith(".")}
    others = sorted(found - set(official))
    hint = f" (it has {others[0]}, which is no class of ILSVRC: move it away, or give it its wnid)" if others else ""
    if len(wnids) == CLASSES and len(found) != CLASSES:
        remedy = "" if len(found) > CLASSES else f"; extract {ARCHIVES['train']} there, each class's archive into a "
        raise UserError(
            f"{folder} has {len(found)} class folders instead of {CLASSES}{hint}"
            + (f"{remedy}folder of its wnid ({where()})" if remedy else "")
        )
    if lacking := sorted(set(wnids) - found):
        raise UserError(
            f"{folder} lacks {len(lacking)} of {len(wnids)} class folders, first {lacking[0]}{hint}; "
            f"extract {ARCHIVES['train']} again ({where()})"
        )
    ids, labels = [], []
    for label, wnid in enumerate(wnids):
        every = sorted(entry.name for entry in os.scandir(folder / wnid) if not entry.name.startswith("."))
        names = [name for name in every if _proper(name)]
        odd = next((name for name in every if name.lower().endswith(PHOTOS) and not _proper(name)), None)
        if odd:
            raise UserError(
                f"{folder / wnid} holds {odd!r}, where ILSVRC's photos end in .JPEG; extract the official archive, or "
                "rename its files"
            )
        ids += [f"train/{wnid}/{name}" for name in names]
        labels += [label] * len(names)
    boxes = [np.zeros((0, 4), dtype=np.int64)] * len(ids)
    sizes = np.zeros((len(ids), 2), dtype=np.int64)
    return BenchmarkSplit(ids, np.array(labels, dtype=np.int64), boxes, sizes)


def _proper(name: str) -> bool:
    """Whether a file is named as a photo of ILSVRC; one with a line break in its name would spoil every list."""
    return name.endswith(".JPEG") and name.isprintable()


def _of_classes(records: BenchmarkSplit, classes: list[int]) -> BenchmarkSplit:
    """The images of these classes, which are numbered anew in this order."""
    if len(classes) == CLASSES:
        return records
    new = np.full(CLASSES, -1)
    new[classes] = np.arange(len(classes))
    kept = records.take(np.flatnonzero(new[records.labels] >= 0))
    if not kept.ids:
        raise UserError("no image of the split is of a class of ILSVRC/wnids.txt; correct or remove that file")
    return BenchmarkSplit(kept.ids, new[kept.labels], kept.boxes, kept.sizes)
