"""Box files as people have them, each format as its makers define it; told apart by the file's ending.

.json  COCO: x, y, width, height in pixels
.csv   ``image,x0,y0,x1,y1`` and, if there are any, ``class``, ``width`` and ``height`` of the photo: the corners in
       pixels, one line a box
.xml   Pascal VOC, one file a photo: first and last pixel, counted from 1
.txt   YOLO, one file a photo: class, centre and size as shares of the photo's
.png   masks, one file a photo: 0 where nothing is, every other value an object

All of them become edges in pixels from the photo's upper left corner, x1 and y1 where the box ends: a box around all of
a photo of 640 x 480 is 0, 0, 640, 480. What cannot be read is a problem; the rest of the file is read on.
"""

import csv
import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import cv2
import numpy as np

from tedloc.data import text_files
from tedloc.data.problems import Problems
from tedloc.errors import UserError

CLASSES = "classes.txt"  # YOLO's list of class names, one a line, beside the .txt files
SLACK = 1.0  # pixels that a box may lie outside its photo: tools round; it is cut there
OBJECTS = 50  # values of a mask: more of them are the smooth edges of a drawing, or a photo


Edges = tuple[float, float, float, float]


class Annotation(NamedTuple):
    """One object that a box file names.

    image:  the photo, as the file names it; for one file a photo, that file's path without its ending
    box:    x0, y0, x1, y1, edges in pixels; as shares of the photo's width and height where ``shares``
    kind:   the object's class as the file names it, or ""
    where:  file and line, for messages
    size:   the photo's width and height, if the file states them
    mask:   the mask's file, from masks
    """

    image: str
    box: Edges
    kind: str
    where: str
    size: tuple[int, int] | None = None
    shares: bool = False
    mask: Path | None = None


def read(source: Path, problems: Problems, endings: Collection[str] = ()) -> Iterator[Annotation]:
    """All objects that a box file, or every box file below a folder, names.

    endings: those to read; () for all that are known
    """
    endings = endings or READERS
    files = [source]
    if source.is_dir():
        inside = sorted(file for file in source.rglob("*") if file.name != CLASSES and not file.name.startswith("."))
        files = [file for file in inside if file.suffix.lower() in endings]
        if not files:
            problems.add(f"no box file ({', '.join(READERS)}) in a folder of boxes; put some there", str(source))
    names = _yolo_names(source)
    for file in files:
        reader = READERS.get(file.suffix.lower())
        where = str(file.relative_to(source)) if source.is_dir() else file.name
        if not file.is_file():
            problems.add("a file is missing; correct its path", str(file))
        elif reader is None:
            problems.add(f"a box file of an unknown kind; give one of {', '.join(READERS)}", str(file))
        else:
            for found in reader(file, where, problems):
                yield found._replace(kind=names.get(found.kind, found.kind)) if found.shares else found


def checked(each: Annotation, size: tuple[int, int], problems: Problems) -> Edges:
    """The box's edges in pixels, within the photo; any edges where it cannot be a box, which is a problem."""
    width, height = size
    x0, y0, x1, y1 = np.array(each.box) * (np.tile(size, 2) if each.shares else 1)
    said = f"{each.where}: {x0:g}, {y0:g}, {x1:g}, {y1:g}"
    if x1 <= x0 or y1 <= y0:
        problems.add("a box that ends before it begins (x1 <= x0 or y1 <= y0); correct or delete it", said)
        return 0.0, 0.0, 1.0, 1.0
    if min(x0, y0) < -SLACK or x1 > width + SLACK or y1 > height + SLACK:
        problems.add("a box outside its photo; correct or delete it", f"{said} of {each.image}, {width} x {height}")
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def pixels(edges: Edges, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 with both ends inside: each edge goes to the nearest border of two pixels; one pixel at least."""
    x0, y0, x1, y1 = (int(edge + 0.5) for edge in edges)
    x0, y0 = min(x0, size[0] - 1), min(y0, size[1] - 1)
    return x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)


def numbers(values: Any, count: int = 4) -> tuple[float, ...] | None:
    """``count`` finite numbers, or None."""
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def table(
    file: Path, columns: Collection[str], problems: Problems, where: str = ""
) -> Iterator[tuple[str, dict[str, str]]]:
    """(file and line, fields by column) of each line of a CSV whose first line names its columns; others are kept.

    Commas, semicolons or tabs.
    """
    where = where or file.name
    text = _text(file, problems)
    if text is None:
        return
    head = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=head.count), skipinitialspace=True)
    names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    if not set(columns) <= set(names):
        problems.add(f"a CSV whose first line does not name the columns {','.join(columns)}; write that line", where)
        return
    reader.fieldnames = names
    for row in reader:
        fields = {name: (value or "").strip() for name, value in row.items() if isinstance(value, str | None) and name}
        place = f"{where}, line {reader.line_num}"
        if not all(fields[name] for name in columns):
            problems.add(f"a line without {','.join(columns)}; complete it", place)
        else:
            yield place, fields


def _text(file: Path, problems: Problems) -> str | None:
    try:
        return text_files.read(file, "correct its path, or export it again")
    except UserError as error:
        problems.add("a file that cannot be read", str(error))
    return None


def _coco(file: Path, where: str, problems: Problems) -> Iterator[Annotation]:
    """Objects of ``annotations``; crowds (``iscrowd``) mark groups, not objects, and are left out."""
    text = _text(file, problems)
    try:
        content = json.loads(text or "{}")
        photos = {entry["id"]: entry for entry in content["images"]}
        kinds = {entry["id"]: str(entry["name"]) for entry in content.get("categories", ())}
        listed = list(content["annotations"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if text is not None:
            what = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else f"{error}"
            problems.add(
                "a .json that is not COCO's (images, annotations, categories); export it as COCO", f"{where} ({what})"
            )
        return
    for number, entry in enumerate(listed):
        place = f"{where}, annotation {entry.get('id', number) if isinstance(entry, dict) else number}"
        photo = photos.get(entry.get("image_id")) if isinstance(entry, dict) else None
        if not isinstance(photo, dict) or "file_name" not in photo:
            problems.add("a COCO annotation of an image that the file does not list; correct its image_id", place)
            continue
        if entry.get("iscrowd"):
            continue
        box = numbers(entry.get("bbox"))
        if box is None:
            problems.add("a box that is not four numbers; correct it", f"{place}: {entry.get('bbox')}")
            continue
        x, y, width, height = box
        size = numbers((photo.get("width"), photo.get("height")), 2)
        stated = (int(size[0]), int(size[1])) if size and min(size) > 0 else None
        edges = (x, y, x + width, y + height)
        yield Annotation(str(photo["file_name"]), edges, kinds.get(entry.get("category_id"), ""), place, stated)


def _csv(file: Path, where: str, problems: Problems) -> Iterator[Annotation]:
    for place, fields in table(file, ("image", "x0", "y0", "x1", "y1"), problems, where):
        box = numbers(fields[name] for name in ("x0", "y0", "x1", "y1"))
        if box is None:
            problems.add("a box that is not four numbers; correct it", place)
        else:
            size = numbers((fields.get("width"), fields.get("height")), 2)
            stated = (int(size[0]), int(size[1])) if size and min(size) > 0 else None
            yield Annotation(fields["image"], box, fields.get("class", ""), place, stated)


def _voc(file: Path, where: str, problems: Problems) -> Iterator[Annotation]:
    """The photo is the one that the file is named after; its own ``filename`` is often that of another computer."""
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError, ValueError) as error:
        problems.add("an .xml that cannot be read; export it again", f"{where} ({error})")
        return
    size = numbers((root.findtext("size/width"), root.findtext("size/height")), 2)
    stated = (int(size[0]), int(size[1])) if size and min(size) > 0 else None
    for number, entry in enumerate(root.iter("object"), start=1):
        box = numbers(entry.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax"))
        place = f"{where}, object {number}"
        if box is None:
            problems.add("a box that is not four numbers; correct it", place)
        else:
            edges = (box[0] - 1, box[1] - 1, box[2], box[3])
            yield Annotation(_stem(where), edges, entry.findtext("name") or "", place, stated)


def _yolo(file: Path, where: str, problems: Problems) -> Iterator[Annotation]:
    for number, line in enumerate((_text(file, problems) or "").splitlines(), start=1):
        fields, place = line.split(), f"{where}, line {number}"
        box = numbers(fields[1:])
        if box is None and fields:
            problems.add("a YOLO line that is not a class and four numbers; correct it", place)
        elif box is not None:
            x, y, width, height = box
            edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            yield Annotation(_stem(where), edges, fields[0], place, shares=True)


def _yolo_names(source: Path) -> dict[str, str]:
    """Class names by their number, from ``classes.txt``; empty where there is none."""
    file = (source if source.is_dir() else source.parent) / CLASSES
    lines = text_files.read(file, "correct it").splitlines() if file.is_file() else []
    return {str(number): name.strip() for number, name in enumerate(lines)}


def _masks(file: Path, where: str, problems: Problems) -> Iterator[Annotation]:
    """A box around all pixels of each value but 0; none where the mask is empty."""
    try:
        values = mask_values(file)
    except (OSError, SyntaxError, ValueError) as error:
        problems.add("a mask that cannot be read; save it again", f"{where} ({error})")
        return
    found = [value for value in np.unique(values) if value]
    if len(found) > OBJECTS:
        problems.add(
            f"a mask of more than {OBJECTS} values; a mask is 0 where nothing is and has one value an object",
            f"{where} ({len(found):,})",
        )
        return
    for value in found:
        x, y, width, height = cv2.boundingRect((values == value).astype(np.uint8))
        yield Annotation(_stem(where), (x, y, x + width, y + height), "", where, values.shape[::-1], mask=file)


def mask_values(file: Path) -> np.ndarray:
    """(H, W) of integers: a mask's values; three colours count as one number, transparency is not looked at."""
    from PIL import Image  # here: box files are read without it, where only maps are scored

    with Image.open(file) as image:
        values = np.asarray(image.convert("RGB") if image.mode in ("RGBA", "CMYK") else image)
    if values.ndim == 3:
        values = values[..., :3].astype(np.int64) @ (1, 256, 65536) if values.shape[2] > 2 else values[..., 0]
    return values.astype(np.int64)


def _stem(where: str) -> str:
    return where.rpartition(".")[0]


READERS = {".json": _coco, ".csv": _csv, ".xml": _voc, ".txt": _yolo, ".png": _masks}
