"""CUB-200-2011 (200 bird species) with the benchmark's splits; val is CUBV2, collected by the benchmark.

Images, below ``paths.data()``: ``CUB_200_2011/images/<class>/*.jpg`` (train, test) and
``CUBV2/<class>/*.jpg`` (val), or all of them in ``CUB/<class>/`` as the benchmark's own script arranges them.
Split files: ``wsol-metadata/CUB/{train,val,test}/``.

Photos of one's own lie in ``CUB/`` too, and are turned upright by EXIF; the archives' are read as stored. Where the
listed size tells which of the two boxes refer to, it decides (``tedloc.data.images``).
"""

import re
from pathlib import Path

from tedloc import paths
from tedloc.data import SPLITS
from tedloc.data.benchmark import read_split, records
from tedloc.data.files import FileImages, benchmark_images, holder
from tedloc.errors import UserError

CUB = (
    "CUB_200_2011.tgz (1.15 GB: `python data_scripts/cub.py fetch`, or from "
    "https://data.caltech.edu/records/65de6-vp158)"
)
CUBV2 = "CUBV2.tar (`python data_scripts/cubv2.py fetch`, or from https://github.com/clovaai/wsolevaluation)"
ARCHIVES = {"train": CUB, "test": CUB, "val": CUBV2}
FOLDERS = {
    "train": ("CUB_200_2011/images", "CUB"),
    "test": ("CUB_200_2011/images", "CUB"),
    "val": ("CUBV2", "CUB", "CUB_200_2011/images"),
}


def open(split: str, *, seed: int = 0, per_class: int | None = None, unreadable: str = "fatal") -> FileImages:
    """Open one split: 5,994 / 1,000 / 5,794 images (train / val / test), one box each.

    per_class keeps at most this many images a class, drawn by ``seed``: for trials.
    unreadable: ``skip`` leaves out training images that ``verify`` could not read
    (``tedloc.data.files.readable``).

    Raises ``UserError`` for missing split files or images, and says where they were looked for.
    """
    listed = read_split(paths.data() / "wsol-metadata", "CUB", split)
    folder = holder([paths.data() / name for name in FOLDERS[split]], listed.ids, ARCHIVES[split])
    names = [class_name(directory) for directory in class_folders(paths.data() / "wsol-metadata" / "CUB")]
    own = folder.name == "CUB"
    return benchmark_images("cub", split, listed, names, folder, per_class, seed, unreadable, upright=own)


def class_folders(lists: Path) -> list[str]:
    """The folder of each class's images, the same in all splits that are there, by the class's number.

    Raises ``UserError`` for an image in no folder, a folder of two classes, a class in two folders and a gap in the
    numbers.
    """
    folders: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for path in (lists / split / "class_labels.txt" for split in SPLITS):
        for line, image, (label,) in records(path, columns=1) if path.exists() else ():
            folder, slash, _ = image.partition("/")
            where = f"{path}, line {line}: image {image!r}"
            if not slash:
                raise UserError(f"{where} lies in no class folder; put each class into one, '001.Red_Mug/one.jpg'")
            if (other := folders.setdefault(label, folder)) != folder:
                raise UserError(
                    f"{where} is of class {label}, whose other images lie in {other!r}; put each class into one "
                    "folder, the same in all splits"
                )
            if (same := numbers.setdefault(folder, label)) != label:
                raise UserError(
                    f"{where} is of class {label}, but {folder!r} is the folder of class {same}, and of class folders "
                    "the first one counts: put each class into one of its own, '001.Red_Mug/one.jpg'"
                )
    gap = next((label for label in range(len(folders)) if label not in folders), None)
    if gap is not None:
        raise UserError(f"{lists} has no image of class {gap}; classes count from 0, without gaps")
    return [folders[label] for label in range(len(folders))]


# Folder names from which the rule of ``class_name`` does not get the bird's name: CUB drops the apostrophe of
# birds that are named after people, two hyphens have no small letter after them, and one name is misspelt.
NAMES = {
    "Brewer_Blackbird": "brewer's blackbird",
    "Chuck_will_Widow": "chuck-will's-widow",
    "Brandt_Cormorant": "brandt's cormorant",
    "Heermann_Gull": "heermann's gull",
    "Anna_Hummingbird": "anna's hummingbird",
    "Clark_Nutcracker": "clark's nutcracker",
    "Scott_Oriole": "scott's oriole",
    "Whip_poor_Will": "whip-poor-will",
    "Baird_Sparrow": "baird's sparrow",
    "Brewer_Sparrow": "brewer's sparrow",
    "Harris_Sparrow": "harris's sparrow",
    "Henslow_Sparrow": "henslow's sparrow",
    "Le_Conte_Sparrow": "le conte's sparrow",
    "Lincoln_Sparrow": "lincoln's sparrow",
    "Nelson_Sharp_tailed_Sparrow": "nelson's sharp-tailed sparrow",
    "Artic_Tern": "arctic tern",
    "Forsters_Tern": "forster's tern",
    "Swainson_Warbler": "swainson's warbler",
    "Wilson_Warbler": "wilson's warbler",
    "Bewick_Wren": "bewick's wren",
}


def class_name(directory: str) -> str:
    """``"001.Black_footed_Albatross"`` -> ``"black-footed albatross"``.

    CUB writes every hyphen as an underscore, but keeps the small letter after it. The paper does not say how
    it writes the names; this is how field guides do, in small letters.
    """
    name = re.sub(r"^\d+\.", "", directory)
    return NAMES.get(name) or re.sub(r"_(?=[a-z])", "-", name).replace("_", " ").lower()
