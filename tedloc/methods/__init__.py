"""Every method under one protocol: the same images, the same verbs, the same evaluation.

A method is one file with one class and one line in ``tedloc.methods.registry``. It is asked by verbs:

    share()                  compute what several runs read (features, pseudo-labels)
    fit(folder)              train, resuming from ``folder`` where it can; nothing to do for a training-free method
    ahead(split, batches)    start reading what localize will be asked for, where that takes time
    localize(split, index)   for some images of a split, one score map and one row of class scores per *route*
    true_maps(split, index)  the maps of the true class in [0, 1], if the method is to teach TeD-Loc

A route is one way of getting a map: "true" localises the ground-truth class, "pred" the predicted one; a
class-agnostic method has one route of its own name. The first route is the method's headline. A method that
trains derives from ``tedloc.methods.trained.Trained``, which holds the loops.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from tedloc.backbones.preprocessing import Preprocessing
from tedloc.data import ImageSet, open_data
from tedloc.data.loading import Photos
from tedloc.errors import UserError, choose
from tedloc.methods.registry import METHODS
from tedloc.settings import OptimiserSettings, Profile, as_record, override


class Route(NamedTuple):
    """maps: (B, h, w) score maps, any range; scores: (B, K) class scores that go with this route.

    boxes: (B, 4) x0, y0, x1, y1 as shares of width and height, from a method that predicts boxes; then they are
    scored instead of the maps, which figures still show.
    """

    maps: Tensor
    scores: Tensor
    boxes: Tensor | None = None


class Shape(NamedTuple):
    """What a network is built for. dim: channels of its input; grid: (h, w) of the patch embeddings it is given, None
    where it takes images; classes: K."""

    dim: int
    grid: tuple[int, int] | None
    classes: int


class Teacher(NamedTuple):
    """A method whose maps of the true class a run is taught with, under its own profile and seed."""

    method: str
    profile: Profile
    seed: int


class Prediction(NamedTuple):
    """index: (B,) positions in the split; routes: by name, the headline first."""

    index: np.ndarray
    routes: dict[str, Route]


def optimisers(own: Any) -> dict[str, OptimiserSettings]:
    """Of a method's own settings those that say how something is trained, by field."""
    fields = dataclasses.fields(own) if dataclasses.is_dataclass(own) else ()
    found = {field.name: getattr(own, field.name) for field in fields}
    return {name: value for name, value in found.items() if isinstance(value, OptimiserSettings)}


class Method(ABC):
    """One compared system under one profile and seed."""

    title: ClassVar[str]  # as tables name it
    paper_row: ClassVar[str | None] = None  # its row in the paper's Table 1
    seeded: ClassVar[bool] = True  # False: nothing in it is random, one run is all
    uses: ClassVar[tuple[str, ...]] = ("data", "evaluation")  # the profile's parts that its result depends on
    builds_on: ClassVar[tuple[str, ...]] = ()  # methods that it trains first; it depends on their own settings too
    true_route: ClassVar[str | None] = (
        "true"  # whose map shows the true class; None: boxes alone, nothing to teach with
    )
    teacher_folder: Path | None = None  # where the teacher's finished run lies, if one was made (tedloc.runs)
    # The method's own settings: a frozen dataclass by scale. "CUB" and "ILSVRC" hold the published values, "small"
    # what was chosen on validation for the small profiles (same budget for every method: see the chapter).
    SETTINGS: ClassVar[Mapping[str, Any]] = {}
    SEARCH: ClassVar[Mapping[str, tuple]] = {}  # values to try by setting, for tedloc.tune; own settings if there are

    def __init__(self, profile: Profile, seed: int = 0, device: str = "cpu", variant: str = "", own: Any = None):
        self.profile, self.seed, self.device, self.variant = profile, seed, device, variant
        self.own = self._own_settings() if own is None else own
        self._photos: dict[str, Photos] = {}

    def _own_settings(self) -> Any:
        """The method's own settings under this profile: by scale, then the profile's changes, then its limit."""
        scale = "small" if self.profile.small else self.profile.paper_dataset
        for method, _, _ in self.profile.changes:
            choose("method", method, METHODS)
        changes = {name: value for method, name, value in self.profile.changes if method == self.base_name}
        if not self.SETTINGS:
            if changes:
                raise UserError(f"method {self.base_name!r} has no settings of its own; drop {', '.join(changes)}")
            return None
        own = override(self.SETTINGS[scale], changes)
        limit = self.profile.max_epochs
        long = [name for name, each in optimisers(own).items() if limit is not None and each.epochs > limit]
        return override(own, {f"{name}.epochs": limit for name in long})

    @property
    def base_name(self) -> str:
        """The name in the registry, without a variant."""
        here = f"{type(self).__module__}:{type(self).__name__}"
        return next((name.partition(":")[0] for name, place in METHODS.items() if place == here), type(self).__name__)

    def own_settings(self) -> dict[str, Any]:
        """The method's own settings and those of the methods that it builds on, by name."""
        others = (create(name, self.profile) for name in self.builds_on)
        return {each.base_name: as_record(each.own) for each in (self, *others) if each.own is not None}

    def settings(self) -> dict[str, Any]:
        """The settings that this method's result depends on."""
        parts = {name: as_record(getattr(self.profile, name)) for name in self.uses}
        return parts | {"own": self.own_settings(), "seed": self.seed, "variant": self.variant}

    def applies(self) -> bool:
        """Whether the method can say anything of the profile's data set at all, on any machine."""
        return True

    def lacks(self) -> str | None:
        """What this machine lacks to run the method under this profile ("DeiT-S"), or None."""
        return None

    @property
    def backbone_name(self) -> str:
        """The network that looks at the images, as tables name it."""
        return self.profile.encoder.name

    def rows(self) -> dict[str, str | None]:
        """The method's rows in a table of results: label -> route (None: the headline)."""
        return {self.title: None}

    def images(self, split: str) -> ImageSet:
        """One split of the profile's data."""
        return open_data(self.profile.data, split)

    def labels(self, split: str, index: np.ndarray) -> Tensor:
        """(B,) true classes of some images of a split, on the method's device."""
        return torch.from_numpy(self.images(split).labels[index]).to(self.device, non_blocking=True)

    def preprocessing(self) -> Preprocessing | None:
        """How a photo becomes its network's input; None for a method that looks at no photo itself."""
        return None

    def reader(self, split: str) -> Photos:
        """A split's photos, squared for its network."""
        if split not in self._photos:
            square, asked = self.preprocessing().square, self.profile.data.workers
            self._photos[split] = Photos(self.images(split), square, self.device, asked)
        return self._photos[split]

    def photos(self, split: str, index: np.ndarray) -> Tensor:
        """(B, 3, S, S) some images of a split as its network takes them, on its device."""
        return self.preprocessing().normalise(self.reader(split)(index))

    def ahead(self, split: str, batches: Iterable[np.ndarray]) -> None:
        """Say which images of a split it is asked for next, batch by batch, so that they are read before."""
        if self.preprocessing():
            self.reader(split).ahead(batches)

    def stages(self) -> dict[str, OptimiserSettings]:
        """How each stage of its training is optimised, by the full name of the setting."""
        return {f"methods.{self.base_name}.{name}": each for name, each in optimisers(self.own).items()}

    def search(self) -> dict[str, tuple]:
        """Values to try, by the full name of the setting."""
        return {f"methods.{self.base_name}.{name}": values for name, values in self.SEARCH.items()}

    def teacher(self) -> Teacher | None:
        """The method that teaches this one, if one does."""
        return None

    def code(self) -> tuple[str, ...]:
        """The modules, by name, whose code its result depends on: its own, and those that it looks up by name."""
        return type(self).__module__, *(module_of(name) for name in self.builds_on)

    def share(self) -> None:
        """Compute what several runs read, so that runs side by side only read it."""

    def fit(self, folder: Path | None = None) -> None:
        """Train. Checkpoints and log go to ``folder``."""

    @abstractmethod
    def localize(self, split: str, index: np.ndarray) -> dict[str, Route]:
        """Maps and scores of the images at some positions (B,) of a split, by route; the headline first."""

    def predict(self, split: str, part: tuple[int, int] = (0, 1)) -> Iterator[Prediction]:
        """Maps and scores of a split, batch by batch, in order.

        part: (r, n) for the r-th of n processes, which takes every n-th batch. The batches stay the same ones.
        """
        size, count = self.profile.evaluation.batch_size, len(self.images(split))
        starts = range(part[0] * size, count, part[1] * size)
        batches = [np.arange(start, min(start + size, count)) for start in starts]
        self.ahead(split, batches)
        for index in tqdm(batches, f"{self.title} {split}", unit="batch", leave=False, delay=5, disable=part[0] > 0):
            yield Prediction(index, self.localize(split, index))

    def true_maps(self, split: str, index: np.ndarray) -> Tensor:
        """(B, h, w) maps of the true class (``true_route``), each brought to [0, 1]; zeros where one is flat."""
        maps = self.localize(split, index)[self.true_route].maps.float()
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        return torch.where(high > low, (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny), 0.0)

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
