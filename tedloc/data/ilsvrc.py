"""ILSVRC 2012 (1000 classes) with the benchmark's splits: val is ImageNetV2, test ILSVRC's validation images.

Below ``paths.data() / "ILSVRC"``, as the benchmark arranges it: ``train/<wnid>/*.JPEG``, ``val/*.JPEG``, and
ImageNetV2 (threshold 0.7) as ``val2/<class>/*.jpeg``. Split files of val and test:
``wsol-metadata/ILSVRC/{val,test}/``. The training split is what ``train/`` holds: nothing localises it, so it
needs no split files, and its boxes and sizes are empty and zero.

Classes are numbered by sorted wnid: so are torchvision's, timm's, the benchmark's, and open_clip's names.
"""

import os
from pathlib import Path

import numpy as np

from tedloc import paths
from tedloc.data.benchmark import BenchmarkSplit, read_split
from tedloc.data.files import FileImages, benchmark_images, holder, where
from tedloc.errors import UserError

CLASSES = 1000
ARCHIVES = {
    "test": "ILSVRC2012_img_val.tar (https://image-net.org) into val/",
    "val": "imagenetv2-threshold0.7.tar.gz (https://github.com/modestyachts/ImageNetV2) and name it val2/",
}


def open(split: str, *, seed: int = 0, per_class: int | None = None) -> FileImages:
    """Open one split: about 1,281,167 / 10,000 / 50,000 images (train / val / test).

    per_class keeps at most this many images a class, drawn by ``seed``: for trials.

    Raises ``UserError`` for missing split files or images, and says where they were looked for.
    """
    root = paths.data() / "ILSVRC"
    if split == "train":
        records = _train(root / "train")
    else:
        records = read_split(paths.data() / "wsol-metadata", "ILSVRC", split)
        holder([root], records.ids, ARCHIVES[split])
    return benchmark_images("ilsvrc", split, records, class_names(), root, per_class, seed)


def class_names() -> list[str]:
    """The 1000 names that open_clip uses in prompts, in the order of sorted wnids."""
    from open_clip import IMAGENET_CLASSNAMES  # lazily: it imports torch

    return list(IMAGENET_CLASSNAMES)


def _train(folder: Path) -> BenchmarkSplit:
    wnids = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if folder.is_dir() else []
    if len(wnids) != CLASSES:
        raise UserError(
            f"{folder} has {len(wnids)} class folders instead of {CLASSES}; extract ILSVRC2012_img_train.tar "
            f"from https://image-net.org there, each class's archive into a folder of its wnid ({where()})"
        )
    ids, labels = [], []
    for label, wnid in enumerate(wnids):
        names = sorted(entry.name for entry in os.scandir(folder / wnid) if entry.name.endswith(".JPEG"))
        ids += [f"train/{wnid}/{name}" for name in names]
        labels += [label] * len(names)
    boxes = [np.zeros((0, 4), dtype=np.int64)] * len(ids)
    sizes = np.zeros((len(ids), 2), dtype=np.int64)
    return BenchmarkSplit(ids, np.array(labels, dtype=np.int64), boxes, sizes)
