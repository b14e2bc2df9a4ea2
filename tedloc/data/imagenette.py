"""Imagenette and Imagewoof: twenty classes of ILSVRC, free to fetch, with the benchmark's boxes.

Below ``paths.data()``, each as ``{train,val}/<wnid>/*.JPEG``:

``imagenette2-320/``, ``imagewoof2-320/``   the official archives (aspect kept, short side 320 pixels), ten easy classes
                                            and ten breeds of dogs
``imagenette2/``, ``imagewoof2/``           else: the archives of full size, or copies squeezed to 224 x 224 pixels
``wsol-metadata/ILSVRC/test/``              the benchmark's split files

The archives' own split is not used. A photo's name says where it comes from, in whichever folder it lies:
``ILSVRC2012_val_*`` are ILSVRC's validation photos, 50 a class. The benchmark has boxes of them, so they are evaluated
on and never trained on: of each class the 15 with the lowest hash are *val*, the other 35 *test*. The rest,
``<wnid>_*``, are ILSVRC's training photos and *train* here; no box of them is read.

Image ids are ``<wnid>/<file name>``, so splits and ``per_class`` choose the same photos in every copy. ``per_class``
is of training photos: however few are learned from, the same photos are evaluated. Boxes and sizes are those of the
original photo: relative to its size, a box fits a copy of any size.

A network with ImageNet weights has been trained on these very training photos. It has seen no box.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tedloc import paths
from tedloc.data import ilsvrc
from tedloc.data.benchmark import SOURCE, BenchmarkSplit, read_split
from tedloc.data.files import FileImages, limited, rank, readable, where
from tedloc.data.images import read_image
from tedloc.errors import UserError, choose

OF_IMAGENET = True
SUBSETS = {
    "imagenette": (
        "n01440764 n02102040 n02979186 n03000684 n03028079 n03394916 n03417042 n03425413 n03445777 n03888257"
    ).split(),
    "imagewoof": (
        "n02086240 n02087394 n02088364 n02089973 n02093754 n02096294 n02099601 n02105641 n02111889 n02115641"
    ).split(),
}
FOLDERS = {name: (f"{name}2-320", f"{name}2") for name in SUBSETS}  # the first that is there counts
TRAINING = dict.fromkeys(sum(SUBSETS.values(), []), 1300) | {"n03000684": 1194, "n02089973": 754}  # ILSVRC's, by class
VAL = 15  # evaluated photos of a class that are the validation split; the rest, 35, are the test split
EVALUATED = "ILSVRC2012_val_"  # how names of photos begin that are never trained on
SQUEEZED = (224, 224)
REMEDY = "run `python data_scripts/imagenette.py fetch`, or extract the archive again into an empty folder"


@dataclass(frozen=True, eq=False)
class ImagenetteImages(FileImages):
    """One split.

    wnids:    K WordNet ids in the order of the labels
    places:   N paths below ``folder``
    squeezed: whether it is a copy squeezed to 224 x 224
    """

    wnids: list[str]
    places: list[str]
    squeezed: bool

    def image(self, index: int) -> np.ndarray:
        path = self.folder / self.places[index]
        size, original = _size(pixels := _read(path)), self.sizes[index]
        if (size == SQUEEZED) != self.squeezed:
            raise _mixture(path, size, "the others are", self.squeezed)
        turned = abs(size[0] * original[1] - size[1] * original[0]) > sum(original)  # a pixel of rounding is none
        if not self.squeezed and turned:
            raise UserError(
                f"image {path} is {size[0]} x {size[1]} pixels, not of the same aspect as the original "
                f"({original[0]} x {original[1]}), so its box would not fit; {REMEDY}"
            )
        return pixels

    def files(self) -> list[str]:
        return self.places


def present() -> bool:
    """Whether a folder of either subset is there, complete or not."""
    return any((paths.data() / name).exists() for names in FOLDERS.values() for name in names)


def open(
    split: str,
    *,
    only_classes: Sequence[str] | None = None,
    seed: int = 0,
    per_class: int | None = None,
    unreadable: str = "fatal",
) -> ImagenetteImages:
    """Open one split: 25,348 photos, or ``per_class`` of each class (train); 300 (val); 700 (test).

    only_classes: ``imagenette``, ``imagewoof``, single wnids, or several of these; None: all twenty classes
    seed:         of the choice of validation photos and by ``per_class``
    per_class:    keep at most this many training photos a class; a copy that holds no more of them will do
    unreadable:   ``skip`` leaves out training images that ``verify`` could not read (``tedloc.data.files.readable``)

    Raises ``UserError`` naming folder or file and remedy: for split files or a class that is missing, a class that
    lacks photos, a photo that the split files do not know, and copies of two kinds.
    """
    choose("split", split, ("train", "val", "test"))
    wnids = _wanted(only_classes)
    known = _known(paths.data() / "wsol-metadata")
    official, names = ilsvrc.all_wnids(), ilsvrc.class_names()
    place = {wnid: official.index(wnid) for wnid in wnids}
    files, listed = {}, {}
    for wnid in wnids:
        folder = _folder(wnid)
        files[wnid] = _files(folder, wnid)
        listed[wnid] = {Path(known.ids[i]).name: i for i in np.flatnonzero(known.labels == place[wnid])}
        training = _check(folder, wnid, files[wnid], listed[wnid])
        wanted = min(per_class or TRAINING[wnid], TRAINING[wnid])
        if split == "train" and training < wanted:
            raise UserError(
                f"{folder} holds {training} of the {TRAINING[wnid]} training photos of class {wnid}, and {wanted} are "
                f"asked for; {REMEDY}, or set data.per_class to {training} if it is meant to hold no more"
            )
    squeezed = _squeezed(wnids, files)

    ids: list[str] = []
    for wnid in wnids:
        chosen = [f"{wnid}/{name}" for name in files[wnid] if (name in listed[wnid]) == (split != "train")]
        if split != "train":
            chosen.sort(key=functools.partial(rank, seed))
            chosen = chosen[:VAL] if split == "val" else chosen[VAL:]
        ids += sorted(chosen)
    well = readable("imagenette", split, ids, unreadable, whole=only_classes is None)
    ids = [ids[i] for i in well]
    labels = np.array([wnids.index(image_id.split("/")[0]) for image_id in ids], dtype=np.int64)
    if split == "train":
        kept = limited(ids, labels, per_class, seed)
        ids, labels = [ids[i] for i in kept], labels[kept]
    parts = [image_id.split("/") for image_id in ids]
    boxes, sizes = [np.zeros((0, 4), dtype=np.int64)] * len(ids), np.zeros((len(ids), 2), dtype=np.int64)
    if split != "train":
        records = known.take(np.array([listed[wnid][name] for wnid, name in parts], dtype=np.int64))
        boxes, sizes = records.boxes, records.sizes
    return ImagenetteImages(
        name="imagenette",
        split=split,
        ids=ids,
        labels=labels,
        boxes=boxes,
        sizes=sizes,
        class_names=[names[place[wnid]] for wnid in wnids],
        folder=paths.data(),
        wnids=wnids,
        places=[files[wnid][name] for wnid, name in parts],
        squeezed=squeezed,
    )


def _wanted(only_classes: Sequence[str] | None) -> list[str]:
    """The wnids, sorted."""
    for name in only_classes or ():
        choose("class of imagenette", name, [*SUBSETS, *TRAINING])
    chosen = SUBSETS if only_classes is None else only_classes
    if not chosen:
        raise UserError("data.only_classes names no class; name some, or leave it unset for all twenty")
    return sorted({wnid for name in chosen for wnid in SUBSETS.get(name, (name,))})


@functools.lru_cache(maxsize=1)
def _known(metadata: Path) -> BenchmarkSplit:
    """ILSVRC's 50,000 validation photos as the benchmark lists them: read once for all splits."""
    return read_split(metadata, "ILSVRC", "test")


def _folder(wnid: str) -> Path:
    """The folder of the subset that a class belongs to."""
    subset = next(name for name, wnids in SUBSETS.items() if wnid in wnids)
    found = next((paths.data() / name for name in FOLDERS[subset] if (paths.data() / name).is_dir()), None)
    if found is None:
        raise UserError(f"no {subset.title()} at {paths.data() / FOLDERS[subset][0]}: {REMEDY} ({where()})")
    return found


def _files(folder: Path, wnid: str) -> dict[str, str]:
    """The photos of a class: file name -> path below ``paths.data()``, in the order of the names."""
    found: dict[str, str] = {}
    for part in ("train", "val"):
        if not (folder / part / wnid).is_dir():
            raise UserError(f"{folder / part} lacks the class {wnid}; {REMEDY}")
        for path in (folder / part / wnid).glob("[!.]*.JPEG"):
            if path.name in found:
                raise UserError(f"{path.name} lies in both train/ and val/ of {folder}: two archives mixed; {REMEDY}")
            found[path.name] = path.relative_to(paths.data()).as_posix()
    return dict(sorted(found.items()))


def _check(folder: Path, wnid: str, files: dict[str, str], listed: dict[str, int]) -> int:
    """The number of a class's training photos. ``UserError`` unless it has all its evaluated ones, and no others."""
    if not listed:
        raise UserError(f"the split files of ILSVRC/test have no photo of class {wnid}; fetch them from {SOURCE}")
    lacking = sorted(set(listed) - set(files))
    if lacking:
        raise UserError(
            f"{folder} lacks {len(lacking)} of the {len(listed)} validation photos of class {wnid}, first "
            f"{lacking[0]}: half extracted; {REMEDY}"
        )
    training = [name for name in files if name not in listed]
    strange = next((name for name in training if not name.startswith(f"{wnid}_")), None)
    if strange is not None:
        raise UserError(
            f"{paths.data() / files[strange]} is neither a training photo of class {wnid} nor one of its validation "
            f"photos in the benchmark's split files; {REMEDY}"
        )
    return len(training)


def _squeezed(wnids: list[str], files: dict[str, dict[str, str]]) -> bool:
    """Whether the copies are squeezed, by the first evaluated photo of each class. ``UserError`` for two kinds."""
    found: list[bool] = []
    for wnid in wnids:
        path = paths.data() / next(place for name, place in files[wnid].items() if name.startswith(EVALUATED))
        found.append((size := _size(_read(path))) == SQUEEZED)
        if found[-1] != found[0]:
            raise _mixture(path, size, f"those of class {wnids[0]} are", found[0])
    return found[0]


def _read(path: Path) -> np.ndarray:
    return read_image(path, upright=False, remedy=REMEDY)


def _size(pixels: np.ndarray) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


def _mixture(path: Path, size: tuple[int, int], others: str, squeezed: bool) -> UserError:
    kind = "squeezed to 224 x 224" if squeezed else "not squeezed"
    return UserError(
        f"image {path} is {size[0]} x {size[1]} pixels where {others} {kind}: copies of two kinds are mixed; "
        "use one kind for all classes"
    )
