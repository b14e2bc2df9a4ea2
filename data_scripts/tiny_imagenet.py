"""Fetch and check Tiny-ImageNet (ImageNet's terms: non-commercial research; the photos are not ours to ship).

    python data_scripts/tiny_imagenet.py status   # what is there (under a second)
    python data_scripts/tiny_imagenet.py verify   # decode every image (40,000 a minute)
    python data_scripts/tiny_imagenet.py fetch    # the official archive, 237 MB, into the data folder

The data folder is ``TEDLOC_DATA`` (default ``data/`` in the checkout).
"""

import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import pooch
import tyro
from tqdm import tqdm

from tedloc import paths
from tedloc.data import SPLITS, open_split
from tedloc.data.tiny_imagenet import FOLDER
from tedloc.errors import UserError, command

# Stanford publishes no checksum. This one is recorded by independent projects that fetch the same
# 248,100,043 bytes, e.g. Avalanche (https://github.com/ContinualAI/avalanche, its tiny_imagenet data set).
URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"


def status() -> None:
    """Print where the data lies and what it holds."""
    for split in SPLITS:
        images = open_split("tiny-imagenet", split)
        print(f"{images.folder}  {split}: {len(images)} images, {len(images.class_names)} classes")


def verify() -> None:
    """Decode every image of every split."""
    for split in SPLITS:
        images = open_split("tiny-imagenet", split)
        for index in tqdm(range(len(images)), desc=split):
            images.image(index)
        print(f"{split}: {len(images)} images of {len(images.class_names)} classes can be read")


def fetch(url: str = URL, md5: str = MD5) -> None:
    """Download the official archive, check it, extract it; an interrupted fetch leaves no half data set."""
    target = paths.data() / FOLDER
    if target.exists():
        raise UserError(f"{target} is there already; remove it first, or run `verify` to check it")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        archive = pooch.retrieve(
            url, known_hash=f"md5:{md5}", path=target.parent, fname=f"{FOLDER}.zip", progressbar=True
        )
    except ValueError as error:  # pooch: the hash does not match
        raise UserError(f"{url} does not have the expected checksum, so it was not used: {error}") from None
    except OSError as error:  # requests' errors are OSErrors
        raise UserError(
            f"{url} cannot be fetched ({error}); put the archive's folder at {target} by hand"
        ) from None
    scratch = Path(tempfile.mkdtemp(prefix=f".{FOLDER}.", dir=target.parent))
    try:
        with zipfile.ZipFile(archive) as package:
            for member in tqdm(package.infolist(), desc="extract"):
                package.extract(member, scratch)
        os.replace(scratch / FOLDER, target)
    finally:
        shutil.rmtree(scratch)
    Path(archive).unlink()
    status()


if __name__ == "__main__":
    command(tyro.extras.subcommand_cli_from_dict)(
        {"status": status, "verify": verify, "fetch": fetch}, description=__doc__
    )
