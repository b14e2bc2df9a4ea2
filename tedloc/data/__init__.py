"""Image sets: what every data set gives, and how one is opened by name.

Adding a data set takes one file with a function ``open(split, **settings) -> ImageSet`` and one line in
``tedloc.data.registry``.
"""

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar

import cv2
import numpy as np
from tqdm.auto import tqdm

from tedloc.data.registry import DATASETS
from tedloc.errors import UserError, choose
from tedloc.settings import DataSettings

SPLITS = ("train", "val", "test")
BATCH = 50  # images that are read and looked at together
# Settings of one data set alone, handed to it where they are set.
OWN = {"folder": ("root", "boxes", "classes", "splits"), "imagenette": ("only_classes",)}


@dataclass(frozen=True, eq=False)
class ImageSet(ABC):
    """One split of a data set, in a fixed order.

    ids:         N image ids (for file data sets: the path below the image folder, ``a/b.jpg``)
    labels:      (N,) int64 class indices in [0, K)
    boxes:       N int arrays (B, 4), each row x0, y0, x1, y1 in pixels of the original image, inclusive;
                 empty where a split has no boxes (training splits are never localised by them)
    sizes:       (N, 2) int64 width, height of the original image in pixels
    class_names: K names as they enter a prompt ("crimson-crowned grey finch")
    """

    name: str
    split: str
    ids: list[str]
    labels: np.ndarray
    boxes: list[np.ndarray]
    sizes: np.ndarray
    class_names: list[str]
    decoded: ClassVar[bool] = False  # whether a file is decoded for every image, which is worth a process of its own

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def boxed(self) -> bool:
        """Whether the split has boxes, so that localization can be scored on it: photos of one's own may have none."""
        return any(map(len, self.boxes))

    @abstractmethod
    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises ``UserError`` naming the file when it cannot be read."""

    def picture(self, index: int) -> np.ndarray:
        """The image at the size that its boxes refer to, for figures; as it is where that is not known."""
        image, (width, height) = self.image(index), self.sizes[index].tolist()
        return cv2.resize(image, (width, height)) if width and image.shape[:2] != (height, width) else image

    def mask(self, index: int) -> np.ndarray | None:
        """(H, W) bool mask of the object, or None where the data set has none."""
        return None

    def fingerprint(self) -> str:
        """sha256 over ids, labels, boxes and class names: two sets with the same print hold the same task."""
        digest = hashlib.sha256(repr((self.name, self.split, self.class_names)).encode())
        digest.update("\n".join(self.ids).encode())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        for box in self.boxes:
            digest.update(np.ascontiguousarray(box, dtype=np.int64).tobytes())
        return digest.hexdigest()


def open_split(name: str, split: str, **settings) -> ImageSet:
    """Open one split of a data set.

    Raises ``UserError`` for an unknown name or split, missing or damaged files, or a class without images.
    """
    choose("data set", name, DATASETS)
    choose("split", split, SPLITS)
    images = import_module(DATASETS[name]).open(split, **settings)
    counts = np.bincount(images.labels, minlength=len(images.class_names))
    if len(images) == 0 or counts.min() == 0:
        empty = [images.class_names[k] for k in np.flatnonzero(counts == 0)[:3]]
        raise UserError(
            f"data set {name!r}, split {split!r}: no image of class {', '.join(map(repr, empty))}; "
            "complete the data or leave the class out of its class list"
        )
    _check_class_names(name, images.class_names)
    return images


def _check_class_names(dataset: str, names: list[str]) -> None:
    """Raise ``UserError`` for classes that prompts and tables could not tell apart."""
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if not name.strip() or (other := seen.setdefault(" ".join(name.casefold().split()), number)) != number:
            same = f"the name {name!r}, as class {other} has" if name.strip() else "no name"
            raise UserError(f"data set {dataset!r}: class {number} has {same}; rename one: prompts are made of names")


def of_imagenet(name: str) -> bool:
    """Whether a data set's classes are ImageNet's, so that its splits have ``wnids``; its module says so, no photo is
    needed."""
    choose("data set", name, DATASETS)
    return getattr(import_module(DATASETS[name]), "OF_IMAGENET", False)


def at_hand(settings: DataSettings) -> bool:
    """False where nothing of the data set is on this machine, and what is kept of it may be read instead: its module
    says so (``present``). What is there in part counts as there, so that opening it says what is missing."""
    choose("data set", settings.name, DATASETS)
    present = getattr(import_module(DATASETS[settings.name]), "present", None)
    return present is None or present()


@functools.lru_cache(maxsize=6)
def open_data(settings: DataSettings, split: str) -> ImageSet:
    """One split of the data that the settings name."""
    photos = {} if settings.name == "aviary" else {"unreadable": settings.unreadable}  # the aviary reads no files
    given = {}
    for owner, names in OWN.items():
        own = {name: getattr(settings, name) for name in names if getattr(settings, name) is not None}
        if own and settings.name != owner:
            raise UserError(f"data.{min(own)} is of data set {owner!r}, not {settings.name!r}; add --data.name {owner}")
        given |= own
    return open_split(settings.name, split, seed=settings.seed, per_class=settings.per_class, **photos, **given)


def batches(images: ImageSet, description: str, size: int = BATCH) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """(indices, RGB images) in order, with a progress bar."""
    for start in tqdm(range(0, len(images), size), desc=description, unit="batch"):
        index = np.arange(start, min(start + size, len(images)))
        yield index, [images.image(i) for i in index]
