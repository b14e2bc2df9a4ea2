"""Which photo a box belongs to, and whether it can be a box of it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tedloc.data.box_files import Annotation, Edges, checked, pixels
from tedloc.data.photo_files import Photo
from tedloc.data.problems import Problems
from tedloc.data.text_files import composed


class Matched(NamedTuple):
    """By photo: boxes, int64 (B, 4) in pixels as shown, both ends inside; the mask's file or None; stored, (N,) bool,
    whether they were drawn before the photo was turned. other: number of boxes left out because they are of another
    class than their photo's."""

    boxes: list[np.ndarray]
    masks: list[Path | None]
    stored: np.ndarray
    other: int


def match(
    annotations: Iterable[Annotation],
    photos: Sequence[Photo],
    labels: np.ndarray,
    words: dict[str, int],
    problems: Problems,
) -> Matched:
    """Give every box to its photo.

    A box file may name a photo by its path below the folder, by the end of it that is unique ("a.jpg"), or by a longer
    path that ends in it. words: names of classes, see :func:`word`, with their index.
    """
    of_photo: dict[int, list[Annotation]] = defaultdict(list)
    find, reported = finder(photos), set()
    for each in annotations:
        index = find(each.image)
        if isinstance(index, int):
            of_photo[index].append(each)
        elif each.image not in reported:
            reported.add(each.image)
            problems.add(index, f"{each.image} ({each.where})")
    stored = _drawn_as_stored(of_photo, photos, problems)
    boxes, other = [np.zeros((0, 4), np.int64) for _ in photos], 0
    masks: list[Path | None] = [None] * len(photos)
    for index, found in of_photo.items():
        photo, own = photos[index], []
        for each in found:
            named = words.get(word(each.kind), labels[index])
            if named != labels[index]:
                other += 1
                continue
            edges = checked(each, photo.stored if stored[index] else photo.size, problems)
            own.append(pixels(turned(edges, photo) if stored[index] else edges, photo.size))
            masks[index] = each.mask
        if own:
            boxes[index] = np.array(own, np.int64)
    return Matched(boxes, masks, stored, other)


def word(name: str) -> str:
    """A class name as it is compared: small letters, blanks for underscores."""
    return " ".join(composed(name).replace("_", " ").casefold().split())


def finder(photos: Sequence[Photo]) -> Callable[[str], int | str]:
    """The function from a name to a photo's index, or to what is wrong with the name."""
    wholes: dict[str, set[int]] = defaultdict(set)
    ends: dict[str, set[int]] = defaultdict(set)
    for index, photo in enumerate(photos):
        path = composed(photo.id)
        for whole in (path, path.rpartition(".")[0]):  # files that are named after a photo have another ending
            wholes[whole].add(index)
            parts = whole.split("/")
            for start in range(1, len(parts)):
                ends["/".join(parts[start:])].add(index)

    def find(name: str) -> int | str:
        name = composed(name).replace("\\", "/").removeprefix("./")
        parts = name.split("/")
        longer = (wholes.get("/".join(parts[start:])) for start in range(1, len(parts)))
        found = wholes.get(name) or ends.get(name) or next(filter(None, longer), set())
        if len(found) == 1:
            return min(found)
        if found:
            return "a box file uses a name that several photos have; name them by their paths"
        return "a box file names a photo that is not there; correct the name"

    return find


def _drawn_as_stored(of_photo: dict[int, list[Annotation]], photos: Sequence[Photo], problems: Problems) -> np.ndarray:
    """(N,) bool: whether a photo's boxes were drawn before it was turned by its EXIF tag.

    The size that a box file states tells of quarter turns. Of the others it does not; they go with those, if all of
    those were drawn as stored.
    """
    stored, shown = np.zeros(len(photos), bool), False
    for index, found in of_photo.items():
        photo, sizes = photos[index], {each.size for each in found if each.size}
        if sizes - {photo.size, photo.stored}:
            width, height = min(sizes - {photo.size, photo.stored})
            problems.add(
                "a box file states another size than the photo has; draw the boxes on this copy, or scale them",
                f"{photo.id} ({width} x {height} in {found[0].where}, {photo.size[0]} x {photo.size[1]} here)",
            )
        if sizes and photo.size != photo.stored:
            stored[index] = sizes == {photo.stored}
            shown |= not stored[index]
    if stored.any() and not shown:
        stored |= [photo.orientation in (2, 3, 4) for photo in photos]
    return stored


def turned(edges: Edges, photo: Photo) -> Edges:
    """Edges in the photo as stored -> edges in the photo as shown."""
    x0, y0, x1, y1 = edges
    width, height = photo.size
    if photo.orientation >= 5:
        x0, y0, x1, y1 = y0, x0, y1, x1
    if photo.orientation in (2, 3, 6, 7):
        x0, x1 = width - x1, width - x0
    if photo.orientation in (3, 4, 7, 8):
        y0, y1 = height - y1, height - y0
    return x0, y0, x1, y1
