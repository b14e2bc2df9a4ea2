"""CUBV2: the benchmark's 1,000 validation photos for CUB (Flickr; mixed licences, some non-commercial).

    python data_scripts/cubv2.py status     # what is there
    python data_scripts/cubv2.py fetch      # download, extract, verify; call it again after an interruption
    python data_scripts/cubv2.py verify     # decode every image
    python data_scripts/cubv2.py prepare --source CUBV2.tar    # an archive or folder that you have already

They go to ``CUBV2/`` in the data folder (``TEDLOC_DATA``, by default ``data/`` in the checkout). Split files
first: data_scripts/wsol_metadata.py.

The benchmark's authors share the archive by links that need a browser at times, and publish no checksum. So
the content decides: each of the 1,000 listed images must decode and have its listed size; see
tedloc.data.fetching.
"""

import shutil
from pathlib import Path

from tedloc import paths
from tedloc.data import fetching
from tedloc.data.benchmark import read_split
from tedloc.errors import UserError

DRIVE = "1U6cwKHS65wayT9FFvoLIA8cn1k0Ot2M1"
ARCHIVE = fetching.Archive(
    "CUBV2.tar",
    (
        f"https://drive.usercontent.google.com/download?id={DRIVE}&export=download&confirm=t",
        "https://onedrive.live.com/download?cid=B7111B95B80CCC66&resid=B7111B95B80CCC66%2130812"
        "&authkey=AFMzb4akufUiWU0",
    ),
    500_000_000,  # not published: an upper guess for 1,000 photos, so that a small disk is noticed early
    None,
    f"https://drive.google.com/open?id={DRIVE}",
)
SPLITS = ("val",)


def folder() -> Path:
    return paths.data() / "CUBV2"


def first_image() -> str:
    return read_split(paths.data() / "wsol-metadata", "CUB", "val").ids[0]


def fetch() -> None:
    """Download, extract and verify. An archive that lies in the data folder already is used."""
    fetching.refuse_existing(folder())
    image = first_image()
    archive = fetching.download(ARCHIVE)
    fetching.place(archive, folder(), image)
    try:
        verify()
    except UserError as error:
        shutil.rmtree(folder())
        raise UserError(f"{archive} does not hold the benchmark's images: {error}; remove it") from None
    ARCHIVE.trust(fetching.digest(archive))
    archive.unlink()


def prepare(source: Path) -> None:
    """Extract an archive, or link the folder of the class folders; nothing is copied, the archive stays."""
    if source.is_file():
        fetching.check_sum(source, ARCHIVE.expected)
    fetching.place(source, folder(), first_image())
    verify()


def verify() -> None:
    """Decode every image and compare its size with the split files."""
    fetching.verify("cub", SPLITS)


def status() -> None:
    """Print where the images lie and how many, or what is missing."""
    fetching.status("cub", SPLITS)


if __name__ == "__main__":
    fetching.commands(__doc__, status=status, fetch=fetch, verify=verify, prepare=prepare)
