"""Training and evaluation in several processes, on one machine or many: ``torchrun -m tedloc.train ...``.

Every process (rank) takes its rows of the same global batch. Whatever would differ from one process is
shared, so that N processes give the numbers of one, up to rounding:

    gradients   averaged by DistributedDataParallel, each rank weighted by its number of images
    batch norm  statistics of the global batch (:class:`GlobalBatchNorm`, on gloo and nccl alike)
    randomness  a step draws rows for the global batch, of which a rank keeps its own (:class:`Draws`)
    losses      one that sets images against each other gathers them first (:func:`gathered`); one that is a mean
                over something else than images (the valid pixels of L_KD and P_CL) divides by :func:`divisor`
    metrics     each rank scores its batches of a split, rank 0 merges the meters, which is exact

No image is padded or seen twice: where a batch does not divide, the first ranks have one image more.

Outside torchrun every function here does nothing. Machines share ``TEDLOC_RUNS`` and ``TEDLOC_CACHE``.
"""

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn import functional as collectives
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel

from tedloc.errors import UserError

# so long the others wait for rank 0's caches; that a process died, torchrun notices itself
PATIENCE = datetime.timedelta(days=1)


@contextlib.contextmanager
def processes(device: str) -> Iterator[None]:
    """Join the processes that torchrun started, if it did: gloo on CPUs, nccl on GPUs, one GPU a process.

    Raises ``UserError`` for a numbered GPU, which all processes would share.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or dist.is_initialized():
        yield
        return
    if ":" in device:
        raise UserError(f"--device {device} is one GPU for all processes; with torchrun give --device cuda")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    yield
    dist.destroy_process_group()  # not after an error: the others are in the middle of something


def rank() -> int:
    """This process's number, 0 for the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def broadcast(thing: Any = None) -> Any:
    """What rank 0 gave."""
    box = [thing]
    if world() > 1:
        dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(thing: Any) -> list[Any]:
    """On rank 0 what every rank gave, in their order; elsewhere only one's own."""
    things = [thing] * (world() if rank() == 0 else 1)
    if world() > 1:
        dist.gather_object(thing, things if rank() == 0 else None, dst=0)
    return things


def rows(count: int) -> slice:
    """This rank's rows of a batch of ``count`` images. Raises ``UserError`` where a rank would have none."""
    if count < world():
        raise UserError(
            f"a batch of {count} images cannot be shared by {world()} processes; raise "
            "optimiser.batch_size to at least twice their number, or start fewer"
        )
    edges = np.cumsum([0] + [len(part) for part in np.array_split(np.arange(count), world())])
    return slice(int(edges[rank()]), int(edges[rank() + 1]))


def total(values: Tensor) -> Tensor:
    """The sum over ranks. Its gradient is the sum of the ranks' gradients."""
    return collectives.all_reduce(values)


def summed(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scalars by name, each summed over the ranks."""
    if world() == 1:
        return values
    stacked = torch.stack([torch.as_tensor(value).detach().float() for value in values.values()])
    return dict(zip(values, total(stacked), strict=True))


def gathered(own: Tensor) -> Tensor:
    """Of a row an image (B, ...) those of all ranks, in the batch's order. Gradients go back to where a row came from,
    if every rank computes the same loss from them."""
    if world() == 1:
        return own
    count = int(total(torch.tensor(len(own), device=own.device)))
    here = rows(count)
    before, after = own.new_zeros(here.start, *own.shape[1:]), own.new_zeros(count - here.stop, *own.shape[1:])
    return total(torch.cat([before, own, after]))


def divisor(count: Tensor, images: int) -> Tensor:
    """For a loss that is a mean over ``count`` things of a rank's ``images``: what to divide the rank's sum by,
    so that the ranks' losses, averaged by images, are the mean over the things of all ranks."""
    if world() == 1:
        return count
    things, everyone = total(torch.stack([count.detach().float(), torch.full_like(count, images, dtype=torch.float32)]))
    return things * images / everyone


class Draws:
    """The random numbers of one step, a row an image: ``rand(3, 4)`` is (B, 3, 4) for the B images at hand.

    Rows are drawn for all ``images`` of the batch, and a rank gets those of its own images: as in one process.
    Nothing else can be drawn, since ranks would not agree on it. Numbers lie on the generator's device. (PyTorch's own
    numbers for several processes, DTensor's, take no generator and need a GPU.)
    """

    def __init__(self, generator: torch.Generator, images: int):
        self.own, self.images = rows(images), images
        self._from = {"generator": generator, "device": generator.device}

    def rand(self, *row: int) -> Tensor:
        """Uniform in [0, 1)."""
        return torch.rand(self.images, *row, **self._from)[self.own]

    def randn(self, *row: int) -> Tensor:
        """Standard normal."""
        return torch.randn(self.images, *row, **self._from)[self.own]

    def randint(self, high: int, *row: int) -> Tensor:
        """Whole numbers from 0 to high - 1."""
        return torch.randint(high, (self.images, *row), **self._from)[self.own]


def parallel(objective: nn.Module, device: str) -> nn.Module:
    """The module whose ``forward`` gives the loss, wrapped so that ``backward`` averages gradients.

    Batch norm in it becomes global. Raises ``UserError`` for kinds of batch norm that cannot, and for dropout,
    which draws from PyTorch's global state.
    """
    if world() == 1:
        return objective
    for module in objective.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            module.__class__ = GlobalBatchNorm  # in place: whoever holds the module keeps it
        elif isinstance(module, _BatchNorm) and not isinstance(module, GlobalBatchNorm):
            raise UserError(f"{type(module).__name__} sees only its own process's images; train in one")
        elif isinstance(module, _DropoutNd) and module.p:
            raise UserError(f"{type(module).__name__} draws for its own process's images only; train in one")
    return DistributedDataParallel(
        objective,
        [torch.cuda.current_device()] if device == "cuda" else None,
        broadcast_buffers=False,
        find_unused_parameters=True,
    )


class GlobalBatchNorm(_BatchNorm):
    """Batch norm over the images of all ranks in training: mean, then the variance around it, in float32.

    PyTorch's SyncBatchNorm computes the same, but refuses CPUs, where this is tested.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world() == 1:
            return super().forward(input)
        x, over = input.float(), [d for d in range(input.dim()) if d != 1]
        count = total(x.new_full((), x.numel() / x.shape[1]))
        mean = total(x.sum(over, keepdim=True)) / count
        variance = total((x - mean).square().sum(over, keepdim=True)) / count
        if self.track_running_stats:
            self.num_batches_tracked += 1
            share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean.detach().flatten(), share)
            self.running_var.lerp_(variance.detach().flatten() * count / (count - 1), share)
        x = (x - mean) * (variance + self.eps).rsqrt()
        if self.affine:
            x = x * self.weight.view_as(mean) + self.bias.view_as(mean)
        return x.to(input.dtype)
