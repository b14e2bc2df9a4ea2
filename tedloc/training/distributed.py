"""Training and evaluation in several processes, on one machine or many: ``torchrun -m tedloc.train ...``.

Every process (rank) takes its rows of the same global batch. Whatever would differ from one process is
shared, so that N processes give the numbers of one, up to rounding:

    gradients   averaged by DistributedDataParallel, each rank weighted by its number of images
    batch norm  statistics of the global batch (:class:`GlobalBatchNorm`, on gloo and nccl alike)
    randomness  random tensors of a step are drawn for the global batch, a rank keeps its rows (:func:`draws`)
    metrics     each rank scores its batches of a split, rank 0 merges the meters, which is exact

No image is padded or seen twice: where a batch does not divide, the first ranks have one image more. A loss
that is a mean over something else than images (the valid pixels of L_KD and P_CL) divides by :func:`divisor`.

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
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from tedloc.errors import UserError

# so long the others wait for rank 0's caches; that a process died, torchrun notices itself
PATIENCE = datetime.timedelta(days=1)
FACTORIES = (torch.rand, torch.randn, torch.randint)


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


def summed(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scalars by name, each summed over the ranks."""
    if world() == 1:
        return values
    stacked = torch.stack([torch.as_tensor(value).detach().float() for value in values.values()])
    dist.all_reduce(stacked)
    return dict(zip(values, stacked, strict=True))


def divisor(count: Tensor, images: int) -> Tensor:
    """For a loss that is a mean over ``count`` things of a rank's ``images``: what to divide the rank's sum by,
    so that the ranks' losses, averaged by images, are the mean over the things of all ranks."""
    if world() == 1:
        return count
    total = torch.stack([count.detach().float(), torch.full_like(count, images, dtype=torch.float32)])
    dist.all_reduce(total)
    return total[0] * images / total[1]


class _Draws(TorchFunctionMode):
    def __init__(self, generator: torch.Generator, own: slice, count: int):
        super().__init__()
        self.generator, self.own, self.count = generator, own, count

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in FACTORIES and kwargs.get("generator") is self.generator:
            if "size" in kwargs:
                bounds, size = args, kwargs.pop("size")
            elif function is torch.randint:
                bounds, size = args[:-1], args[-1]
            else:
                bounds, size = (), args if isinstance(args[0], int) else args[0]
            if len(size) and size[0] == self.own.stop - self.own.start:
                return function(*bounds, (self.count, *size[1:]), **kwargs)[self.own]
            return function(*bounds, tuple(size), **kwargs)
        return function(*args, **kwargs)


def draws(generator: torch.Generator, own: slice, count: int) -> contextlib.AbstractContextManager:
    """Inside, ``torch.rand``, ``randn`` and ``randint`` with this generator and one row for each of the
    rank's images draw for all ``count`` images and give the rank's rows: as in one process.

    Any other draw (``randperm``, ``bernoulli``, another first dimension) is left as it is.
    """
    return _Draws(generator, own, count) if world() > 1 else contextlib.nullcontext()


def parallel(objective: nn.Module, device: str) -> nn.Module:
    """The module whose ``forward`` gives the loss, wrapped so that ``backward`` averages gradients.

    Batch norm in it becomes global. Raises ``UserError`` for kinds of batch norm that cannot.
    """
    if world() == 1:
        return objective
    for module in objective.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            module.__class__ = GlobalBatchNorm  # in place: whoever holds the module keeps it
        elif isinstance(module, _BatchNorm) and not isinstance(module, GlobalBatchNorm):
            raise UserError(f"{type(module).__name__} sees only its own process's images; train in one")
    return DistributedDataParallel(
        objective,
        [torch.cuda.current_device()] if device == "cuda" else None,
        broadcast_buffers=False,
        find_unused_parameters=True,
    )


class _Sum(torch.autograd.Function):
    """The sum over ranks; its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class GlobalBatchNorm(_BatchNorm):
    """Batch norm over the images of all ranks in training: mean, then the variance around it, in float32."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world() == 1:
            return super().forward(input)
        x = input.float().transpose(0, 1).flatten(1)  # (C, own values)
        own = x.new_full((1,), x.shape[1])
        total = _Sum.apply(torch.cat([x.sum(1), own]))
        mean, count = total[:-1] / total[-1], total[-1]
        centred = x - mean[:, None]
        variance = _Sum.apply(centred.square().sum(1)) / count
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked += 1
                share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * count / (count - 1), share)
        x = centred * (variance + self.eps).rsqrt()[:, None]
        if self.affine:
            x = x * self.weight[:, None] + self.bias[:, None]
        return x.unflatten(1, (input.shape[0], *input.shape[2:])).transpose(0, 1).to(input.dtype)
