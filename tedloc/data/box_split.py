"""A split from one file of boxes, COCO or CSV, where there is no folder of the benchmark's lists.

Every image that the file has a box of belongs to the split, with all of its boxes. The file states each image's size:
COCO does, a CSV does in the columns ``width`` and ``height``.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tedloc.data import box_files, geometry, text_files
from tedloc.data.benchmark import BenchmarkSplit
from tedloc.data.problems import Problems
from tedloc.errors import UserError

SUFFIXES = (".json", ".csv")


class BoxSplit(NamedTuple):
    """split: the images in the order of their first boxes, labels -1 where there is no one class; classes: how many
    there are, None if unknown; names: image id of COCO -> image."""

    split: BenchmarkSplit
    classes: int | None
    names: dict[int | str, str]


def read(file: Path, labelled: bool = False) -> BoxSplit:
    """All images and boxes of ``boxes.json`` (COCO) or ``boxes.csv``.

    labelled: classes are needed, one an image. COCO's are numbered in the order of their ids, a CSV holds numbers

    Raises one ``UserError`` that names all that is wrong in the file.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f"{file} is no .json (COCO) or .csv; give a file of boxes of one of these kinds")
    problems = Problems(file)
    images: dict[str, list[box_files.Annotation]] = {}
    for each in box_files.read(file, problems):
        images.setdefault(text_files.composed(each.image).removeprefix("./"), []).append(each)
    names, kinds = _tables(file) if file.suffix.lower() == ".json" and not problems.found else ({}, None)
    labels, boxes, sizes = [], [], []
    for image, found in images.items():
        stated = {each.size for each in found}
        size = stated.pop() if len(stated) == 1 else None
        if fault := text_files.path_fault(image):
            problems.add(f"a name that {fault}", f"{image} ({found[0].where})")
        if size is None:
            problems.add(
                "an image without one size; state it, in a CSV by columns width and height",
                f"{image} ({found[0].where})",
            )
            continue
        if fault := geometry.size_fault(np.array([size])):
            problems.add(f"an image that {fault[1]}", f"{image} ({found[0].where})")
        edges = [box_files.checked(each, size, problems) for each in found]
        boxes.append(np.array([box_files.pixels(edge, size) for edge in edges], np.int64))
        sizes.append(size)
        labels.append(_label(image, found, kinds, problems if labelled else None))
    if not images and not problems.found:
        problems.add("no box; a split has one of every image", file.name)
    problems.check()
    split = BenchmarkSplit(list(images), np.array(labels, np.int64), boxes, np.array(sizes, np.int64).reshape(-1, 2))
    return BoxSplit(split, len(kinds) if kinds else None, names)


def _tables(file: Path) -> tuple[dict[int | str, str], list[str]]:
    """Image id -> name, and the names of categories in the order of their ids, of a COCO file that was read before."""
    content = json.loads(text_files.read(file, "correct it"))
    names = {
        entry["id"]: text_files.composed(str(entry["file_name"])).removeprefix("./") for entry in content["images"]
    }
    categories = sorted(content.get("categories", ()), key=lambda entry: entry["id"])
    return names, [str(entry["name"]) for entry in categories]


def _label(image: str, found: list[box_files.Annotation], kinds: list[str] | None, problems: Problems | None) -> int:
    """The class of an image's boxes; -1 where that is not one, which is a problem if there are ``problems``."""
    named = sorted({each.kind for each in found})
    number = kinds.index(named[0]) if kinds and named[0] in kinds else text_files.whole(named[0])
    if len(named) == 1 and number is not None and number >= 0:
        return number
    if problems is not None and len(named) > 1:
        problems.add("an image with boxes of two classes; Top-k needs one", f"{image} ({', '.join(named)})")
    elif problems is not None:
        problems.add("a box without the number of its class, which --scores needs; write it", found[0].where)
    return -1
