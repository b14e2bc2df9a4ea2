"""Patch embeddings as bytes: int8 codes with a scale and an offset for each channel.

A channel's range is that of a few images spread over the split; what lies outside is cut off at its ends. So a code is
off by half a 255th of its channel's range at most, everywhere but there.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor

from tedloc import paths


class Quantiser:
    """low: (C,) float32, what code -128 stands for; step: (C,) float32, between two codes."""

    def __init__(self, low: Tensor, step: Tensor):
        self.low, self.step = low.view(-1, 1, 1), step.view(-1, 1, 1)

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, h, w) int8 of patch embeddings."""
        low, step = self._on(x.device)
        return ((x.float() - low) / step).round_().sub_(128).clamp_(-128, 127).to(torch.int8)

    def decode(self, codes: Tensor) -> Tensor:
        """(B, C, h, w) float32 of codes, on their device."""
        low, step = self._on(codes.device)
        return codes.float().add_(128).mul_(step).add_(low)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        return self.low.to(device, non_blocking=True), self.step.to(device, non_blocking=True)


def quantiser(file: Path, samples: Callable[[], Iterable[Tensor]]) -> Quantiser:
    """The quantiser that is kept in a file; made from samples (B, C, h, w) where it is missing, by one process."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(file.with_name(f".{file.name}.lock")):
        if not file.exists():
            ends = [torch.aminmax(x.float().transpose(0, 1).flatten(1), dim=1) for x in samples()]
            low = torch.stack([each.min for each in ends]).amin(0)
            high = torch.stack([each.max for each in ends]).amax(0)
            step = ((high - low) / 255).clamp_min(torch.finfo(torch.float32).tiny)
            with paths.replacing(file) as scratch:
                np.savez(scratch, low=low.cpu().numpy(), step=step.cpu().numpy())
    with np.load(file) as kept:
        return Quantiser(torch.from_numpy(kept["low"]), torch.from_numpy(kept["step"]))
