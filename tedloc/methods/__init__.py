"""Every method under one protocol: the same images, the same verbs, the same evaluation.

A method is one file with one class and one line in ``METHODS``. It says

    fit(folder)      train, resuming from ``folder`` where it can; nothing to do for a training-free method
    predict(split)   for every batch of a split, one score map and one row of class scores per *route*

A route is one way of getting a map: "true" localises the ground-truth class, "pred" the predicted one; a
class-agnostic method has one route of its own name. The first route is the method's headline.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor, nn

from tedloc.errors import choose
from tedloc.settings import Profile

# name -> "module:class"; what follows a colon in a method's name is its variant
METHODS = {
    "tedloc": "tedloc.methods.tedloc:TeDLocMethod",
    "cam": "tedloc.methods.cam:LinearCAM",
    "head-cam": "tedloc.methods.head_cam:HeadCAM",
    "clip-es": "tedloc.methods.clip_es:CLIPES",
    "patch-anchor:vanilla": "tedloc.methods.patch_anchor:PatchAnchor",
    "patch-anchor:sclip": "tedloc.methods.patch_anchor:PatchAnchor",
    "patch-anchor:naclip": "tedloc.methods.patch_anchor:PatchAnchor",
}


class Route(NamedTuple):
    """maps: (B, h, w) score maps, any range; scores: (B, K) class scores that go with this route."""

    maps: Tensor
    scores: Tensor


class Prediction(NamedTuple):
    """index: (B,) positions in the split; routes: by name, the headline first."""

    index: np.ndarray
    routes: dict[str, Route]


class Method(ABC):
    """One compared system under one profile and seed."""

    title: ClassVar[str]  # as tables name it
    uses: ClassVar[tuple[str, ...]] = ("data", "evaluation")  # the profile's parts that its result depends on

    def __init__(self, profile: Profile, seed: int = 0, device: str = "cpu", variant: str = ""):
        self.profile, self.seed, self.device, self.variant = profile, seed, device, variant

    def settings(self) -> dict[str, Any]:
        """The settings that this method's result depends on."""
        parts = {name: getattr(self.profile, name) for name in self.uses}
        return {name: dataclasses.asdict(part) if dataclasses.is_dataclass(part) else part
                for name, part in parts.items()} | {"seed": self.seed, "variant": self.variant}

    def fit(self, folder: Path | None = None) -> None:
        """Train. Checkpoints and log go to ``folder``."""

    @abstractmethod
    def predict(self, split: str) -> Iterator[Prediction]:
        """Maps and scores of a split, batch by batch, in order."""

    def modules(self) -> dict[str, nn.Module]:
        """What inference runs, part by part; for counting parameters."""
        return {}


def create(name: str, profile: Profile, seed: int = 0, device: str = "cpu") -> Method:
    """The method called ``name``. Raises ``UserError`` when there is none."""
    choose("method", name, METHODS)
    module, cls = METHODS[name].split(":")
    return getattr(import_module(module), cls)(profile, seed, device, name.partition(":")[2])


def module_of(name: str) -> str:
    """The module that implements a method."""
    choose("method", name, METHODS)
    return METHODS[name].split(":")[0]
