"""Image sets whose images are files below one folder."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from tedloc import paths
from tedloc.data import ImageSet, content, text_files
from tedloc.data.benchmark import BenchmarkSplit
from tedloc.data.images import read_image
from tedloc.errors import UserError, choose

UNREADABLE = ("fatal", "skip")  # what is done about training images that `verify` could not read


def where() -> str:
    """The end of a sentence that tells where data is looked for and how to change that."""
    return f"data is looked for in {paths.data()}; set TEDLOC_DATA to the folder that holds it"


@dataclass(frozen=True, eq=False)
class FileImages(ImageSet):
    """An image set read from files: image ``i`` is ``folder / ids[i]``.

    upright: whether images are turned by EXIF where their size does not tell (``tedloc.data.images.read_image``);
             False for official archives, whose sizes and boxes count pixels as stored
    """

    folder: Path
    upright: bool = field(default=True, kw_only=True)
    decoded: ClassVar[bool] = True

    def image(self, index: int) -> np.ndarray:
        listed = self.sizes[index] if self.sizes[index].any() else None
        path = text_files.on_disk(self.folder, self.ids[index])
        return read_image(path, listed, upright=self.upright, remedy=f"restore it ({where()})")

    def files(self) -> list[str]:
        """Every file below ``folder`` that results depend on: the photos, and masks where a data set has them."""
        folder = self.folder
        return [n if n.isascii() else str(text_files.on_disk(folder, n).relative_to(folder)) for n in self.ids]

    @functools.cached_property
    def _content(self) -> str:
        return content.digest(self.folder, self.files(), f"photos of {self.name}/{self.split}")

    def fingerprint(self) -> str:
        """Over sizes and what the files hold, too: once for each set, so a run sees one state of its data."""
        digest = hashlib.sha256(super().fingerprint().encode())
        digest.update(np.ascontiguousarray(self.sizes, dtype=np.int64).tobytes())
        digest.update(repr((self.upright, self._content)).encode())
        return digest.hexdigest()


def holder(folders: list[Path], ids: list[str], archive: str) -> Path:
    """The first of ``folders`` that holds the first image; every other image must be there too.

    ``archive`` ends the sentence "extract ...". Raises ``UserError`` for none, or only a part of them.
    """
    found = next((folder for folder in folders if text_files.on_disk(folder, ids[0]).is_file()), None)
    if found is None:
        there = next((folder for folder in folders if folder.is_dir()), folders[0])
        raise UserError(
            f"image {ids[0]!r} is not in {' or '.join(map(str, folders))}{_resembling(there, ids[0])}; extract "
            f"{archive} there ({where()})"
        )
    missing = [name for name in ids if not text_files.on_disk(found, name).is_file()]
    if missing:
        raise UserError(
            f"{found} lacks {len(missing)} of {len(ids)} images, first {missing[0]!r}{_resembling(found, missing[0])}; "
            f"extract {archive} again"
        )
    return found


def _resembling(folder: Path, name: str) -> str:
    """What lies in the folder in place of a file that is missing, as the end of a sentence."""
    path = folder / name
    if path.parent.is_dir():
        beside = [path.parent.relative_to(folder).joinpath(each.name).as_posix() for each in path.parent.iterdir()]
        return text_files.resembling(name, beside)
    return ""


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


def readable(name: str, split: str, ids: Sequence[str], unreadable: str, whole: bool = True) -> np.ndarray:
    """Positions of the images that a split is opened with.

    unreadable: ``fatal``: all; an image that cannot be read ends the run. ``skip``: training images on the
    list that ``verify`` wrote are left out, so that every run leaves out the same ones. Validation and test
    images are never left out: the score would be that of another split.
    whole: the ids are all that ``verify`` looked at; False: the list may name others

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
    lines = text_files.lines(path, "run `verify` again")
    listed = {line.partition("\t")[0] for _, line in lines}
    if whole and not listed <= set(ids):
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

    unreadable: see ``readable``; kind, more: a class, and further fields of it
    """
    records = records.take(readable(name, split, records.ids, unreadable))
    records = records.take(limited(records.ids, records.labels, per_class, seed))
    return kind(name, split, records.ids, records.labels, records.boxes, records.sizes, class_names, folder, **more)
