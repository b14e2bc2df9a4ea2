"""Imagenette and Imagewoof: 20 classes of ILSVRC, 26,348 photos, short side 320 pixels (0.7 GB).

    python data_scripts/imagenette.py status      # what is there
    python data_scripts/imagenette.py fetch       # download, check, extract; again after an interruption
    python data_scripts/imagenette.py verify      # decode every image
    python data_scripts/imagenette.py prepare --subset imagewoof --source imagewoof2-320.tgz    # an archive or folder

The photos are ImageNet's, for non-commercial research alone. They go to ``imagenette2-320/`` and ``imagewoof2-320/`` in
the data folder (``TEDLOC_DATA``, by default ``data/`` in the checkout); a folder that you have is linked as
``imagenette2`` or ``imagewoof2``. Split files first: data_scripts/wsol_metadata.py. A copy of fewer photos is looked at
with ``--per-class 300``.

The archives' authors publish no checksum. Other projects record the ones below, not all of them the same, and nobody
here has verified them: a program that finds another one says so and stops, and you decide.
"""

import shutil
from pathlib import Path
from typing import Literal

from tedloc import paths
from tedloc.data import SPLITS, fetching, open_split
from tedloc.data.benchmark import read_split
from tedloc.data.imagenette import FOLDERS, SUBSETS
from tedloc.errors import UserError

Subset = Literal["imagenette", "imagewoof"]
PAGE = "https://github.com/fastai/imagenette"
SITE = "https://s3.amazonaws.com/fast-ai-imageclas"
ARCHIVES = {
    "imagenette": fetching.Archive(
        "imagenette2-320.tgz", (f"{SITE}/imagenette2-320.tgz",), 341_663_724, None, PAGE
    ),  # bytes as the Hugging Face hub's loader of the data set records them
    "imagewoof": fetching.Archive(
        "imagewoof2-320.tgz", (f"{SITE}/imagewoof2-320.tgz",), 350_000_000, None, PAGE
    ),  # an upper guess, so that a small disk is noticed early
}
UNVERIFIED = {  # checksum, and who records it
    "imagenette": ("md5:3df6f0d01a2c9592104656642f5e78a3", "torchvision"),
    "imagewoof": ("sha256:4e4905ed7643120daaf9bf3b2ef7f3a7e8396d9bdaf254a38c6f01f618b4973d", "FastAI.jl"),
}


def fetch() -> None:
    """Download and extract what is not there. An archive that lies in the data folder already is used."""
    read_split(paths.data() / "wsol-metadata", "ILSVRC", "test")  # before a long download: are they there?
    for subset in SUBSETS:
        if subset not in present():
            archive = fetching.download(ARCHIVES[subset])
            arrange(subset, archive)
            archive.unlink()
    status()


def prepare(subset: Subset, source: Path, any_checksum: bool = False, per_class: int | None = None) -> None:
    """Extract an archive, or link a folder that holds train/ and val/; nothing is copied, the archive stays.

    Args:
        subset: which of the two
        source: the archive, or a folder of its photos
        any_checksum: take an archive whose checksum is not the recorded one; its photos' names are checked alone
        per_class: how many training photos of each class it is meant to hold, if not all
    """
    arrange(subset, source, any_checksum)
    status(per_class)


def verify(per_class: int | None = None) -> None:
    """Decode every image of what is there."""
    fetching.verify("imagenette", SPLITS, per_class=per_class, only_classes=present() or None)


def status(per_class: int | None = None) -> None:
    """Print where the data lies and what it holds."""
    for subset in SUBSETS:
        print(f"{subset}:")
        fetching.status("imagenette", SPLITS, only_classes=(subset,), per_class=per_class)


def present() -> tuple[str, ...]:
    """The subsets that are there, whole or not."""
    return tuple(subset for subset, names in FOLDERS.items() if any((paths.data() / name).exists() for name in names))


def arrange(subset: str, source: Path, any_checksum: bool = False) -> None:
    """The archive extracted, or the folder linked, below the data folder; refused unless the names are right."""
    if subset in present():
        raise UserError(f"{subset} is in {paths.data()} already; run `verify` to check it, or remove it first")
    extracted, linked = (paths.data() / name for name in FOLDERS[subset])
    if source.is_file() and not any_checksum:
        check_sum(subset, source)
    target = linked if source.is_dir() else extracted
    fetching.place(source, target, f"train/{SUBSETS[subset][0]}")
    try:
        for split in ("val", "test") if source.is_dir() else SPLITS:
            open_split("imagenette", split, only_classes=(subset,))
    except UserError as error:
        target.unlink() if target.is_symlink() else shutil.rmtree(target)
        raise UserError(f"{source} is not taken as {subset}: {error}") from None


def check_sum(subset: str, path: Path) -> None:
    """Raise ``UserError`` unless the archive has the checksum that is recorded elsewhere."""
    checksum, who = UNVERIFIED[subset]
    kind, known = checksum.split(":")
    if (found := fetching.digest(path, kind)) != known:
        raise UserError(
            f"{path} has the {kind} {found}; {who} records {known}, which nobody here has verified, and nothing was "
            "extracted. It may be cut off: remove it and run `fetch` again. If the same file comes, compare its "
            f"checksum with others' ({PAGE}), or trust it: `prepare --subset {subset} --source {path} --any-checksum`"
        )
    print(f"{path.name} has the {kind} that {who} records: {known}; verified by nobody here before")


if __name__ == "__main__":
    fetching.commands(__doc__, status=status, fetch=fetch, verify=verify, prepare=prepare)
