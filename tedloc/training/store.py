"""Maps on disk: an array with one row an image, computed once, by any number of processes, through any kill.

Pseudo-labels (N, h, w) and feature maps (N, V, C, h, w) are kept in the same way. One folder holds

    index.json      shape and type of the array, images a chunk, what was computed and with which settings
    images.txt.gz   the id of every row's image, in order
    maps.bin        the rows, without a header; readers map it into memory
    chunks.bin      8 bytes a chunk of rows: their CRC-32 and its complement
    locks/          a file for every shard, a range of chunks that one process computes at a time

A chunk is one batch. Its rows are written first and its checksum after them; eight zeros, the state before
that, are no checksum with its complement. Threads write two batches while the network is at the next one: a process
that dies at any moment loses these three and no other. The next one goes on from there; the system gives back the
lock of a process that has died.

Processes, on one machine or on several that see the folder, share the work without knowing of each other. The
batches are the same however many share them, so the array is the same to the bit (on equal machines, with the
same number of threads). Files are opened with O_DSYNC: rows are on the disk before their checksum is, and a
network file system then sends the bytes written and not the whole page, whose rest may be a neighbour's.

Zarr v3 (3.1, LocalStore, crc32c) was tried in place of these files. With a shard a batch and a chunk a row, kills and
company do no harm either, but the 32 rows of a training step take 100 to 300 times the processor time at the aviary's
size and 4 to 9 times at EVA-L's, and ILSVRC takes 25,624 files; locks, what is missing and room on the disk stay ours.
With ten batches a shard every batch rewrites its shard (5.5 times the bytes), and two writers undo each other's.
"""

import contextlib
import errno
import gzip
import json
import mmap
import multiprocessing
import os
import shutil
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from tqdm.auto import tqdm

from tedloc import paths
from tedloc.data.processes import sharing
from tedloc.errors import UserError

CHUNK = 50  # images: what a kill may cost, and the batch that goes through the network
SHARDS = 256  # at most: so many processes can share the work
WRITERS = 2  # threads: while one waits for the disk, the other copies and sums up
WAIT = 0.5  # seconds between two looks at what other processes still compute

# batch by batch, positions (B,) -> rows (B, ...) of the array; what comes next may be asked for early, to read ahead
Rows = Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]]


def stored_maps(
    folder: Path,
    ids: Sequence[str],
    open_rows: Callable[[], Rows],
    *,
    what: str,
    settings: dict[str, Any],
    unit: str = "images",
    verify: bool = False,
    chunk: int = CHUNK,
) -> np.ndarray:
    """The array of a folder, memory-mapped: read where it is whole, computed where it is not.

    ids:       of the N images, in order
    open_rows: loads the network, returns the function that computes rows; called only when some are missing
    what:      "features of cub/train", for progress and errors
    unit:      what the size counts, "images x 2 views"
    settings:  kept in index.json for whoever finds the folder; ``folder`` must differ where they do
    verify:    read everything and compute damaged chunks again. A file cut short is noticed in any case
    chunk:     images of a chunk, where the folder is new

    Raises ``UserError`` when the disk is too small for what is missing.
    """
    rows = None
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):
        if not (folder / "index.json").exists():
            rows = open_rows()
            _create(folder, ids, next(iter(rows([np.arange(1)]))), what, settings, chunk)
    store = MapStore(folder, what)
    if store.stretched() or verify:
        store.forget(store.damaged())
    if missing := len(store.missing()):
        need, free = store.bytes(missing), shutil.disk_usage(folder).free
        whole = f"{what}: {store.shape[0]:,} {unit}, {size_text(store.bytes(store.chunks))}"
        if need > free:
            raise UserError(
                f"{whole}; {size_text(need)} are missing, {folder} has {size_text(free)} free; "
                "set TEDLOC_CACHE to a larger disk"
            )
        if not is_worker():
            print(whole, file=sys.stderr)
        store.fill(rows or open_rows())
    return store.maps()


def _create(
    folder: Path, ids: Sequence[str], first: np.ndarray, what: str, settings: dict[str, Any], chunk: int
) -> None:
    """The folder's fixed files; index.json last."""
    with paths.replacing(folder / "images.txt.gz") as scratch, gzip.open(scratch, "wt") as lines:
        lines.write("".join(f"{name}\n" for name in ids))
    (folder / "locks").mkdir(exist_ok=True)
    for name in ("maps.bin", "chunks.bin"):
        (folder / name).write_bytes(b"")
    index = {
        "what": what,
        "shape": [len(ids), *first.shape[1:]],
        "dtype": first.dtype.str,
        "images a chunk": chunk,
        "settings": settings,
    }
    with paths.replacing(folder / "index.json") as scratch:
        scratch.write_text(json.dumps(index, indent=1, default=str))


class MapStore:
    """An array whose index.json exists, whole or not."""

    def __init__(self, folder: Path, what: str = ""):
        index = json.loads((folder / "index.json").read_text())
        self.folder, self.what = folder, what or index["what"]
        self.shape, self.dtype, self.chunk = (tuple(index["shape"]), np.dtype(index["dtype"]), index["images a chunk"])
        self.chunks = -(-self.shape[0] // self.chunk)
        self.per_shard = -(-self.chunks // SHARDS)
        self.row_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize

    def maps(self) -> np.ndarray:
        """(N, ...) memory map, read-only; rows of missing chunks are zeros."""
        return np.memmap(self.folder / "maps.bin", self.dtype, "r", shape=self.shape)

    def index(self, chunk: int) -> np.ndarray:
        """Positions of a chunk's images."""
        return np.arange(chunk * self.chunk, min((chunk + 1) * self.chunk, self.shape[0]))

    def bytes(self, chunks: int) -> int:
        return min(chunks * self.chunk, self.shape[0]) * self.row_bytes

    def missing(self, first: int = 0, count: int | None = None) -> np.ndarray:
        """Chunks, of ``count`` from ``first`` on, without a checksum."""
        count = self.chunks - first if count is None else min(count, self.chunks - first)
        crc, complement = np.fromfile(self.folder / "chunks.bin", "<u4", 2 * count, offset=8 * first).reshape(-1, 2).T
        return first + np.flatnonzero(crc != ~complement)

    def stretched(self) -> bool:
        """Bring files of a wrong length (new ones, broken copies) to the right one; says whether any were."""
        lengths = {"maps.bin": self.shape[0] * self.row_bytes, "chunks.bin": 8 * self.chunks}
        wrong = [name for name, length in lengths.items() if _length(self.folder / name) != length]
        for name in wrong:
            (self.folder / name).touch()
            os.truncate(self.folder / name, lengths[name])
        return bool(wrong)

    def damaged(self) -> np.ndarray:
        """Chunks whose rows do not have the checksum they were written with. Reads the whole array."""
        table = np.fromfile(self.folder / "chunks.bin", "<u4").reshape(-1, 2)
        done, maps = np.setdiff1d(np.arange(self.chunks), self.missing()), self.maps()
        slow = self.bytes(len(done)) > 2e9 and not is_worker()
        bad = [
            chunk
            for chunk in tqdm(done, desc=f"{self.what}: checksums", unit="chunk", disable=not slow)
            if zlib.crc32(maps[self.index(chunk)[0] : self.index(chunk)[-1] + 1]) != table[chunk, 0]
        ]
        return np.array(bad, np.int64)

    def forget(self, chunks: np.ndarray) -> None:
        """Have chunks computed again."""
        for chunk in chunks:
            _write(self.folder / "chunks.bin", 8 * int(chunk), bytes(8))
        if len(chunks):
            print(
                f"{self.what}: {len(chunks)} of {self.chunks} chunks are damaged, the first at image "
                f"{chunks[0] * self.chunk:,}; they are computed again",
                file=sys.stderr,
            )

    def fill(self, rows: Rows) -> None:
        """Compute what is missing; returns when the array is whole, whoever computed it."""
        with tqdm(
            total=self.shape[0], initial=self._rows_done(), desc=self.what, unit="image", disable=is_worker()
        ) as bar:
            while len(missing := self.missing()):
                if not self._fill_shards(np.unique(missing // self.per_shard), rows, bar):
                    time.sleep(WAIT)  # the rest is in other processes' hands
                self._advance(bar)

    def _fill_shards(self, shards: np.ndarray, rows: Rows, bar: tqdm) -> bool:
        """Compute what shards lack, but for those that another process is at; says whether there was something to do.

        A shard is this process's from when its first chunk is asked for until its last one is stored.
        """
        asked: deque[tuple[int, filelock.FileLock | None]] = deque()  # chunks; with the last of a shard, its lock
        writing: deque[tuple[Future[None], filelock.FileLock | None]] = deque()
        done = False
        with contextlib.ExitStack() as held, ThreadPoolExecutor(WRITERS) as writer:  # ends before locks are given back

            def claimed() -> Iterator[np.ndarray]:
                for shard in map(int, shards):
                    lock = filelock.FileLock(self.folder / "locks" / str(shard), blocking=False)
                    try:
                        held.enter_context(lock)
                    except filelock.Timeout:
                        continue
                    missing = self.missing(shard * self.per_shard, self.per_shard).tolist()
                    if not missing:
                        lock.release()
                    for chunk in missing:
                        asked.append((chunk, lock if chunk == missing[-1] else None))
                        yield self.index(chunk)

            def written() -> None:
                """Wait for the first of those that are being written."""
                stored, lock = writing.popleft()
                stored.result()
                if lock:
                    lock.release()
                self._advance(bar)

            for found in rows(claimed()):
                if len(writing) == WRITERS:
                    written()
                chunk, lock = asked.popleft()
                writing.append((writer.submit(self._store, chunk, found), lock))
                done = True
            while writing:
                written()
        return done

    def _store(self, chunk: int, rows: np.ndarray) -> None:
        data = np.ascontiguousarray(rows, self.dtype)
        expected = (len(self.index(chunk)), *self.shape[1:])
        if data.shape != expected:
            raise ValueError(f"{self.what}: rows of shape {data.shape} where {expected} were expected")
        crc = np.uint32(zlib.crc32(data))
        try:
            _write(self.folder / "maps.bin", chunk * self.chunk * self.row_bytes, data)
            _write(self.folder / "chunks.bin", 8 * chunk, np.array([crc, ~crc], "<u4"))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"{self.what}: the disk of {self.folder} is full; make room and run the same command "
                "again (what is finished is kept), or set TEDLOC_CACHE to a larger disk"
            ) from error

    def _rows_done(self) -> int:
        missing = self.missing()
        # the last chunk is short of a full one by so many
        short = self.chunks * self.chunk - self.shape[0] if self.chunks - 1 in missing else 0
        return self.shape[0] - len(missing) * self.chunk + short

    def _advance(self, bar: tqdm) -> None:
        """What every process has done: so the time left is that of all of them together."""
        if not bar.disable:
            bar.update(self._rows_done() - bar.n)


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else -1


def _write(file: Path, offset: int, data) -> None:
    """Write at an offset, through to the disk."""

    def opener(name, flags):
        return os.open(name, flags | getattr(os, "O_DSYNC", 0))

    with open(file, "r+b", opener=opener) as opened:
        opened.seek(offset)
        opened.write(data)


def fetch(maps: np.ndarray, *place: np.ndarray | int) -> None:
    """Have the system read ``maps[place]`` from the disk: all rows at once, and nothing beside them.

    Left alone it reads on from every page that is touched, row after row. Does nothing for an array in memory, and
    where the system takes no advice.
    """
    if isinstance(maps.base, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED"):
        size = maps.strides[len(place) - 1]
        for start in np.ravel(sum(at * step for at, step in zip(place, maps.strides, strict=False))).tolist():
            page = start - start % mmap.PAGESIZE
            maps.base.madvise(mmap.MADV_WILLNEED, page, start - page + size)


def size_text(size: float) -> str:
    """Bytes for people: "6.3 GB"."""
    for unit, power in (("TB", 12), ("GB", 9), ("MB", 6)):
        if size >= 10**power:
            return f"{size / 10**power:,.1f} {unit}"
    return f"{size / 1000:.1f} kB"


def is_worker() -> bool:
    """Whether another process started this one (:func:`side_by_side`); progress is left to that."""
    return multiprocessing.parent_process() is not None


def side_by_side(workers: int, device: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments, device=...)`` in ``workers`` processes that share a store; this one's result.

    "cuda" deals the machine's GPUs out to them; CPU threads are divided among them.
    """
    import torch  # a store alone does without

    gpus = torch.cuda.device_count() if device == "cuda" else 0
    devices = [f"cuda:{i % gpus}" if gpus else device for i in range(workers)]
    threads = max(1, torch.get_num_threads() // workers)
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_work, args=(workers, threads, each, function, *arguments)) for each in devices[1:]
    ]
    for process in others:
        process.start()
    try:
        result = _work(workers, threads, devices[0], function, *arguments)
    except BaseException:
        for process in others:
            process.terminate()
        raise
    finally:
        for process in others:
            process.join()
    if failed := sum(process.exitcode != 0 for process in others):
        print(f"{failed} of {workers} processes ended early; the others did their part", file=sys.stderr)
    return result


def _work(workers: int, threads: int, device: str, function: Callable[..., Any], *arguments: Any) -> Any:
    import torch

    sharing(workers)
    torch.set_num_threads(threads)
    return function(*arguments, device=device)
