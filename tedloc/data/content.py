"""What the files of a data set hold, as one hash: a run answers for the very photos that it was made from.

Every file is hashed once (BLAKE2b, 16 bytes). After that its size and its time of change stand for its content, so an
unchanged data set costs one look at each file, however large they are. What is known is kept in
``paths.cache() / "content"``, one file a data folder, 40 bytes a photo. A file that was changed less than two seconds
before the look is hashed each time: its next change might leave its time as it is.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import numpy as np
from tqdm.auto import tqdm

from tedloc import paths
from tedloc.errors import UserError

KNOWN = np.dtype([("file", "<u8"), ("size", "<i8"), ("time", "<i8"), ("hash", "<u8", 2)])  # file: hash of its path
RECENT = 2_000_000_000  # nanoseconds: coarser than the clock of any file system
BLOCK = 2000  # files between two steps of the progress bar
SAVED = 20  # seconds of hashing that an interruption costs


def digest(folder: Path, files: Sequence[str], what: str = "files") -> str:
    """Hash over the content of the files below ``folder``, in this order; where the folder lies does not count.

    what: "photos of cub/train", for the progress bar

    Processes that ask at the same time wait for the first one. Raises ``UserError`` for a file that cannot be read.
    """
    place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    store = paths.cache() / "content" / f"{folder.name}-{place}.npy"
    store.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(store.with_suffix(".lock")):
        known, now = _read(store), time.time_ns()
        seen = _look(folder, files)
        if len(known):
            at = np.searchsorted(known["file"], seen["file"]).clip(max=len(known) - 1)
            same = np.all([known[name][at] == seen[name] for name in ("file", "size", "time")], axis=0)
            seen["hash"][same] = known["hash"][at[same]]
            missing = np.flatnonzero(~same)
        else:
            missing = np.arange(len(seen))
        fresh, saved = [], time.monotonic()
        settled = (now - seen["time"] > RECENT) | (seen["time"] > now)
        with (
            ThreadPoolExecutor() as pool,  # reading and hashing leave the interpreter lock
            tqdm(total=len(missing), desc=f"reading {what}", unit="file", delay=2, leave=False) as bar,
        ):
            for start in range(0, len(missing), BLOCK):
                block = missing[start : start + BLOCK]
                found = b"".join(pool.map(_hash, [os.path.join(folder, files[i]) for i in block]))
                seen["hash"][block] = np.frombuffer(found, "<u8").reshape(-1, 2)
                fresh.append(seen[block[settled[block]]])
                bar.update(len(block))
                if time.monotonic() - saved > SAVED or start + BLOCK >= len(missing):
                    known, fresh, saved = _keep(store, known, fresh), [], time.monotonic()
    return hashlib.sha256(seen["hash"].tobytes()).hexdigest()


def _look(folder: Path, files: Sequence[str]) -> np.ndarray:
    """Size and time of each file, hashes still zero."""
    seen, root = np.zeros(len(files), KNOWN), str(folder)

    def look(start: int) -> list[tuple[int, int]]:
        found = (os.stat(f"{root}/{name}") for name in files[start : start + BLOCK])
        return [(each.st_size, each.st_mtime_ns) for each in found]

    try:
        with ThreadPoolExecutor() as pool:  # waiting for a disk leaves the interpreter lock
            found = [each for block in pool.map(look, range(0, len(files), BLOCK)) for each in block]
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}); restore it") from None
    seen["size"], seen["time"] = np.array(found, np.int64).reshape(-1, 2).T
    keys = b"".join(hashlib.blake2b(os.fsencode(name), digest_size=8).digest() for name in files)
    seen["file"] = np.frombuffer(keys, "<u8")
    return seen


def _hash(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); restore it") from None


def _read(store: Path) -> np.ndarray:
    """What is known, sorted by file; nothing where the store is missing or damaged."""
    try:
        known = np.load(store)
    except (OSError, ValueError, EOFError):
        known = None
    return known if known is not None and known.dtype == KNOWN else np.zeros(0, KNOWN)


def _keep(store: Path, known: np.ndarray, fresh: list[np.ndarray]) -> np.ndarray:
    """Add to what is known, a file's latest hash in place of earlier ones."""
    every = np.concatenate([*fresh[::-1], known])
    known = every[np.unique(every["file"], return_index=True)[1]]
    with paths.replacing(store) as scratch:
        np.save(scratch, known)
    return known
