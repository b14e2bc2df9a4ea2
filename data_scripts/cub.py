"""CUB-200-2011: 11,788 photos of 200 bird species (1.15 GB; for non-commercial research and education).

    python data_scripts/cub.py status     # what is there
    python data_scripts/cub.py fetch      # download, check, extract; call it again after an interruption
    python data_scripts/cub.py verify     # compare official lists and split files, decode every image
    python data_scripts/cub.py prepare --source CUB_200_2011.tgz    # an archive or folder that you have

The photos go to ``CUB_200_2011/`` in the data folder (``TEDLOC_DATA``, by default ``data/`` in the checkout),
in the official layout. Also needed: data_scripts/wsol_metadata.py (split files) and data_scripts/cubv2.py
(validation).
"""

from pathlib import Path

import numpy as np

from tedloc import paths
from tedloc.data import fetching, text_files
from tedloc.data.benchmark import BenchmarkSplit, read_split
from tedloc.errors import UserError

# CaltechDATA publishes the md5 97eceeb196236b17998738112f37df78; this is the sha256 of the same 1,150,585,339
# bytes, as TensorFlow Datasets records it.
ARCHIVE = fetching.Archive(
    "CUB_200_2011.tgz",
    (
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz?download=1",
        "https://s3.amazonaws.com/fast-ai-imageclas/CUB_200_2011.tgz",
    ),
    1_150_585_339,
    "sha256:0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
    "https://data.caltech.edu/records/65de6-vp158",
)
SPLITS = ("train", "test")


def folder() -> Path:
    return paths.data() / "CUB_200_2011"


def fetch() -> None:
    """Download and extract the archive. An archive that lies in the data folder already is used."""
    fetching.refuse_existing(folder())
    split_files("train")  # before a long download: are they there?
    archive = fetching.download(ARCHIVE)
    fetching.place(archive, folder(), "images.txt")
    archive.unlink()
    check_lists()
    status()


def prepare(source: Path) -> None:
    """Extract an archive, or link a folder in the official layout; nothing is copied, the archive stays."""
    if source.is_file():
        fetching.check_sum(source, ARCHIVE.expected)
    fetching.place(source, folder(), "images.txt")
    check_lists()
    status()


def verify() -> None:
    """Compare the official lists with the split files, then decode every image."""
    check_lists()
    fetching.verify("cub", SPLITS)


def status() -> None:
    """Print where the images lie and how many, or what is missing."""
    fetching.status("cub", SPLITS)


def split_files(split: str) -> BenchmarkSplit:
    return read_split(paths.data() / "wsol-metadata", "CUB", split)


def official(name: str) -> dict[int, str]:
    """A list of the archive: lines ``image number, space, value``."""
    path, found = folder() / name, {}
    for line, text in text_files.lines(path, f"extract {ARCHIVE.name} again (run fetch)"):
        number, _, value = text.partition(" ")
        if text_files.whole(number) is None or not value.strip():
            raise UserError(f"{path}, line {line}: {text!r} is not a number, a space and a value; extract it again")
        found[text_files.whole(number)] = value.strip()
    return found


def check_lists() -> None:
    """The archive's lists and the benchmark's split files must name the same images, classes and split."""
    names, classes = official("images.txt"), official("image_class_labels.txt")
    training = official("train_test_split.txt")
    for split, flag in (("train", "1"), ("test", "0")):
        records = split_files(split)
        ours = dict(zip(records.ids, records.labels.tolist(), strict=True))
        theirs = {names[n]: (text_files.whole(classes.get(n, "")) or 0) - 1 for n in names if training.get(n) == flag}
        if ours != theirs:
            odd = sorted(set(ours.items()) ^ set(theirs.items()))[0][0]
            raise UserError(
                f"the lists in {folder()} and the split files of CUB/{split} disagree, first "
                f"about {odd!r}; "
                "fetch both again"
            )
    present = np.mean([(folder() / "images" / name).is_file() for name in names.values()])
    if present < 1:
        raise UserError(f"{folder()}/images lacks {1 - present:.1%} of the images of images.txt; extract it again")


if __name__ == "__main__":
    fetching.commands(__doc__, status=status, fetch=fetch, verify=verify, prepare=prepare)
