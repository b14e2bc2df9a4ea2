"""Split files of the WSOL evaluation benchmark (clovaai/wsolevaluation, MIT): who is in a split, and where.

A split is a folder ``<metadata_root>/<data set>/<train|val|test>`` of plain text files, one record a line:

``image_ids.txt``     path
``class_labels.txt``  path,class
``image_sizes.txt``   path,width,height
``localization.txt``  path,x0,y0,x1,y1     repeated where an image has several boxes

Paths are relative to the image folder and name the images everywhere else. Numbers are whole, without a sign of
thousands; classes count from 0, boxes lie in their image (``tedloc.data.geometry``).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tedloc.data import geometry, text_files
from tedloc.errors import UserError

SOURCE = "the `metadata` folder of https://github.com/clovaai/wsolevaluation"


@dataclass(frozen=True, eq=False)
class BenchmarkSplit:
    """One split, in the order of ``image_ids.txt``.

    ids:    N image paths
    labels: (N,) int64 class indices
    boxes:  N int64 arrays (B, 4), rows x0, y0, x1, y1 in pixels of the original image; (0, 4) if none given
    sizes:  (N, 2) int64 width, height in pixels; zeros where the split gives none (ILSVRC's training split)
    """

    ids: list[str]
    labels: np.ndarray
    boxes: list[np.ndarray]
    sizes: np.ndarray

    def take(self, index: np.ndarray) -> "BenchmarkSplit":
        """The images at these positions, in this order."""
        ids, boxes = [self.ids[i] for i in index], [self.boxes[i] for i in index]
        return BenchmarkSplit(ids, self.labels[index], boxes, self.sizes[index])


def read_split(metadata_root: str | Path, dataset: str, split: str, with_boxes: bool = True) -> BenchmarkSplit:
    """Read one split, e.g. ``read_split("wsol-metadata", "CUB", "test")``.

    Val and test need all four files; train needs ids and labels, and takes sizes and boxes if there are any.
    ``with_boxes=False`` leaves ``localization.txt`` unread and ``image_sizes.txt`` optional: for data sets
    with masks in place of boxes (OpenImages).

    Raises ``UserError`` naming the file (and the line) for a missing file, a malformed line, an image that is
    listed twice, an image that one file has and another lacks, and a size or box that cannot be one.
    """
    folder = Path(metadata_root) / dataset / split
    if not folder.is_dir():
        raise UserError(
            f"no split files for {dataset}/{split}: {folder} does not exist; put {SOURCE} at {metadata_root} "
            "(`python data_scripts/wsol_metadata.py fetch` does it for CUB and ILSVRC, 13 MB)"
        )
    place: dict[str, int] = {}
    for line, key, _ in records(folder / "image_ids.txt", columns=0):
        if fault := text_files.path_fault(key):
            raise UserError(f"{folder / 'image_ids.txt'}, line {line}: {key!r} {fault}")
        if key in place:
            raise UserError(f"{folder / 'image_ids.txt'}, line {line} lists {key!r} more than once; keep one line")
        place[key] = len(place)
    if not place:
        raise UserError(f"{folder / 'image_ids.txt'} is empty; fetch it again from {SOURCE}")
    ids = list(place)

    labels = _one_each(folder / "class_labels.txt", place, columns=1)[0][:, 0]
    if labels.min() < 0:
        raise UserError(f"{folder / 'class_labels.txt'} has a negative class; classes count from 0")
    sizes = np.zeros((len(ids), 2), dtype=np.int64)
    boxes: list[list[tuple[int, ...]]] = [[] for _ in ids]
    needed = with_boxes and split != "train"
    if needed or (folder / "image_sizes.txt").exists():
        path = folder / "image_sizes.txt"
        sizes, lines = _one_each(path, place, columns=2)
        if fault := geometry.size_fault(sizes):
            raise UserError(f"{path}, line {lines[fault[0]]}: image {ids[fault[0]]!r} {fault[1]}")
    if needed or (with_boxes and (folder / "localization.txt").exists()):
        path = folder / "localization.txt"
        found = records(path, columns=4)
        for line, key, box in found:
            boxes[_place(path, line, key, place)].append(box)
        every = np.array([box for _, _, box in found], dtype=np.int64).reshape(-1, 4)
        if fault := geometry.box_fault(every, sizes[[place[key] for _, key, _ in found]]):
            line, key, _ = found[fault[0]]
            raise UserError(f"{path}, line {line}: image {key!r}: {fault[1]}")
        boxless = next((key for key, box in zip(ids, boxes, strict=True) if not box), None)
        if needed and boxless is not None:
            raise UserError(
                f"{path} has no box for image {boxless!r}; add its line, or leave an image without an object out "
                "of all four files"
            )
    arrays = [np.array(box, dtype=np.int64).reshape(-1, 4) for box in boxes]
    return BenchmarkSplit(ids, labels, arrays, sizes)


def number_of_classes(metadata_root: str | Path, dataset: str) -> int | None:
    """How many classes the splits of a data set have together; None where that cannot be told.

    Numbers with gaps, or a single one, are of a part of a larger data set, which keeps the larger one's numbers.
    """
    found: set[int] = set()
    for path in sorted((Path(metadata_root) / dataset).glob("*/class_labels.txt")):
        found |= {values[0] for _, _, values in records(path, columns=1)}
    return len(found) if len(found) > 1 and found == set(range(len(found))) else None


def records(path: Path, columns: int) -> list[tuple[int, str, tuple[int, ...]]]:
    """(line number, image path, integers) of each line; the path may itself hold commas."""
    found = []
    for number, line in text_files.lines(path, f"fetch it from {SOURCE}"):
        key, *fields = line.rsplit(",", columns) if columns else [line]
        values = tuple(map(text_files.whole, fields))
        if len(values) != columns or None in values or not key.strip():
            raise UserError(
                f"{path}, line {number}: {line!r} is not a path and {columns} numbers separated by commas; "
                f"{_remedy(number, line, fields)}"
            )
        found.append((number, key.strip(), values))
    return found


def _remedy(number: int, line: str, fields: list[str]) -> str:
    """What is probably the matter with a line that is no record."""
    if re.fullmatch(r"[^,]*(;|\t)[^,]*", line):
        return "write commas between them"
    if any(re.fullmatch(r"\s*[+-]?\d*\.\d+([eE][+-]?\d+)?\s*", field) for field in fields):
        return "numbers are whole: pixels, not shares of the image, and classes from 0"
    if any(field.strip().lower().endswith(".png") for field in fields):
        return "masks are scored with --mask-root"
    if number == 1 and fields and not any(re.match(r"\s*[+-]?[.\d]", field) for field in fields):
        return "remove the header line"
    return f"correct it, or fetch the file again from {SOURCE}"


def _place(path: Path, line: int, key: str, place: dict[str, int]) -> int:
    """The position of an image that a line names."""
    if key not in place:
        hint = text_files.resembling(key, place)
        raise UserError(f"{path}, line {line}: image {key!r} is not in image_ids.txt beside it{hint}")
    return place[key]


def _one_each(path: Path, place: dict[str, int], columns: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, columns) int64: the one record that ``path`` holds for each image; and (N,) the line of each."""
    table = np.zeros((len(place), columns), dtype=np.int64)
    lines = np.zeros(len(place), dtype=np.int64)
    for line, key, values in records(path, columns):
        index = _place(path, line, key, place)
        if lines[index]:
            raise UserError(f"{path}, line {line}: image {key!r} has a second record; keep one")
        table[index], lines[index] = values, line
    if not lines.all():
        missing = next(key for key, line in zip(place, lines, strict=True) if not line)
        raise UserError(f"{path} has no record for image {missing!r}; add its line, or fetch the file from {SOURCE}")
    return table, lines
