"""Rows of an array on disk, read by a thread before the step that needs them."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from tedloc.training.store import fetch

READY = 2  # batches that are read ahead


class Rows:
    """Rows (N, ...) of a memory-mapped array, in pinned memory where they go to a GPU.

    What comes next is said by :meth:`ahead`. It is a hint, as for ``tedloc.data.loading``: whoever asks for something
    else gets that.
    """

    def __init__(self, maps: np.ndarray):
        self.maps = maps
        self._drop()

    def _drop(self) -> None:
        self._batches: Iterator[np.ndarray] = iter(())
        self._coming: deque[tuple[np.ndarray, Future[Tensor]]] = deque()
        self._thread: ThreadPoolExecutor | None = None

    def ahead(self, batches: Iterable[np.ndarray], device: str) -> None:
        """Start reading positions (B,), batch by batch, in the order in which they will be asked for."""
        self._drop()
        self._batches, self._pinned = iter(batches), torch.device(device).type == "cuda"
        self._thread = ThreadPoolExecutor(1)
        self._fill()

    def _fill(self) -> None:
        while len(self._coming) < READY and (index := next(self._batches, None)) is not None:
            self._coming.append((index, self._thread.submit(self._read, index)))

    def _read(self, index: np.ndarray) -> Tensor:
        fetch(self.maps, index)
        kind = torch.from_numpy(np.empty(0, self.maps.dtype)).dtype
        rows = torch.empty((len(index), *self.maps.shape[1:]), dtype=kind, pin_memory=self._pinned)
        np.take(self.maps, index, axis=0, out=rows.numpy(), mode="clip")  # "raise" would go through a copy
        return rows

    def __call__(self, index: np.ndarray) -> Tensor | None:
        """(B, ...) rows if they were read ahead, else None."""
        if not (self._coming and np.array_equal(self._coming[0][0], index)):
            self._drop()
            return None
        _, rows = self._coming.popleft()
        self._fill()
        return rows.result()
