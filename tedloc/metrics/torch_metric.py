"""The meter as a ``torchmetrics.Metric``: Lightning and others gather it over ranks, reset and log it by themselves.

    metric = LocalizationMetric()
    metric.update(ids, maps, boxes, sizes, labels, scores)
    metric.compute()                                       # {"MaxBoxAcc@0.5": tensor(...), ...}

Needs the extra ``torchmetrics``.
"""

import io
from typing import Any

import numpy as np
import torch
from torchmetrics import Metric

from tedloc.metrics.meter import LocalizationMeter

LENGTH = 8  # bytes before a packed meter that say how long it is: torchmetrics strings the parts together


class LocalizationMetric(Metric):
    """A :class:`~tedloc.metrics.meter.LocalizationMeter`; its settings by keyword, its ``update`` and its figures.

    What it keeps is about 1.3 kB an image, on the metric's device. ``compute`` gives the meter's figures as float64
    tensors; the meter itself, with its thresholds, intervals and table of images, is ``metric.meter()``.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    def __init__(self, *, grid: int = 224, step: float = 0.001, **settings: Any):
        super().__init__(**settings)
        self.settings = {"grid": grid, "step": step}
        LocalizationMeter(**self.settings)  # refuses what is wrong where it is said
        self.add_state("parts", [], dist_reduce_fx="cat")

    def update(self, *arguments: Any, **named: Any) -> None:
        """Add a batch; arguments and errors are those of ``LocalizationMeter.update``."""
        meter = LocalizationMeter(**self.settings)
        meter.update(*arguments, **named)
        self.parts.append(_packed(meter).to(self.device))

    def meter(self) -> LocalizationMeter:
        """Everything seen so far."""
        meter = LocalizationMeter(**self.settings)
        for part in self.parts if isinstance(self.parts, list) else [self.parts]:
            for state in _unpacked(part):
                meter.merge(LocalizationMeter.from_state(state))
        return meter

    def compute(self) -> dict[str, torch.Tensor]:
        figures = self.meter().compute()
        return {name: torch.tensor(float(value), dtype=torch.float64) for name, value in figures.items()}


def _packed(meter: LocalizationMeter) -> torch.Tensor:
    """(L,) uint8: the meter's state, with its length before it."""
    file = io.BytesIO()
    np.savez(file, **meter.state_dict())
    content = file.getvalue()
    return torch.frombuffer(bytearray(len(content).to_bytes(LENGTH, "little") + content), dtype=torch.uint8)


def _unpacked(packed: torch.Tensor) -> list[dict[str, np.ndarray]]:
    """The states in a string of packed meters."""
    content, states = packed.cpu().numpy().tobytes(), []
    while content:
        end = LENGTH + int.from_bytes(content[:LENGTH], "little")
        with np.load(io.BytesIO(content[LENGTH:end]), allow_pickle=False) as state:
            states.append(dict(state))
        content = content[end:]
    return states
