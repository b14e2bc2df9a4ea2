"""Score maps that lie on disk, on several processes, in memory that does not grow with their number."""

import itertools
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from tedloc.data.benchmark import BenchmarkSplit
from tedloc.errors import UserError
from tedloc.metrics import baselines, boxes, pxap, score_files
from tedloc.metrics.meter import LocalizationMeter

CHUNK = 50  # images scored between two steps of the progress bar: bounds the memory, whatever the split's size


@dataclass(frozen=True, eq=False)
class Work:
    """Images to score, with the files of their maps; a split, or a chunk of one that goes to another process."""

    split: BenchmarkSplit
    files: list[Path]
    grid: int
    step: float
    allow_constant: bool
    scale: int | None = None
    scores: np.ndarray | None = None
    mask_root: Path | None = None
    masks: list[tuple[list[str], list[str]]] | None = None

    def take(self, index: np.ndarray) -> "Work":
        """The images at ``index``."""

        def pick(rows):
            return rows if rows is None else rows[index] if isinstance(rows, np.ndarray) else [rows[i] for i in index]

        s = self.split
        split = BenchmarkSplit(pick(s.ids), pick(s.labels), pick(s.boxes), pick(s.sizes))
        return replace(self, split=split, files=pick(self.files), scores=pick(self.scores), masks=pick(self.masks))

    def chunks(self) -> Iterator["Work"]:
        order = np.arange(len(self.files))
        return (self.take(order[start : start + CHUNK]) for start in range(0, len(order), CHUNK))


def score_chunk(work: Work) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """State of a meter that saw the images of ``work`` and, with masks, the pixel histogram of a centred Gaussian."""
    meter = LocalizationMeter(grid=work.grid, step=work.step)
    split, masks, gaussian = work.split, None, None
    maps = np.empty((len(work.files), work.grid, work.grid))
    for row, file, size in zip(maps, work.files, split.sizes, strict=True):
        row[:] = score_files.read_map(file, work.grid, work.allow_constant, size, work.scale)
    if work.masks is not None:
        masks = [
            score_files.read_mask(work.mask_root, *names, work.grid, size)
            for names, size in zip(work.masks, split.sizes, strict=True)
        ]
        centred, edges = baselines.gaussian_map(work.grid), pxap.bin_edges(work.step)
        gaussian = sum(pxap.histogram(centred, mask, edges).astype(np.int64) for mask in masks)
    meter.update(
        split.ids,
        maps,
        split.boxes if masks is None else None,
        split.sizes,
        split.labels,
        work.scores,
        masks,
        as_is=True,
    )
    return meter.state_dict(), gaussian


def score(work: Work, workers: int = 1, title: str = "scoring") -> tuple[LocalizationMeter, np.ndarray | None]:
    """Score all images, on ``workers`` processes, with a progress bar. The result does not depend on ``workers``."""
    meter, gaussian = LocalizationMeter(grid=work.grid, step=work.step), None
    with tqdm(total=len(work.files), desc=title, unit="map") as bar:
        for state, histogram in _results(announced(work.chunks()), workers):
            meter.merge(LocalizationMeter.from_state(state))
            if histogram is not None:
                gaussian = histogram if gaussian is None else gaussian + histogram
            bar.update(len(state["ids"]))
    return meter, gaussian


def announced(chunks: Iterator["Work"]) -> Iterator["Work"]:
    """The chunks; of each, and of the one after it, the system is told that its files are about to be read, so that a
    disk works while boxes are found."""
    current = next(chunks, None)
    _announce(current)
    while current is not None:
        following = next(chunks, None)
        _announce(following)
        yield current
        current = following


def _announce(work: Work | None) -> None:
    if work is None or not hasattr(os, "posix_fadvise"):
        return
    for file in work.files:
        try:
            opened = os.open(file, os.O_RDONLY)
        except OSError:
            continue  # whoever reads it says what is wrong
        try:
            os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(opened)


def _results(chunks: Iterator[Work], workers: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray | None]]:
    """What ``score_chunk`` gives for each chunk, in any order; two chunks a process are on their way at a time."""
    if workers == 1:
        yield from map(score_chunk, chunks)
        return
    boxes.boxes_by_level(np.eye(2, dtype=np.uint8), np.ones((1, 4)))  # compile once, not in every process
    context = multiprocessing.get_context("spawn")  # a forked process would inherit OpenCV's threads half alive
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        try:
            waiting = {pool.submit(score_chunk, chunk) for chunk in itertools.islice(chunks, 2 * workers)}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                waiting |= {pool.submit(score_chunk, chunk) for chunk in itertools.islice(chunks, len(done))}
                yield from (future.result() for future in done)
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    "a process that scored maps was ended from outside, as happens when memory runs out; "
                    "give fewer --workers"
                ) from None
            raise
