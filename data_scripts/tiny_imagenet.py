"""Tiny-ImageNet: 110,000 labelled photos of 64 x 64 pixels (248 MB; for non-commercial research).

    python data_scripts/tiny_imagenet.py status     # what is there
    python data_scripts/tiny_imagenet.py fetch      # download, check, extract; again after an interruption
    python data_scripts/tiny_imagenet.py verify     # decode every image
    python data_scripts/tiny_imagenet.py prepare --source tiny-imagenet-200.zip   # an archive or folder

The photos go to ``tiny-imagenet-200/`` in the data folder (``TEDLOC_DATA``, by default ``data/`` in the
checkout).
"""

from pathlib import Path

from tedloc import paths
from tedloc.data import SPLITS, fetching
from tedloc.data.tiny_imagenet import FOLDER

# Stanford publishes no checksum. Independent projects record the same sha256 (and md5
# 90528d7ca1a48142e341f4ef8d21d0de, e.g. Avalanche) for the same 248,100,043 bytes.
ARCHIVE = fetching.Archive(
    "tiny-imagenet-200.zip",
    ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),
    248_100_043,
    "sha256:6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
)


def folder() -> Path:
    return paths.data() / FOLDER


def fetch() -> None:
    """Download and extract the archive. An archive that lies in the data folder already is used."""
    fetching.refuse_existing(folder())
    archive = fetching.download(ARCHIVE)
    fetching.place(archive, folder(), "wnids.txt")
    archive.unlink()
    status()


def prepare(source: Path) -> None:
    """Extract an archive, or link a folder in the official layout; nothing is copied, the archive stays."""
    if source.is_file():
        fetching.check_sum(source, ARCHIVE.expected)
    fetching.place(source, folder(), "wnids.txt")
    status()


def verify() -> None:
    """Decode every image of every split."""
    fetching.verify("tiny-imagenet", SPLITS)


def status() -> None:
    """Print where the data lies and what it holds."""
    fetching.status("tiny-imagenet", SPLITS)


if __name__ == "__main__":
    fetching.commands(__doc__, status=status, fetch=fetch, verify=verify, prepare=prepare)
