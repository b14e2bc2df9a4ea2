"""Photos on their way to a network: read and made square by processes of their own, before they are asked for.

    photos = Photos(images, preprocessing.square, device="cuda")
    photos.ahead(batches)                 # positions (B,), in the order in which they will be asked for
    for index in batches:
        x = photos(index)                 # (B, 3, S, S) uint8 on the device

torch's ``DataLoader`` reads ahead, in pinned memory for a GPU. What crosses the bus is one byte a channel: a photo is
decoded and resized where it is read, by the filter that the network was made for, and normalised where the network is.
(Photos of many sizes can be resized together nowhere, and are larger than the square.)

What was said to come is a hint. Whoever asks for something else gets that, read on the spot, and nothing is read ahead
until the next plan; so order and numbers are the same for any number of processes, none among them.
"""

import itertools
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tedloc.data import ImageSet
from tedloc.data.processes import readers
from tedloc.errors import UserError

Square = Callable[[np.ndarray], Tensor]  # (H, W, 3) uint8 RGB -> (1, 3, S, S) uint8
WAITING = 2  # batches a process has ready before it waits


class _Batches(Dataset):
    """What a worker does: a batch of squares, or the sentence about a photo that cannot be read."""

    def __init__(self, images: ImageSet, square: Square):
        self.images, self.square = images, square

    def __getitems__(self, index: np.ndarray) -> Tensor | UserError:
        try:
            return torch.cat([self.square(self.images.image(i)) for i in index])
        except UserError as error:  # torch would wrap it in the worker's traceback
            return error


def _as_it_is(batch: Tensor | UserError) -> Tensor | UserError:
    return batch


class Photos:
    """The photos of a split, squared, on a device.

    asked: for how many processes, None for the default (``tedloc.data.processes``)
    """

    def __init__(self, images: ImageSet, square: Square, device: str = "cpu", asked: int | None = None):
        self.rows, self.device, self.asked = _Batches(images, square), device, asked
        self._drop()

    def _drop(self) -> None:
        """Forget the plan; the processes that were at it end."""
        self._order: Iterator[np.ndarray] = iter(())
        self._next: np.ndarray | None = None
        self._coming: Iterator[Tensor | UserError] | None = None

    def ahead(self, batches: Iterable[np.ndarray]) -> None:
        """Start reading what comes next. ``batches`` is taken from as far as is read ahead, so it may be endless."""
        self._drop()
        if not (count := readers(self.rows.images, self.asked, self.device)):
            return
        self._order, wanted = itertools.tee(batches)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of more processes than cores, as asked for; of forks beside threads
            loader = DataLoader(
                self.rows,
                batch_sampler=wanted,
                num_workers=count,
                prefetch_factor=WAITING,
                collate_fn=_as_it_is,
                pin_memory=torch.device(self.device).type == "cuda",
                generator=torch.Generator(),  # torch draws a seed for the workers: not from the global state
                # a fork starts at once, and what it does here needs neither the GPU nor torch's threads
                multiprocessing_context="fork" if sys.platform == "linux" else None,
            )
            self._coming = iter(loader)
        self._next = next(self._order, None)

    def __call__(self, index: np.ndarray) -> Tensor:
        """(B, 3, S, S) uint8 on the device. Raises ``UserError`` that names a photo that cannot be read."""
        if self._next is not None and np.array_equal(self._next, index):
            rows = self._read_ahead()
        else:
            self._drop()
            rows = self.rows.__getitems__(index)
        if isinstance(rows, UserError):
            self._drop()
            raise rows
        return rows.to(self.device, non_blocking=True)

    def _read_ahead(self) -> Tensor | UserError:
        try:
            rows = next(self._coming)
        except RuntimeError as error:
            self._drop()
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"a process that reads photos died ({str(error).splitlines()[0]}); lower data.workers, or give this "
                "machine or container more memory, shared memory (/dev/shm) included"
            ) from error
        self._next = next(self._order, None)
        if self._next is None:
            self._drop()
        return rows


def back(results: Iterable[Tensor]) -> Iterator[np.ndarray]:
    """What is computed on a device, on the host. Of a GPU one behind: while one result is on its way and written, the
    next is computed."""
    waiting: tuple[Tensor, torch.cuda.Event] | None = None
    for result in results:
        if result.device.type != "cuda":
            yield result.cpu().numpy()
            continue
        coming = result.to("cpu", non_blocking=True), torch.cuda.current_stream(result.device).record_event()
        if waiting:
            waiting[1].synchronize()
            yield waiting[0].numpy()
        waiting = coming
    if waiting:
        waiting[1].synchronize()
        yield waiting[0].numpy()
