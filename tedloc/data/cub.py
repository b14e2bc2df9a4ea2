"""CUB-200-2011 (200 bird species) with the benchmark's splits; val is CUBV2, collected by the benchmark.

Images, below ``paths.data()``: ``CUB_200_2011/images/<class>/*.jpg`` (train, test) and
``CUBV2/<class>/*.jpg`` (val), or all of them in ``CUB/<class>/`` as the benchmark's own script arranges them.
Split files: ``wsol-metadata/CUB/{train,val,test}/``.
"""

import re

from tedloc import paths
from tedloc.data.benchmark import read_split
from tedloc.data.files import FileImages, benchmark_images, holder

ARCHIVES = {
    "train": "CUB_200_2011.tgz (https://data.caltech.edu/records/65de6-vp158)",
    "test": "CUB_200_2011.tgz (https://data.caltech.edu/records/65de6-vp158)",
    "val": "CUBV2.tar (linked from https://github.com/clovaai/wsolevaluation)",
}
FOLDERS = {
    "train": ("CUB_200_2011/images", "CUB"),
    "test": ("CUB_200_2011/images", "CUB"),
    "val": ("CUBV2", "CUB", "CUB_200_2011/images"),
}


def open(split: str, *, seed: int = 0, per_class: int | None = None) -> FileImages:
    """Open one split: 5,994 / 1,000 / 5,794 images (train / val / test), one box each.

    per_class keeps at most this many images a class, drawn by ``seed``: for trials.

    Raises ``UserError`` for missing split files or images, and says where they were looked for.
    """
    records = read_split(paths.data() / "wsol-metadata", "CUB", split)
    folder = holder([paths.data() / name for name in FOLDERS[split]], records.ids, ARCHIVES[split])
    directories = {
        int(label): path.split("/")[0] for label, path in zip(records.labels, records.ids, strict=True)
    }
    names = [class_name(directories.get(label, f"class {label}")) for label in range(max(directories) + 1)]
    return benchmark_images("cub", split, records, names, folder, per_class, seed)


def class_name(directory: str) -> str:
    """``"001.Black_footed_Albatross"`` -> ``"black-footed albatross"``.

    CUB writes every hyphen as an underscore, but keeps the small letter after it.
    """
    name = directory.split(".", 1)[-1]
    return re.sub(r"_(?=[a-z])", "-", name).replace("_", " ").lower()
