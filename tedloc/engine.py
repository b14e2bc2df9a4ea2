"""The training loop: SGD over cached patch embeddings, with a log, checkpoints and exact resumption.

All randomness of an epoch comes from one generator seeded by (seed, epoch), so a run that was killed goes on
from its last whole epoch and ends in the same numbers.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn
from tqdm.auto import tqdm

from tedloc import paths
from tedloc.errors import UserError
from tedloc.settings import OptimiserSettings

# (model, image indices (B,), generator) -> loss, terms to log
Step = Callable[[nn.Module, np.ndarray, torch.Generator], tuple[Tensor, dict[str, Tensor]]]


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A module initialised under ``seed``, without touching the global random state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def generator_for(seed: int, epoch: int, device: str = "cpu") -> torch.Generator:
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state) & (2 ** 63 - 1))


def epoch_batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[np.ndarray]:
    """A shuffled epoch in batches; a last batch smaller than half is dropped (batch norm)."""
    order = torch.randperm(count, generator=generator, device=generator.device).cpu().numpy()
    for start in range(0, count, batch_size):
        batch = order[start:start + batch_size]
        if start == 0 or len(batch) >= batch_size / 2:
            yield batch


def train(model: nn.Module, step: Step, count: int, settings: OptimiserSettings, seed: int,
          folder: Path | None = None, device: str = "cpu") -> nn.Module:
    """Train ``model`` in place and return it in eval mode.

    count: number of training images. ``folder`` gets ``log.jsonl`` (one line an epoch: loss terms, learning
    rate, images a second, seconds) and, while it runs, ``resume.pt`` after every epoch.
    """
    model.to(device).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(parameters, settings.learning_rate, settings.momentum,
                                weight_decay=settings.weight_decay)
    steps = settings.epochs * -(-count // settings.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    first = _resume(folder, model, optimiser, schedule) if folder else 0
    with tqdm(total=settings.epochs, initial=first, desc="training", unit="epoch") as bar:
        for epoch in range(first, settings.epochs):
            started, seen, sums = time.monotonic(), 0, {}
            generator = generator_for(seed, epoch, device)
            for index in epoch_batches(count, settings.batch_size, generator):
                loss, terms = step(model, index, generator)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                schedule.step()
                seen += len(index)
                for name, value in {"loss": loss.detach(), **terms}.items():
                    sums[name] = sums.get(name, 0.0) + value * len(index)
            seconds = time.monotonic() - started
            line = {name: float(value) / seen for name, value in sums.items()}
            if not np.isfinite(line["loss"]):
                raise UserError(f"the loss became {line['loss']} in epoch {epoch + 1}; lower "
                                f"optimiser.learning_rate (now {settings.learning_rate})")
            bar.set_postfix({name: f"{value:.3f}" for name, value in line.items()})
            bar.update()
            if folder:
                _log(folder, {"epoch": epoch + 1, **line, "learning_rate": schedule.get_last_lr()[0],
                              "images_per_second": seen / seconds, "seconds": seconds})
                _checkpoint(folder, model, optimiser, schedule, epoch + 1)
    if folder:
        (folder / "resume.pt").unlink(missing_ok=True)
    return model.eval()


def _log(folder: Path, line: dict) -> None:
    with open(folder / "log.jsonl", "a") as log:
        log.write(json.dumps(line) + "\n")


def _checkpoint(folder: Path, model: nn.Module, optimiser, schedule, epochs: int) -> None:
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(),
             "schedule": schedule.state_dict(), "epochs": epochs}
    with paths.replacing(folder / "resume.pt") as scratch:
        torch.save(state, scratch)


def _resume(folder: Path, model: nn.Module, optimiser, schedule) -> int:
    """Load the last whole epoch, if any; returns how many epochs are done. Later log lines are dropped."""
    log, checkpoint = folder / "log.jsonl", folder / "resume.pt"
    if not checkpoint.exists():
        log.unlink(missing_ok=True)
        return 0
    state = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    lines = log.read_text().splitlines()[: state["epochs"]]
    with paths.replacing(log) as scratch:
        scratch.write_text("".join(line + "\n" for line in lines))
    return state["epochs"]


def save(model: nn.Module, file: Path, settings: str) -> None:
    """Write a trained model as safetensors, with the digest of the settings it belongs to."""
    with paths.replacing(file) as scratch:
        safetensors.torch.save_file({k: v.contiguous() for k, v in model.state_dict().items()}, scratch,
                                    metadata={"settings": settings})


def load(model: nn.Module, file: Path, settings: str) -> nn.Module:
    """Load what :func:`save` wrote. Raises ``UserError`` when it is missing or belongs to other settings."""
    if not file.exists():
        raise UserError(f"no checkpoint at {file}; train first")
    with safe_open(file, "pt") as opened:
        theirs = (opened.metadata() or {}).get("settings")
    if theirs != settings:
        raise UserError(f"{file} was trained under other settings ({str(theirs)[:12]}, not {settings[:12]}); "
                        "use the profile and settings it was made with, or train anew")
    model.load_state_dict(safetensors.torch.load_file(file))
    return model.eval()
