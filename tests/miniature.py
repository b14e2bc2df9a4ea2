"""CUB and ILSVRC in miniature: a few classes and images in the official layouts, with split files to match.

What a test does to the real data sets it can do to these in seconds: ``make_cub`` and ``make_ilsvrc`` write a
data folder that ``open_split`` opens as it opens the real one, ``pack_*`` make the official archives of it.

    make_cub(tmp_path)
    use(tmp_path, monkeypatch)
    open_split("cub", "train"); runs.ensure(runs.Request(shrunken(), "tedloc", device="cpu"))

The whole book on it, as a rehearsal of the one at the paper's scale; this program writes the miniature and in it the
settings that make the profile small:

    python tests/miniature.py /tmp/cub
    TEDLOC_DATA=/tmp/cub python -m tedloc.book run --profile cub -p settings "$(cat /tmp/cub/settings.json)"

The pictures are photos of Imagenette where that lies in ``../shared/data``, made smaller, with their boxes; otherwise
ellipses, in the colour of their class, before a ground of noise.
"""

import functools
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from conftest import ROOT
from tedloc import data, profiles
from tedloc.data.benchmark import read_split
from tedloc.runs import run
from tedloc.settings import Profile, override

PHOTOS = ROOT.parent / "shared" / "data"
BIRDS = (
    "001.Black_footed_Albatross",
    "002.Laysan_Albatross",
    "003.Sooty_Albatross",
    "004.Groove_billed_Ani",
    "005.Crested_Auklet",
)
# ILSVRC's classes 0, 1 and 999 and one in between, so that numbering anew is seen
SYNSETS = {"n01440764": 0, "n01443537": 1, "n02124075": 285, "n15075141": 999}
Box = tuple[int, int, int, int]  # x0, y0, x1, y1, inclusive


# Profile ``cub`` made small: the ViT of the encoder with random weights, the shipped CLIP, short training
SHRUNKEN = {
    "encoder.name": "timm/vit_tiny_patch16_224",
    "encoder.weights": "random",
    "encoder.image_size": 64,
    "anchors.text": "aviary/clip",
    "pseudo_labels.clip": "aviary/clip",
    "decoder.width": 8,
    "decoder.upsampling": 2,
    "optimiser.epochs": 1,
    "optimiser.batch_size": 4,
    "evaluation.step": 0.05,
    "evaluation.keep_maps": 2,
}


def shrunken(profile: str = "cub", **changes) -> Profile:
    """A profile of the paper's scale made small; further changes by dotted name (``**{"loss.kd": 0.0}``)."""
    return override(profiles.get(profile), SHRUNKEN | changes)


def use(root: Path, monkeypatch) -> None:
    """Make ``root`` the data folder. What is remembered of the data folder before it is forgotten."""
    monkeypatch.setenv("TEDLOC_DATA", str(root))
    data.open_data.cache_clear()
    run.data_fingerprint.cache_clear()


def pictures(label: int, seed: int) -> Iterator[tuple[np.ndarray, Box]]:
    """BGR images of differing sizes, each with its object's box."""
    rng = np.random.default_rng((seed, label))
    photos = _photos(label)
    while True:
        width, height = (int(side) for side in rng.integers(72, 136, 2))
        if photos:
            image, shares = photos[rng.integers(len(photos))]
            pixels = cv2.resize(cv2.imread(str(image)), (width, height))
            corners = [round(share * side) for share, side in zip(shares, (width, height) * 2, strict=True)]
            box = corners[0], corners[1], corners[2] - 1, corners[3] - 1
        else:
            pixels = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
            axes = [int(side * rng.uniform(0.2, 0.35)) for side in (width, height)]
            centre = [
                int(rng.integers(axis + 1, side - axis - 1)) for axis, side in zip(axes, (width, height), strict=True)
            ]
            colour = [int(value) for value in np.random.default_rng(label).integers(120, 256, 3)]
            cv2.ellipse(pixels, centre, axes, 0, 0, 360, colour, -1)
            box = (centre[0] - axes[0], centre[1] - axes[1], centre[0] + axes[0], centre[1] + axes[1])
        yield pixels, box


@functools.cache
def _photos(label: int) -> list[tuple[Path, tuple[float, ...]]]:
    """Photos of one class, each with its first box as shares of the photo: x0, y0, x1, y1."""
    folder = PHOTOS / "imagenette2" / "val"
    if not folder.is_dir():
        return []
    listed = read_split(PHOTOS / "wsol-metadata", "ILSVRC", "test")
    known = {Path(name).name: place for place, name in enumerate(listed.ids)}
    wnids = sorted(path.name for path in folder.iterdir())
    found = []
    for photo in sorted((folder / wnids[label % len(wnids)]).glob("ILSVRC2012_val_*")):
        place = known[photo.name]
        (x0, y0, x1, y1), (width, height) = listed.boxes[place][0], listed.sizes[place]
        found.append((photo, (x0 / width, y0 / height, (x1 + 1) / width, (y1 + 1) / height)))
    return found


class Split:
    """Images of one split as they are drawn, and its files in the benchmark's format."""

    def __init__(self):
        self.rows: list[tuple[str, int, Box, tuple[int, int]]] = []

    def draw(self, path: Path, image_id: str, label: int, picture: tuple[np.ndarray, Box]) -> None:
        pixels, box = picture
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path.with_suffix(".jpg")), pixels)
        path.with_suffix(".jpg").rename(path)
        self.rows.append((image_id, label, box, (pixels.shape[1], pixels.shape[0])))

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        text = {
            "image_ids.txt": [name for name, *_ in self.rows],
            "class_labels.txt": [f"{name},{label}" for name, label, _, _ in self.rows],
            "localization.txt": [f"{name},{','.join(map(str, box))}" for name, _, box, _ in self.rows],
            "image_sizes.txt": [f"{name},{size[0]},{size[1]}" for name, _, _, size in self.rows],
        }
        for name, lines in text.items():
            (folder / name).write_text("\n".join(lines))


def make_cub(root: Path, classes: int = 3, train: int = 4, val: int = 2, test: int = 2, seed: int = 0) -> None:
    """``CUB_200_2011/``, ``CUBV2/`` and ``wsol-metadata/CUB/`` below ``root``; so many images a class."""
    folder, splits, lists = root / "CUB_200_2011", {name: Split() for name in ("train", "val", "test")}, []
    for label, bird in enumerate(BIRDS[:classes]):
        drawn = pictures(label, seed)
        for index in range(train + test):
            name = f"{bird}/{bird[4:]}_{index:04d}_{index}.jpg"
            split = splits["train" if index < train else "test"]
            split.draw(folder / "images" / name, name, label, next(drawn))
            lists.append((name, label, split is splits["train"], split.rows[-1][2]))
        for index in range(val):
            name = f"{bird}/{30107316117 + index}.jpg"
            splits["val"].draw(root / "CUBV2" / name, name, label, next(drawn))
    numbered = list(enumerate(lists, start=1))
    text = {
        "images.txt": [f"{n} {name}" for n, (name, *_) in numbered],
        "image_class_labels.txt": [f"{n} {label + 1}" for n, (_, label, *_) in numbered],
        "train_test_split.txt": [f"{n} {int(training)}" for n, (_, _, training, _) in numbered],
        "bounding_boxes.txt": [
            f"{n} {x0:.1f} {y0:.1f} {x1 - x0:.1f} {y1 - y0:.1f}" for n, (_, _, _, (x0, y0, x1, y1)) in numbered
        ],
        "classes.txt": [f"{n} {bird}" for n, bird in enumerate(BIRDS[:classes], start=1)],
    }
    for name, lines in text.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    for name, split in splits.items():
        split.write(root / "wsol-metadata" / "CUB" / name)


def make_ilsvrc(root: Path, classes: int = 3, train: int = 4, val: int = 2, test: int = 2, seed: int = 0) -> None:
    """``ILSVRC/{train,val,val2,wnids.txt}`` and ``wsol-metadata/ILSVRC/`` below ``root``; so many images a
    class.

    Labels in the split files are those of the 1000 classes; ``wnids.txt`` says which classes are there.
    """
    folder, splits, number = root / "ILSVRC", {name: Split() for name in ("val", "test")}, 0
    for wnid, label in list(SYNSETS.items())[:classes]:
        drawn = pictures(label, seed)
        for index in range(train):
            name = f"train/{wnid}/{wnid}_{index}.JPEG"
            Split().draw(folder / name, name, label, next(drawn))
        for index in range(val):
            name = f"val2/{label}/{index}.jpeg"
            splits["val"].draw(folder / name, name, label, next(drawn))
        for _ in range(test):
            number += 1
            name = f"val/ILSVRC2012_val_{number:08d}.JPEG"
            splits["test"].draw(folder / name, name, label, next(drawn))
    (folder / "wnids.txt").write_text("\n".join(list(SYNSETS)[:classes]) + "\n")
    for name, split in splits.items():
        split.write(root / "wsol-metadata" / "ILSVRC" / name)


def pack(folder: Path, archive: Path, inside: str) -> Path:
    """``folder`` as a tar archive (gzipped for .tgz and .gz), below the name ``inside`` in it."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz" if archive.suffix in (".tgz", ".gz") else "w") as package:
        package.add(folder, inside)
    return archive


def pack_ilsvrc_train(folder: Path, archive: Path) -> Path:
    """``train/`` as ImageNet ships it: an archive of one archive a class, each flat."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w") as outer:
        for wnid in sorted(path for path in folder.iterdir() if path.is_dir()):
            inner = archive.with_name(f"{wnid.name}.tar")
            with tarfile.open(inner, "w") as package:
                for image in sorted(wnid.iterdir()):
                    package.add(image, image.name)
            outer.add(inner, inner.name)
            inner.unlink()
    return archive


if __name__ == "__main__":
    make_cub(Path(sys.argv[1]))
    Path(sys.argv[1], "settings.json").write_text(json.dumps(SHRUNKEN | {"max_epochs": 1}))
