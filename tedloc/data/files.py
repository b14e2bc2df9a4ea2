"""Image sets whose images are files below one folder."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tedloc import paths
from tedloc.data import ImageSet
from tedloc.data.benchmark import BenchmarkSplit
from tedloc.errors import UserError, choose

UNREADABLE = ("fatal", "skip")  # what is done about training images that `verify` could not read


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file; ``UserError`` names one that is missing, cut off or no image.

    Pillow, as in the benchmark's own loader: OpenCV would turn photos by their EXIF tag, away from their
    boxes, and pass a file that was cut off as a half grey image.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))  # a copy: Pillow's memory is read-only, torch warns of that
    except FileNotFoundError:
        raise UserError(f"image {path} is missing; extract the archive again ({where()})") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"image {path} cannot be read ({error}); extract the archive again") from None


def where() -> str:
    """The end of a sentence that tells where data is looked for and how to change that."""
    return f"data is looked for in {paths.data()}; set TEDLOC_DATA to the folder that holds it"


@dataclass(frozen=True, eq=False)
class FileImages(ImageSet):
    """An image set read from files: image ``i`` is ``folder / ids[i]``."""

    folder: Path

    def image(self, index: int) -> np.ndarray:
        return read_image(self.folder / self.ids[index])


def holder(folders: list[Path], ids: list[str], archive: str) -> Path:
    """The first of ``folders`` that holds the first image; every other image must be there too.

    ``archive`` ends the sentence "extract ...". Raises ``UserError`` for none, or only a part of them.
    """
    found = next((folder for folder in folders if (folder / ids[0]).is_file()), None)
    if found is None:
        raise UserError(
            f"image {ids[0]!r} is not in {' or '.join(map(str, folders))}; extract {archive} there ({where()})"
        )
    missing = [name for name in ids if not (found / name).is_file()]
    if missing:
        raise UserError(
            f"{found} lacks {len(missing)} of {len(ids)} images, first {missing[0]!r}; extract {archive} again"
        )
    return found


def rank(seed: int, image_id: str) -> bytes:
    """A hash to sort by: a shuffle that is the same on every machine and for every subset of the images."""
    return hashlib.sha256(f"{seed}/{image_id}".encode()).digest()


def limited(ids: Sequence[str], labels: np.ndarray, per_class: int | None, seed: int) -> np.ndarray:
    """Positions, ascending, of at most ``per_class`` images of each class (None: all), drawn by ``seed``.

    Raises ``UserError`` for a ``per_class`` below 1.
    """
    if per_class is None:
        return np.arange(len(ids))
    if per_class < 1:
        raise UserError(f"per_class is {per_class}; it must be at least 1")
    taken: dict[int, int] = {}
    kept = []
    for index in sorted(range(len(ids)), key=lambda index: rank(seed, ids[index])):
        label = int(labels[index])
        if taken.setdefault(label, 0) < per_class:
            taken[label] += 1
            kept.append(index)
    return np.array(sorted(kept), dtype=np.int64)


def unreadable_list(name: str, split: str) -> Path:
    """The images that ``verify`` could not read: a file of lines ``image id, tab, why``; empty when all are
    well.
    """
    return paths.data() / "unreadable" / f"{name}-{split}.txt"


def readable(name: str, split: str, ids: Sequence[str], unreadable: str) -> np.ndarray:
    """Positions of the images that a split is opened with.

    unreadable: ``fatal``: all; an image that cannot be read ends the run. ``skip``: training images on the
    list that ``verify`` wrote are left out, so that every run leaves out the same ones. Validation and test
    images are never left out: the score would be that of another split.

    Raises ``UserError`` when there is no such list, or it is one of other images.
    """
    choose("value of data.unreadable", unreadable, UNREADABLE)
    if unreadable == "fatal" or split != "train":
        return np.arange(len(ids))
    path = unreadable_list(name, split)
    if not path.exists():
        raise UserError(
            f"data.unreadable is skip, but {path} is missing; make it first: "
            f"python data_scripts/{name.replace('-', '_')}.py verify"
        )
    listed = {line.partition("\t")[0] for line in path.read_text(encoding="utf-8").splitlines()}
    if not listed <= set(ids):
        raise UserError(f"{path} lists images that {name}/{split} does not have; run `verify` again")
    return np.array([index for index, image_id in enumerate(ids) if image_id not in listed], dtype=np.int64)


def benchmark_images(
    name: str,
    split: str,
    records: BenchmarkSplit,
    class_names: list[str],
    folder: Path,
    per_class: int | None,
    seed: int,
    unreadable: str = "fatal",
    kind: type[FileImages] = FileImages,
    **more,
) -> FileImages:
    """The images of a benchmark split below ``folder``, at most ``per_class`` of each class.

    unreadable: see ``readable``; kind, more: a class with fields of its own
    """
    records = records.take(readable(name, split, records.ids, unreadable))
    records = records.take(limited(records.ids, records.labels, per_class, seed))
    return kind(name, split, records.ids, records.labels, records.boxes, records.sizes, class_names, folder, **more)
