"""The training loop: SGD over patch embeddings or images, with a log, checkpoints and exact resumption.

Under torchrun every process takes its share of each batch (:mod:`tedloc.training.distributed`). The order of the
data and all randomness of an epoch come from one generator seeded by (seed, epoch). Dropout, which PyTorch takes
from its global state, is seeded by (seed, epoch, batch, rank), and refused where there are several ranks. A
checkpoint is written after every epoch and every ``checkpoint_minutes`` within one, so a run that was killed at
any moment ends in the same numbers.
"""

import contextlib
import dataclasses
import datetime
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn
from tqdm.auto import tqdm

from tedloc import paths
from tedloc.backbones.precision import autocast
from tedloc.errors import UserError, choose
from tedloc.settings import OptimiserSettings
from tedloc.training import distributed

# A GPU without room, by the allocator of PyTorch, by CUDA itself, by cuBLAS or cuDNN
FULL = re.compile(r"out of memory|ALLOC(ATION)?_FAILED")

# (model, image indices (B,), their random numbers) -> loss: a mean over the B images, terms to log
Step = Callable[[nn.Module, np.ndarray, distributed.Draws], tuple[Tensor, dict[str, Tensor]]]


class Objective(nn.Module):
    """A step as a module, since DistributedDataParallel averages the gradients of what passes ``forward``."""

    def __init__(self, model: nn.Module, step: Step):
        super().__init__()
        self.model, self.step = model, step

    def forward(self, index: np.ndarray, draws: distributed.Draws) -> tuple[Tensor, dict[str, Tensor]]:
        return self.step(self.model, index, draws)


@dataclass
class Position:
    """How far a run is: whole epochs, batches of the next one, its generator then, what its log needs."""

    epoch: int = 0
    batch: int = 0
    generator: Tensor | None = None
    seen: int = 0  # images of the epoch
    seconds: float = 0.0
    sums: dict[str, Tensor] = field(default_factory=dict)  # of loss and terms over the images

    def means(self, settings: OptimiserSettings) -> dict[str, float]:
        """Loss and terms, means over the epoch so far. Raises ``UserError`` when the loss is not finite."""
        line = {name: float(value) / self.seen for name, value in self.sums.items()}
        if not np.isfinite(line["loss"]):
            raise UserError(
                f"the loss became {line['loss']} in epoch {self.epoch + 1}; lower "
                f"optimiser.learning_rate (now {settings.learning_rate})"
            )
        return line


def _forked() -> contextlib.AbstractContextManager:
    """The global random state comes back at the end; of GPUs only the current one's, which is in use."""
    return torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else [])


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) & (2**63 - 1)


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A module initialised under ``seed``, without touching the global random state."""
    with _forked():
        torch.manual_seed(seed)
        return make()


def generator_for(seed: int, epoch: int, device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(_mixed(seed, epoch))


def epoch_batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[np.ndarray]:
    """A shuffled epoch in batches; a last batch smaller than half is dropped (batch norm)."""
    order = torch.randperm(count, generator=generator, device=generator.device).cpu().numpy()
    for start in range(0, count, batch_size):
        batch = order[start : start + batch_size]
        if start == 0 or len(batch) >= batch_size / 2:
            yield batch


def train(
    model: nn.Module,
    step: Step,
    count: int,
    settings: OptimiserSettings,
    seed: int,
    folder: Path | None = None,
    device: str = "cpu",
    ahead: Callable[[Iterator[np.ndarray]], None] | None = None,
) -> nn.Module:
    """Train ``model`` in place and return it in eval mode.

    count: number of training images. ahead: is told this process's part of every batch to come, in order, so that
    it can be read before its step. ``folder`` gets ``log.jsonl`` (one line an epoch: loss terms, learning
    rate, images a second, seconds), ``progress.jsonl`` (one line a checkpoint within an epoch) and, while it
    runs, ``resume.pt``. What a step keeps from one batch to the next must be a buffer of the model.

    Raises ``UserError`` when the loss diverges or the GPU's memory is too small.
    """
    # the first epoch's lengths are every epoch's
    lengths = [len(batch) for batch in epoch_batches(count, settings.batch_size, generator_for(seed, 0, device))]
    if settings.steps is not None:
        settings = dataclasses.replace(settings, epochs=max(1, round(settings.steps / len(lengths))))
    model.to(device).train()
    objective = distributed.parallel(Objective(model, step), device)
    if settings.compile:
        for part in model.children():
            part.compile()
    optimiser = make_optimiser(model, settings)
    # a last batch that is dropped still counts for epochs, as it always has; so many steps are exactly so many
    steps = settings.epochs * (-(-count // settings.batch_size) if settings.steps is None else len(lengths))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    at = _resume(folder, model, optimiser, schedule, device) if folder else Position()
    writes = folder is not None and distributed.rank() == 0
    length = sum(lengths)
    bar = tqdm(
        total=settings.epochs * length,
        initial=at.epoch * length + at.seen,
        desc="training",
        unit="image",
        mininterval=1,
        disable=distributed.rank() > 0,
    )
    if ahead:
        ahead(_coming(count, settings, seed, device, at.epoch, at.batch))
    with bar, _forked(), memory("optimiser.batch_size", settings.batch_size):
        saved = shown = last = time.monotonic()
        while at.epoch < settings.epochs:
            generator = generator_for(seed, at.epoch, device)
            batches = list(epoch_batches(count, settings.batch_size, generator))
            if at.generator is not None:
                generator.set_state(at.generator)
            for index in batches[at.batch :]:
                torch.manual_seed(_mixed(seed, at.epoch, at.batch, distributed.rank()))
                terms = _descend(objective, index, generator, optimiser, settings, device)
                schedule.step()
                for name, value in terms.items():
                    at.sums[name] = at.sums.get(name, 0.0) + value
                at.batch, at.seen = at.batch + 1, at.seen + len(index)
                now = time.monotonic()
                at.seconds, last = at.seconds + now - last, now
                bar.update(len(index))
                if not bar.disable and now - shown >= 1:
                    shown = now
                    _show(bar, at, schedule, settings)
                if writes and at.batch < len(batches) and now - saved >= 60 * settings.checkpoint_minutes:
                    saved = now
                    at.generator = generator.get_state()
                    line, speed = _line(at, schedule, settings), at.seen / at.seconds
                    left = settings.epochs * length - at.epoch * length - at.seen
                    _log(
                        folder / "progress.jsonl",
                        line
                        | {
                            "batch": at.batch,
                            "batches": len(batches),
                            "seconds_left": left / speed,
                            "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
                        },
                    )
                    _checkpoint(folder, model, optimiser, schedule, at)
            line = _line(at, schedule, settings)
            _show(bar, at, schedule, settings)
            at = Position(epoch=at.epoch + 1)
            if writes:
                _log(folder / "log.jsonl", line)
                _checkpoint(folder, model, optimiser, schedule, at)
                saved = time.monotonic()
    if writes:
        (folder / "resume.pt").unlink(missing_ok=True)
    return model.eval()


def _coming(
    count: int, settings: OptimiserSettings, seed: int, device: str, first: int, done: int
) -> Iterator[np.ndarray]:
    """This rank's images of every batch to come, from epoch ``first`` on, of which ``done`` batches are."""
    for epoch in range(first, settings.epochs):
        batches = epoch_batches(count, settings.batch_size, generator_for(seed, epoch, device))
        for index in itertools.islice(batches, done if epoch == first else 0, None):
            yield index[distributed.rows(len(index))]


def _descend(
    objective: nn.Module,
    index: np.ndarray,
    generator: torch.Generator,
    optimiser,
    settings: OptimiserSettings,
    device: str,
) -> dict[str, Tensor]:
    """One step on a batch; returns loss and terms summed over its images."""
    draws = distributed.Draws(generator, len(index))
    own = index[draws.own]
    with autocast(settings.precision, device):
        loss, terms = objective(own, draws)
    optimiser.zero_grad(set_to_none=True)
    (loss * (len(own) * distributed.world() / len(index))).backward()  # DDP divides by the number of processes
    optimiser.step()
    terms = {"loss": loss.detach(), **terms}
    return distributed.summed({name: value * len(own) for name, value in terms.items()})


@contextlib.contextmanager
def memory(setting: str, value: int) -> Iterator[None]:
    """Say which setting to lower when the GPU's memory is too small, for PyTorch, CUDA or one of its libraries."""
    try:
        yield
    except RuntimeError as error:
        if not FULL.search(str(error)) and not isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            f"the GPU ran out of memory; lower {setting} (now {value}), or end what else holds its memory"
        ) from error


def make_optimiser(model: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """SGD or AdamW of all parameters that are to be trained; those of ``pretrained`` parts at their share of the rate.
    Raises ``UserError`` for any other kind."""
    choose("kind of optimiser", settings.kind, ("sgd", "adamw"))
    trunk = {p for part in model.modules() if getattr(part, "pretrained", False) for p in part.parameters()}
    parameters: list = [p for p in model.parameters() if p.requires_grad]
    if trunk and settings.trunk != 1:
        slow = {"params": [p for p in parameters if p in trunk], "lr": settings.learning_rate * settings.trunk}
        parameters = [{"params": [p for p in parameters if p not in trunk]}, slow]
    if settings.kind == "adamw":
        return torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(parameters, settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay)


def _line(at: Position, schedule, settings: OptimiserSettings) -> dict:
    return {
        "epoch": at.epoch + 1,
        **at.means(settings),
        "learning_rate": schedule.get_last_lr()[0],
        "images_per_second": at.seen / at.seconds,
        "seconds": at.seconds,
    }


def _show(bar: tqdm, at: Position, schedule, settings: OptimiserSettings) -> None:
    if not bar.disable:
        terms = {name: f"{value:.3f}" for name, value in at.means(settings).items()}
        rate = f"{schedule.get_last_lr()[0]:.2g}"
        bar.set_postfix({"epoch": f"{at.epoch + 1}/{settings.epochs}", **terms, "lr": rate}, refresh=False)


def _log(file: Path, line: dict) -> None:
    with open(file, "a") as log:
        log.write(json.dumps(line) + "\n")


def _checkpoint(folder: Path, model: nn.Module, optimiser, schedule, at: Position) -> None:
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "at": vars(at),
    }
    with paths.replacing(folder / "resume.pt") as scratch:
        torch.save(state, scratch)


def _resume(folder: Path, model: nn.Module, optimiser, schedule, device: str) -> Position:
    """Load the last checkpoint, if any, and say where it stands. Later log lines are dropped."""
    log, checkpoint = folder / "log.jsonl", folder / "resume.pt"
    if not checkpoint.exists():
        if distributed.rank() == 0:
            for file in (log, folder / "progress.jsonl"):
                file.unlink(missing_ok=True)
        return Position()
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    at = Position(**state["at"])
    at.sums = {name: value.to(device) for name, value in at.sums.items()}
    if distributed.rank() == 0:
        lines = log.read_text().splitlines()[: at.epoch] if log.exists() else []
        with paths.replacing(log) as scratch:
            scratch.write_text("".join(line + "\n" for line in lines))
    return at


def save(model: nn.Module, file: Path, settings: str) -> None:
    """Write a trained model as safetensors, with the digest of the settings it belongs to; rank 0 does."""
    if distributed.rank() == 0:
        with paths.replacing(file) as scratch:
            safetensors.torch.save_file(
                {k: v.contiguous() for k, v in model.state_dict().items()}, scratch, metadata={"settings": settings}
            )


def load(model: nn.Module, file: Path, settings: str) -> nn.Module:
    """Load what :func:`save` wrote. Raises ``UserError`` when it is missing or belongs to other settings."""
    if not file.exists():
        raise UserError(f"no checkpoint at {file}; train first")
    with safe_open(file, "pt") as opened:
        theirs = (opened.metadata() or {}).get("settings")
    if theirs != settings:
        raise UserError(
            f"{file} was trained under other settings ({str(theirs)[:12]}, not {settings[:12]}); "
            "use the profile and settings it was made with, or train anew"
        )
    model.load_state_dict(safetensors.torch.load_file(file))
    return model.eval()
