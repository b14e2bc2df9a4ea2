"""Split files of the WSOL evaluation benchmark (clovaai/wsolevaluation, MIT): who is in a split, and where.

A split is a folder ``<metadata_root>/<data set>/<train|val|test>`` of plain text files, one record a line:

``image_ids.txt``     path
``class_labels.txt``  path,class
``image_sizes.txt``   path,width,height
``localization.txt``  path,x0,y0,x1,y1     repeated where an image has several boxes

Paths are relative to the image folder and name the images everywhere else.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
    listed twice, or an image that one file has and another lacks.
    """
    folder = Path(metadata_root) / dataset / split
    if not folder.is_dir():
        raise UserError(
            f"no split files for {dataset}/{split}: {folder} does not exist; put {SOURCE} at {metadata_root} "
            "(`python data_scripts/wsol_metadata.py fetch` does it for CUB and ILSVRC, 13 MB)"
        )
    ids = [key for _, key, _ in _records(folder / "image_ids.txt", columns=0)]
    place = {key: index for index, key in enumerate(ids)}
    if len(place) < len(ids):
        repeated = next(key for index, key in enumerate(ids) if place[key] != index)
        raise UserError(f"{folder / 'image_ids.txt'} lists {repeated!r} more than once; fetch the file again")
    if not ids:
        raise UserError(f"{folder / 'image_ids.txt'} is empty; fetch it again from {SOURCE}")

    labels = _one_each(folder / "class_labels.txt", place, columns=1)[:, 0]
    if labels.min() < 0:
        raise UserError(f"{folder / 'class_labels.txt'} has a negative class; fetch it again from {SOURCE}")
    sizes = np.zeros((len(ids), 2), dtype=np.int64)
    boxes: list[list[tuple[int, ...]]] = [[] for _ in ids]
    needed = with_boxes and split != "train"
    if needed or (folder / "image_sizes.txt").exists():
        sizes = _one_each(folder / "image_sizes.txt", place, columns=2)
    if needed or (with_boxes and (folder / "localization.txt").exists()):
        path = folder / "localization.txt"
        for line, key, box in _records(path, columns=4):
            if key not in place:
                raise UserError(f"{path}, line {line}: image {key!r} is not in image_ids.txt beside it")
            if box[2] < box[0] or box[3] < box[1]:
                raise UserError(f"{path}, line {line}: the box of {key!r} is turned over (x1 < x0 or y1 < y0)")
            boxes[place[key]].append(box)
        boxless = next((key for key, box in zip(ids, boxes, strict=True) if not box), None)
        if needed and boxless is not None:
            raise UserError(f"{path} has no box for image {boxless!r}; fetch it again from {SOURCE}")
    arrays = [np.array(box, dtype=np.int64).reshape(-1, 4) for box in boxes]
    return BenchmarkSplit(ids, labels, arrays, sizes)


def _records(path: Path, columns: int) -> list[tuple[int, str, tuple[int, ...]]]:
    """(line number, image path, integers) of each line; the path may itself hold commas."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"split file {path} is missing; fetch it from {SOURCE}") from None
    except UnicodeDecodeError:
        raise UserError(f"split file {path} is not text; fetch it again from {SOURCE}") from None
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        key, *fields = line.strip().rsplit(",", columns) if columns else [line.strip()]
        try:
            values = tuple(int(float(field)) for field in fields)
        except (ValueError, OverflowError):
            values = ()
        if len(values) != columns or not key:
            raise UserError(
                f"{path}, line {number}: {line.strip()!r} is not a path and {columns} numbers "
                f"separated by commas; fetch the file again from {SOURCE}"
            )
        records.append((number, key, values))
    return records


def _one_each(path: Path, place: dict[str, int], columns: int) -> np.ndarray:
    """(N, columns) int64: the one record that ``path`` holds for each image."""
    table = np.zeros((len(place), columns), dtype=np.int64)
    seen = set()
    for line, key, values in _records(path, columns):
        if key not in place:
            raise UserError(f"{path}, line {line}: image {key!r} is not in image_ids.txt beside it")
        if key in seen:
            raise UserError(f"{path}, line {line}: image {key!r} has a second record")
        seen.add(key)
        table[place[key]] = values
    if len(seen) < len(place):
        missing = next(key for key in place if key not in seen)
        raise UserError(f"{path} has no record for image {missing!r}; fetch it again from {SOURCE}")
    return table
