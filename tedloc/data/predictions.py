"""What was predicted of many photos: a journal that an interrupted command goes on from, and formats people ask for.

The journal, ``predictions.jsonl``, is the result itself: a first line that says by which model and settings, then one
line a photo, written as soon as it is known. Every other file is made from it.

json  ``NAME.json``: the photo's line of the journal, with the model
csv   ``predictions.csv``: image, box, class, score, one line a box; reads as a box file
coco  ``predictions.json``: images, annotations with a score, categories; reads as a box file
voc   ``NAME.xml``, one file a photo; reads as a box file

A photo without a box (nothing was found, or the answer was refused) is in the journal, in COCO's images, as an .xml
without an object and as a .json whose box is null; in the CSV it is not.
"""

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tedloc import paths
from tedloc.errors import UserError

JOURNAL = "predictions.jsonl"
FORMATS = ("json", "csv", "coco", "voc")
COLUMNS = ("image", "x0", "y0", "x1", "y1", "class", "score", "softmax", "familiarity")


class Journal:
    """The lines of a folder's journal, by photo.

    about: what all of its lines have in common, ready for JSON; a journal of anything else is refused unless ``force``

    Raises ``UserError`` for one of other settings, or a damaged one.
    """

    def __init__(self, folder: Path, about: dict[str, Any], force: bool = False):
        self.file, self.about = folder / JOURNAL, about
        self.stories: dict[str, dict[str, Any]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if self.file.exists() and not force:
            self._read()
        kept = [json.dumps(each, ensure_ascii=False) for each in (about, *self.stories.values())]
        with paths.replacing(self.file) as scratch:  # without a last line that was cut off
            scratch.write_text("\n".join(kept) + "\n", encoding="utf-8")

    def _read(self) -> None:
        first, *lines = self.file.read_text(encoding="utf-8").splitlines() or [""]
        try:
            theirs = json.loads(first)
            stories = [json.loads(line) for line in lines[:-1]]
            self.stories = {story["image"]: story for story in stories}
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self.file} is damaged; delete it, or give another folder by --out") from None
        other = [name for name in self.about if theirs.get(name) != self.about[name]]
        if other:
            said = ", ".join(f"{name} {theirs.get(name)} there, {self.about[name]} now" for name in other)
            raise UserError(
                f"{self.file} holds results of other settings ({said}); give another folder by --out, or --force to "
                "replace them"
            )
        try:
            last = json.loads(lines[-1]) if lines else {}
            self.stories |= {last["image"]: last} if last else {}
        except ValueError:
            pass  # the line that was being written when the command was killed

    def add(self, story: dict[str, Any]) -> None:
        """Keep what is said of one photo."""
        self.stories[story["image"]] = story
        with open(self.file, "a", encoding="utf-8") as opened:
            opened.write(json.dumps(story, ensure_ascii=False) + "\n")


def write(kind: str, stories: dict[Path, dict[str, Any]], class_names: list[str], about: dict[str, Any], folder: Path):
    """Write predictions into ``folder`` in one of ``FORMATS``.

    stories: by name within the folder, without an ending; about: what they have in common
    """
    if kind == "json":
        for name, story in stories.items():
            _write(folder / f"{name}.json", json.dumps(story | about, indent=1, ensure_ascii=False) + "\n")
    elif kind == "voc":
        for name, story in stories.items():
            _write(folder / f"{name}.xml", voc(story))
    elif kind == "coco":
        _write(folder / "predictions.json", json.dumps(coco(list(stories.values()), class_names, about), indent=1))
    else:
        with paths.replacing(folder / "predictions.csv") as scratch:
            with open(scratch, "w", encoding="utf-8", newline="") as opened:
                lines = csv.writer(opened)
                lines.writerow(COLUMNS)
                for story in stories.values():
                    if story["box"]:
                        best = story["classes"][0]
                        row = [story["image"], *story["box"], best["name"], best["score"], best["softmax"]]
                        lines.writerow([*row, story["familiarity"]])


def _write(file: Path, text: str) -> None:
    with paths.replacing(file) as scratch:
        scratch.write_text(text, encoding="utf-8")


def coco(stories: list[dict[str, Any]], class_names: list[str], about: dict[str, Any]) -> dict[str, Any]:
    """A COCO file; ids count from 1, a category is a class."""
    images, annotations = [], []
    for number, story in enumerate(stories, start=1):
        images.append({"id": number, "file_name": story["image"], "width": story["width"], "height": story["height"]})
        if story["box"]:
            x0, y0, x1, y1 = story["box"]
            best = story["classes"][0]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": best["index"] + 1,
                    "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
                    "area": round((x1 - x0) * (y1 - y0), 2),
                    "iscrowd": 0,
                    "score": best["softmax"],
                }
            )
    categories = [{"id": k, "name": name} for k, name in enumerate(class_names, start=1)]
    return {"info": about, "images": images, "annotations": annotations, "categories": categories}


def voc(story: dict[str, Any]) -> str:
    """A Pascal VOC file: whole pixels, counted from 1, both ends inside."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = Path(story["image"]).name
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", story["width"]), ("height", story["height"]), ("depth", 3)):
        ElementTree.SubElement(size, name).text = str(value)
    if story["box"]:
        thing = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(thing, "name").text = story["classes"][0]["name"]
        box = ElementTree.SubElement(thing, "bndbox")
        x0, y0, x1, y1 = (int(edge + 0.5) for edge in story["box"])
        for name, value in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", max(x1, x0 + 1)), ("ymax", max(y1, y0 + 1))):
            ElementTree.SubElement(box, name).text = str(value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
