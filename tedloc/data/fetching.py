"""Bringing data sets to disk: what the programs in ``data_scripts/`` share. A run never downloads.

A data set comes as archives. Each is downloaded with a checksum and mirrors (pooch), goes on where an
interrupted download stopped, is extracted into a scratch folder beside its place and renamed into it. So a
data set is there wholly or not at all, and calling a program again after an interruption is always right.

Where nobody publishes a checksum, the first archive whose content was verified (every listed image decodes
and has its listed size) is trusted: its sha256 is kept beside it as ``NAME.sha256``, and later downloads must
agree with it. That notices a file that changed since, not one that was wrong from the start.
"""

import errno
import hashlib
import logging
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import filelock
import pooch
import requests
import tyro
from tqdm import tqdm

from tedloc import paths
from tedloc.data import ImageSet, open_split, text_files
from tedloc.data.files import unreadable_list, where
from tedloc.errors import UserError, command

TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 14  # bytes; what is lost of a part at most
BLOCK = 1000  # images between two steps of a progress bar
DEPTH = 4  # how deep below a folder or in an archive the images are looked for

pooch.get_logger().setLevel(logging.WARNING)  # what it says is said here, with the remedy


@dataclass(frozen=True)
class Archive:
    """A file to download.

    name:     its name below the data folder
    urls:     mirrors, tried in order
    size:     bytes
    checksum: ``sha256:...`` or ``md5:...``; None where nobody publishes one (see the module's docstring)
    page:     where a person gets it with a browser
    """

    name: str
    urls: tuple[str, ...]
    size: int
    checksum: str | None
    page: str

    @property
    def path(self) -> Path:
        return paths.data() / self.name

    @property
    def record(self) -> Path:
        """Where the checksum of the first verified download is kept."""
        return paths.data() / f"{self.name}.sha256"

    @property
    def expected(self) -> str | None:
        """The checksum that the file must have, as far as one is known."""
        if self.checksum or not self.record.exists():
            return self.checksum
        remedy = "remove it, if the archive beside it is to be trusted anew"
        words = text_files.read(self.record, remedy).split()
        if not words or not re.fullmatch("[0-9a-f]{64}", words[0]):
            raise UserError(f"{self.record} holds no sha256; {remedy}")
        return f"sha256:{words[0]}"

    def trust(self, sha256: str) -> None:
        """Keep the checksum of an archive whose content was verified, unless one is known already."""
        if not self.expected:
            with paths.replacing(self.record) as scratch:
                scratch.write_text(f"{sha256}  {self.name}\n")
            print(
                f"no checksum of {self.name} is published; its content was verified, so its sha256 is kept "
                f"in {self.record} and later downloads must agree with it"
            )


# Downloading


def download(archive: Archive) -> Path:
    """The archive's path in the data folder; downloaded unless it lies there (put it there by hand if you
    like).

    Raises ``UserError`` for a wrong checksum, a disk that is too small, or when no mirror gives the file.
    """
    target = archive.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        check_sum(target, archive.expected)
        return target
    need_space(target.parent, 2 * archive.size, f"{archive.name} with what it holds")
    failures = []
    for url in archive.urls:
        part = target.with_name(f".{target.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
        try:
            pooch.retrieve(
                url,
                archive.expected,
                target.name,
                target.parent,
                downloader=lambda url, output, _, part=part: _resume(url, Path(output), part),
            )
            return target
        except ValueError:  # pooch: the checksum is another one; the file is gone
            failures.append(f"{url} gave a file with another checksum than {archive.expected}")
        except OSError as error:  # requests' errors are OSErrors
            if error.errno == errno.ENOSPC:
                raise UserError(f"the disk of {target.parent} is full; make room and run this again") from None
            failures.append(f"{url} ({error})")
    raise UserError(
        f"{archive.name} ({archive.size / 1e9:.2f} GB) cannot be fetched: {'; '.join(failures)}. Run this "
        f"again to go on, or get it from {archive.page}, put it at {target} and run this again"
    )


def _resume(url: str, output: Path, part: Path) -> None:
    """Download to ``output`` by way of ``part``, which outlives an interruption and is gone on with."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:  # nothing lies beyond the part: it is whole, or not of this file
            if response.headers.get("Content-Range", "").rpartition("/")[2] != str(have):
                part.unlink()
                return _resume(url, output, part)
        else:
            response.raise_for_status()
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise OSError("a web page instead of the file")
            if response.status_code != 206:  # the server sends all of it
                have = 0
            total = have + int(response.headers.get("Content-Length", 0))
            bar = tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc=url.rpartition("/")[2][:40])
            with part.open("ab" if have else "wb") as file, bar:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
            if part.stat().st_size < total:
                raise OSError(f"cut off after {part.stat().st_size} of {total} bytes")
    os.replace(part, output)


def check_sum(path: Path, expected: str | None) -> None:
    """Raise ``UserError`` unless the file has the checksum (``sha256:...``, ``md5:...``; None: any)."""
    if expected:
        kind, _, known = expected.rpartition(":")
        if (found := digest(path, kind or "sha256")) != known:
            raise UserError(
                f"{path} is not the official file or was cut off: its {kind} is {found} instead "
                f"of {known}; "
                "remove it and run `fetch` again"
            )


def digest(path: Path, kind: str = "sha256") -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def need_space(folder: Path, size: int, what: str) -> None:
    """Raise ``UserError`` unless the disk of ``folder`` has room for ``size`` bytes."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"{what} needs {size / 1e9:.2f} GB, {folder} has {free / 1e9:.2f} GB free; make room "
            "or set TEDLOC_DATA to a folder on a larger disk"
        )


# Extracting


def extract(archive: Path, folder: Path) -> None:
    """Extract a zip or tar archive below ``folder``.

    Raises ``UserError`` before anything is written for a member that would lie elsewhere, for links and
    devices, and for a disk that is too small; and for an archive that is damaged or cut off.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as package:
                members = package.infolist()
                for member in members:
                    kind = stat.S_IFMT(member.external_attr >> 16)
                    _check_member(archive, member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
                need_space(folder, sum(member.file_size for member in members), f"what {archive} holds")
                for member in tqdm(members, desc=f"extract {archive.name}"):
                    package.extract(member, folder)
        else:
            with tarfile.open(archive) as package:
                extract_tar(package, archive, folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise UserError(f"the disk of {folder} is full; make room and run this again") from None
        raise UserError(
            f"{archive} is no archive, damaged or cut off ({error}); remove it and fetch it again"
        ) from None


def extract_tar(package: tarfile.TarFile, archive: Path, folder: Path) -> None:
    """Extract an open tar archive, maybe one inside another, below ``folder``; errors: see ``extract``."""
    members = package.getmembers()
    for member in members:
        _check_member(archive, member.name, member.isfile() or member.isdir())
    need_space(folder, sum(member.size for member in members), f"what {archive} holds")
    for member in tqdm(members, desc=f"extract {archive.name}", leave=False):
        package.extract(member, folder, filter="data")


def _check_member(archive: Path, name: str, plain: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if not plain or path.is_absolute() or ".." in path.parts or ":" in path.parts[:1]:
        raise UserError(
            f"{archive} is not the official archive: its member {name!r} "
            f"{'would lie outside of its folder' if plain else 'is a link or device'}; nothing "
            "was extracted"
        )


@contextmanager
def arranging(target: Path) -> Iterator[Path]:
    """Yield an empty scratch folder beside ``target`` to make it in; what an interrupted call left is
    cleared.

    The caller renames what it made into place (``os.replace``). One process at a time: another one waits.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.partial")
    with filelock.FileLock(target.with_name(f".{target.name}.lock")):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def find(root: Path, image: str) -> Path:
    """The folder at or below ``root`` that holds ``image``, a file or folder. Raises ``UserError`` for none."""
    level = [root]
    for _ in range(DEPTH + 1):
        for folder in level:
            if (folder / image).exists():
                return folder
        level = [Path(entry.path) for folder in level for entry in os.scandir(folder) if entry.is_dir()]
    raise UserError(f"{root} holds no {image!r}; name the folder or archive that holds it")


def place(source: Path, target: Path, image: str) -> None:
    """Make ``target`` the folder that holds ``image``: extracted from an archive, or a link to a folder (no
    copy).

    Raises ``UserError`` when ``target`` is there already, or ``source`` is missing or holds no such image.
    """
    refuse_existing(target)
    if source.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(find(source, image).resolve(), target_is_directory=True)
        return
    if not source.exists():
        raise UserError(f"{source} does not exist; name the archive, or the folder that it was extracted to")
    with arranging(target) as scratch:
        extract(source, scratch)
        os.replace(find(scratch, image), target)


def refuse_existing(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} is there already; run `verify` to check it, or remove it first")


# Looking at what is there


def check_images(images: ImageSet) -> dict[str, str]:
    """Decode every image. Returns {id: why} of those that cannot be read or have another size than listed."""

    def fault(index: int) -> str | None:
        try:
            images.image(index)
        except UserError as error:
            return str(error)
        return None

    faults = {}
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,  # decoding leaves the interpreter lock
        tqdm(total=len(images), desc=f"{images.name}/{images.split}", unit="img") as bar,
    ):
        for start in range(0, len(images), BLOCK):
            block = range(start, min(start + BLOCK, len(images)))
            for index, why in zip(block, pool.map(fault, block), strict=True):
                if why:
                    faults[images.ids[index]] = why
            bar.update(len(block))
    return faults


def verify(dataset: str, splits: Iterable[str], **settings) -> None:
    """Decode every image of the splits and keep a list of the unreadable ones (``tedloc.data.files``).

    settings: as ``open_split`` takes them

    Raises ``UserError`` that names the first unreadable image and counts them.
    """
    spoilt = []
    for split in splits:
        images = open_split(dataset, split, **settings)
        faults = check_images(images)
        with paths.replacing(unreadable_list(dataset, split)) as scratch:
            scratch.write_text("".join(f"{name}\t{' '.join(why.split())}\n" for name, why in faults.items()))
        print(
            f"{dataset}/{split}: {len(images) - len(faults)} of {len(images)} images of "
            f"{len(images.class_names)} "
            "classes can be read"
        )
        if faults:
            name, why = next(iter(faults.items()))
            spoilt.append(
                f"{len(faults)} of {len(images)} images of {dataset}/{split} cannot be used, first "
                f"{name!r}: "
                f"{why} (all: {unreadable_list(dataset, split)})"
            )
    if spoilt:
        raise UserError(
            f"{'; '.join(spoilt)}. Fetch the data again, or train without them: set data.unreadable to skip"
        )


def status(dataset: str, splits: Iterable[str], **settings) -> bool:
    """Print a line a split: how many images lie where, or what is missing. Returns whether all is there."""
    complete = True
    for split in splits:
        try:
            images = open_split(dataset, split, **settings)
        except UserError as error:
            complete = False
            place = "" if "TEDLOC_DATA" in str(error) else f" ({where()})"
            print(f"{dataset}/{split}: MISSING. {error}{place}")
        else:
            print(f"{dataset}/{split}: {len(images)} images of {len(images.class_names)} classes in {images.folder}")
    return complete


def commands(description: str, **verbs: Callable) -> None:
    """Run a script's verb from the command line; ``UserError`` becomes one line and exit code 2."""
    command(tyro.extras.subcommand_cli_from_dict)(verbs, description=description)
