"""Predictions that are boxes instead of maps: one an image, the one with the highest score where a file has more.

.json  COCO results, a list of ``image_id``, ``bbox`` (x, y, width, height) and ``score``; or a COCO file whose
       annotations have a ``score``, as ``tedloc.predict`` writes it
.csv   ``image,x0,y0,x1,y1`` and, where an image has several, ``score``
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tedloc.data import box_files, text_files
from tedloc.data.benchmark import BenchmarkSplit
from tedloc.data.problems import Problems
from tedloc.errors import UserError


def read(file: Path, split: BenchmarkSplit, names: Mapping[int | str, str]) -> np.ndarray:
    """(N, 4) float64: each image's best box as edges x0, y0, x1, y1 in its pixels, NaN where the file has none.

    names: image id of the truth's COCO file -> image; an id that is not there is the image's name itself

    Raises one ``UserError`` that names all that is wrong in the file.
    """
    problems = Problems(file)
    readers = {".json": _coco, ".csv": _csv}
    if (reader := readers.get(file.suffix.lower())) is None:
        raise UserError(f"{file} is no .json (COCO results) or .csv; give predicted boxes as one of these")
    place = {name: index for index, name in enumerate(split.ids)}
    best: dict[int, tuple[float, tuple[float, ...], box_files.Edges]] = {}  # score, box as written, box in the image
    tied: dict[int, str] = {}
    for where, image, box, score in reader(file, names, problems):
        index = place.get(text_files.composed(image).removeprefix("./"))
        if index is None:
            problems.add("a box of an image that is not in this split; correct its name", f"{image} ({where})")
            continue
        known = best.get(index)
        if known is not None and score == known[0] and box != known[1]:
            tied[index] = where
        elif known is None or score > known[0]:
            width, height = split.sizes[index]
            found = box_files.Annotation(image, box, "", where)
            best[index] = score, box, box_files.checked(found, (int(width), int(height)), problems)
            tied.pop(index, None)
    for index, where in tied.items():
        problems.add("an image with two best boxes; give each box a score of its own", f"{split.ids[index]} ({where})")
    problems.check()
    predicted = np.full((len(split.ids), 4), np.nan)
    for index, (_, _, edges) in best.items():
        predicted[index] = edges
    return predicted


def _coco(
    file: Path, names: Mapping[int | str, str], problems: Problems
) -> Iterator[tuple[str, str, tuple[float, ...], float]]:
    try:
        content = json.loads(text_files.read(file, "correct its path"))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}, line {error.lineno} is not JSON ({error.msg}); export it again") from None
    if isinstance(content, dict):
        try:
            names = {entry["id"]: str(entry["file_name"]) for entry in content["images"]}
            content = content["annotations"]
        except (KeyError, TypeError):
            content = None
    if not isinstance(content, list):
        raise UserError(f"{file} holds no list of predicted boxes; write COCO results, or a COCO file with scores")
    for number, entry in enumerate(content, start=1):
        where = f"entry {number}"
        entry = entry if isinstance(entry, dict) else {}
        box, score = box_files.numbers(entry.get("bbox")), box_files.numbers([entry.get("score")], 1)
        if box is None or score is None or "image_id" not in entry:
            problems.add("an entry without image_id, bbox (four numbers) and score; complete it", where)
            continue
        x, y, width, height = box
        yield where, _name(entry["image_id"], names), (x, y, x + width, y + height), score[0]


def _name(image_id: Any, names: Mapping[int | str, str]) -> str:
    return str(names.get(image_id, image_id)) if isinstance(image_id, int | str) else str(image_id)


def _csv(
    file: Path, names: Mapping[int | str, str], problems: Problems
) -> Iterator[tuple[str, str, tuple[float, ...], float]]:
    for where, fields in box_files.table(file, ("image", "x0", "y0", "x1", "y1"), problems):
        box = box_files.numbers(fields[name] for name in ("x0", "y0", "x1", "y1"))
        score = box_files.numbers([fields.get("score") or 0], 1)
        if box is None or score is None:
            problems.add("a box or a score that is no number; correct it", where)
        else:
            yield where, fields["image"], box, score[0]
