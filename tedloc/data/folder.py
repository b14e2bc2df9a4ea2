"""A folder of photos as people have it: one folder a class, boxes in any common format, no lists to write.

    python -m tedloc.data describe --data.root photos      # a look at it; problems by name

``root/cats/*.jpg``, or ``root/train/cats/*.jpg`` beside ``val`` and ``test``; at any depth below a class. Hidden files
are passed over, links followed. These lie in ``root`` too, or elsewhere and are named by a setting:

``boxes.*, masks/``  where the objects are: ``boxes.csv``, ``boxes.json``, ``boxes/`` or ``masks/`` (``data.boxes``;
                     formats: ``tedloc.data.box_files``)
``classes.csv``      ``folder,name,synonyms``: names for the prompt; without it the folder's, blanks for underscores.
                     Synonyms, separated by semicolons, are further names that a box file may use (``data.classes``)
``splits.csv``       ``image,split`` for every photo (``data.splits``, which may also be shares in percent,
                     ``70/15/15``)

Without folders or a list, splits are drawn class by class, the same on every machine: photos by the hash of seed and
path, the first ones are test, the next val. Where only some photos have boxes, test and val are drawn from those.
Where one of the folders ``val`` and ``test`` is missing, the two share the other's photos half and half.

Boxes choose a threshold on val and score on test; a split may have none, but not for some of its photos only. Photos
are turned as their EXIF tag asks, and boxes are those of the photo so shown. Where the box file states the photo's
size (COCO, VOC, masks) and it is that of the photo as stored, the boxes are turned with it. A box of another class of
the data set than its photo's is not used.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tedloc.data import SPLITS
from tedloc.data.box_files import mask_values, read, table
from tedloc.data.box_matching import Matched, match, word
from tedloc.data.files import FileImages, limited
from tedloc.data.folder_splits import assign
from tedloc.data.images import TURNS
from tedloc.data.photo_files import BESIDE, Photo, find
from tedloc.data.problems import Problems
from tedloc.data.text_files import composed
from tedloc.errors import UserError, choose

BOXES = ("boxes.csv", "boxes.json", *BESIDE)


@dataclass(frozen=True, eq=False)
class FolderImages(FileImages):
    """One split of a folder.

    photos: N headers; masks: N files or None where boxes do not come from masks; as_stored: (N,) bool, whether the mask
    is of the photo before it was turned; notes: what was decided for the whole folder, in sentences
    """

    photos: list[Photo]
    masks: list[Path | None]
    as_stored: np.ndarray
    notes: list[str]

    def mask(self, index: int) -> np.ndarray | None:
        if self.masks[index] is None:
            return None
        mask = mask_values(self.masks[index]) > 0
        turn = TURNS.get(self.photos[index].orientation) if self.as_stored[index] else None
        return mask if turn is None else turn(mask[..., None])[..., 0]

    def files(self) -> list[str]:
        return super().files() + sorted(os.path.relpath(mask, self.folder) for mask in set(self.masks) - {None})


@dataclass(frozen=True, eq=False)
class Folder:
    """All splits: photos, their label, their split, their boxes."""

    root: Path
    photos: list[Photo]
    labels: np.ndarray
    splits: np.ndarray
    class_names: list[str]
    matched: Matched
    notes: list[str]


def open(
    split: str,
    *,
    root: str | None = None,
    boxes: str | None = None,
    classes: str | None = None,
    splits: str | None = None,
    seed: int = 0,
    per_class: int | None = None,
    unreadable: str = "fatal",
) -> FolderImages:
    """Open one split.

    root:      the folder; boxes, classes, splits: see above
    seed:      of the hash that draws splits, and of per_class, which keeps at most so many photos a class

    Raises one ``UserError`` that names all that is wrong in the folder and its files.
    """
    choose("split", split, SPLITS)
    if root is None:
        raise UserError("data set 'folder' needs to know which: give --data.root FOLDER")
    if unreadable != "fatal":
        raise UserError("data.unreadable is for archives; `describe` names the photos that cannot be read: delete them")
    whole = scan(root, boxes, classes, splits, seed)
    here = np.flatnonzero(whole.splits == split)
    here = here[limited([whole.photos[i].id for i in here], whole.labels[here], per_class, seed)]
    photos = [whole.photos[i] for i in here]
    return FolderImages(
        name="folder",
        split=split,
        ids=[photo.id for photo in photos],
        labels=whole.labels[here],
        boxes=[whole.matched.boxes[i] for i in here],
        sizes=np.array([photo.size for photo in photos], np.int64).reshape(-1, 2),
        class_names=whole.class_names,
        folder=whole.root,
        photos=photos,
        masks=[whole.matched.masks[i] for i in here],
        as_stored=whole.matched.stored[here],
        notes=whole.notes,
    )


@functools.lru_cache(maxsize=2)
def scan(root: str, boxes: str | None, classes: str | None, splits: str | None, seed: int) -> Folder:
    """Look at all of a folder once; see :func:`open`."""
    place = Path(root).expanduser().absolute()
    if not place.is_dir():
        raise UserError(f"data.root {place} is {'no folder' if place.exists() else 'not there'}; correct the path")
    problems, notes = Problems(place), []
    source = _source(place, boxes, problems)
    photos = find(place, source.resolve() if source else None, problems)
    folders = sorted({photo.folder for photo in photos})
    names, words = _classes(place, folders, classes, problems)
    labels = np.array([folders.index(photo.folder) for photo in photos], np.int64)
    endings = (".xml", ".txt") if source and source.resolve() == place.resolve() else ()  # beside the photos
    found = match(read(source, problems, endings) if source else (), photos, labels, words, problems)
    notes.append(_about_boxes(source, found))
    boxed = np.array([len(each) > 0 for each in found.boxes], bool)
    assigned = assign(place, photos, labels, boxed, splits, seed, problems, notes)
    for split in SPLITS if all(assigned) else ():  # otherwise that is the problem
        here = assigned == split
        counts = np.bincount(labels[here], minlength=len(folders))
        for label in np.flatnonzero(counts == 0):
            problems.add("a class without a photo in a split; add some there", f"{folders[label]} in {split}")
        for i in np.flatnonzero(here & ~boxed) if split != "train" and (here & boxed).any() else ():
            kind = f"a photo of {split} without a box of its class, where others have one; box all of the split or none"
            problems.add(kind, photos[i].id)
    problems.check()
    return Folder(place, photos, labels, assigned, names, found, notes)


def _source(root: Path, boxes: str | None, problems: Problems) -> Path | None:
    """Where boxes come from: the setting's, or what lies in the folder under a name that says so."""
    if boxes is not None:
        return Path(boxes).expanduser().absolute()
    there = [root / name for name in BOXES if (root / name).exists()]
    if len(there) > 1:
        problems.add("more than one source of boxes; name one by --data.boxes", ", ".join(each.name for each in there))
    return there[0] if there else None


def _classes(
    root: Path, folders: list[str], classes: str | None, problems: Problems
) -> tuple[list[str], dict[str, int]]:
    """Names for the prompt, and every name that a box file may use, with its class."""
    if len(folders) == 1:
        problems.add("only one class; a classifier needs two", folders[0])
    names = [folder.replace("_", " ") for folder in folders]
    others: list[list[str]] = [[] for _ in folders]
    file = Path(classes).expanduser() if classes else root / "classes.csv"
    if classes or file.exists():
        for where, fields in table(file, ("folder", "name"), problems):
            if composed(fields["folder"]) not in folders:
                problems.add(
                    "a class list names a folder that is not there; correct it", f"{fields['folder']} ({where})"
                )
                continue
            label = folders.index(composed(fields["folder"]))
            names[label] = fields["name"]
            others[label] = [each for each in fields.get("synonyms", "").split(";") if each.strip()]
    words: dict[str, int] = {}
    for label, folder in enumerate(folders):
        for each in dict.fromkeys(map(word, (folder, names[label], *others[label]))):
            if words.setdefault(each, label) != label:
                kind = "two classes with one name, but for capitals and underscores; rename one"
                problems.add(kind, f"{folders[words[each]]} and {folder} ({each})")
    return names, words


def _about_boxes(source: Path | None, found: Matched) -> str:
    if source is None:
        return f"Boxes: none; they would be read from {', '.join(BOXES)}, or from where --data.boxes says."
    counts = np.array([len(each) for each in found.boxes], np.int64)
    turned = int((found.stored & (counts > 0)).sum())
    return (
        f"Boxes: {counts.sum():,} of {(counts > 0).sum():,} photos from {source.name}"
        + (f"; those of {turned:,} photos were drawn before the photo was turned, and turned with it" if turned else "")
        + (f"; {found.other:,} of another class than their photo's left out" if found.other else "")
        + "."
    )
