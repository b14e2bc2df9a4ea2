"""What all methods with weights to train share: the batches, the loop, the checkpoint, the walk over a split.

A method says what its network is, what a batch costs and which maps it gives:

    network(shape)            -> nn.Module, freshly initialised
    loss(net, batch)          -> loss and its terms to log
    routes(net, x, labels)    -> maps and scores

Its network is given the frozen encoder's cached patch embeddings, standardised; one that is fine-tuned as a whole is
given images (``on_images``), prepared as its backbone wants them: see ``tedloc.methods.fine_tuned`` and ``trunk``.
"""

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tedloc.backbones import encoders
from tedloc.backbones.preprocessing import Preprocessing
from tedloc.data import SPLITS
from tedloc.fingerprints import digest
from tedloc.methods import Method, Route, Shape
from tedloc.settings import OptimiserSettings
from tedloc.training import engine
from tedloc.training.distributed import Draws
from tedloc.training.features import Features, View, features, on_device


class Batch(NamedTuple):
    """One step's images. x: (B, C, h, w) standardised patch embeddings, or (B, 3, S, S) images; labels: (B,);
    index: (B,) positions in the training split; mirrored: (B,) bool, which of x are mirrored; draws: all
    randomness of the step, on the method's device."""

    x: Tensor
    labels: Tensor
    index: np.ndarray
    mirrored: Tensor
    draws: Draws


def subfolder(folder: Path | None, name: str) -> Path | None:
    """A stage's own folder within a run's, made where it is missing."""
    if folder is None:
        return None
    (folder / name).mkdir(parents=True, exist_ok=True)
    return folder / name


class Standardise(nn.Module):
    """Per-channel standardisation of the encoder's patch embeddings; mean, std: (C,), of the training split."""

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        self.register_buffer("mean", mean[:, None, None].clone())
        self.register_buffer("std", std[:, None, None].clone())

    def forward(self, tokens: Tensor) -> Tensor:
        return (tokens - self.mean) / self.std


class Trained(Method):
    """A method with weights to train."""

    uses = ("data", "encoder")
    on_images = False  # True: trained on images, not on the frozen encoder's patch embeddings

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._stored: dict[str, Features] = {}

    @abstractmethod
    def network(self, shape: Shape) -> nn.Module:
        """The network, freshly initialised; called under the seed."""

    @abstractmethod
    def loss(self, net: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its detached terms by name for the log."""

    @abstractmethod
    def routes(self, net: nn.Module, x: Tensor, labels: Tensor) -> dict[str, Route]:
        """Maps and scores of a batch without gradient, by route; the headline first."""

    def prepare(self) -> None:
        """What training needs before its first step (pseudo-labels, statistics). Not called for a finished run."""

    @property
    def optimiser(self) -> OptimiserSettings:
        """How the network is trained: the method's own settings, unless it follows the profile's."""
        return self.own.optimiser

    # From here on, the same for every method.

    @property
    def classes(self) -> int:
        return len(self.images("train").class_names)

    @property
    def shape(self) -> Shape:
        """What the network is built for under this profile."""
        if self.on_images:
            return Shape(3, None, self.classes)
        return Shape(self.stored("train").dim, self.stored("train").grid, self.classes)

    def share(self) -> None:
        for split in () if self.on_images else SPLITS:
            self.stored(split)

    def stored(self, split: str) -> Features:
        """The frozen encoder's cached patch embeddings of a split."""
        if split not in self._stored:
            self._stored[split] = features(self.profile.data, split, self.profile.encoder, self.device)
        return self._stored[split]

    def model(self) -> nn.Module:
        """The network behind its standardisation (an identity for images), under the method's seed."""
        whole = nn.Sequential(self.front(), engine.seeded(self.seed, lambda: self.network(self.shape)))
        return whole.to(memory_format=torch.channels_last)  # convolutions are a quarter faster on a CPU

    def front(self) -> nn.Module:
        """What an input passes before the network."""
        if self.on_images:
            return nn.Identity()
        return Standardise(*map(torch.from_numpy, (self.stored("train").mean, self.stored("train").std)))

    def untrained(self, shape: Shape) -> dict[str, nn.Module]:
        """What inference runs behind the encoder, by part, freshly initialised for a shape and put in place: what
        :meth:`routes` needs to be counted and timed without any data."""
        self.net = nn.Sequential(nn.Identity(), self.network(shape))
        return {"network": self.net[1]}

    @property
    def views(self) -> int:
        """2 where training images come mirrored, too."""
        return 1 + self.profile.encoder.mirror if self.on_images else self.stored("train").views

    def fit(self, folder: Path | None = None) -> None:
        key = digest(self.settings())
        self.net = self.model().to(self.device)
        checkpoint = folder / "checkpoint.safetensors" if folder else None
        if checkpoint and checkpoint.exists():
            engine.load(self.net, checkpoint, key)
            return
        self.prepare()

        def step(net: nn.Module, index: np.ndarray, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
            view = draws.randint(self.views)
            x = net[0](self.input("train", index, view))
            return self.loss(net[1], Batch(x, self.labels("train", index), index, view == 1, draws))

        def ahead(batches: Iterable[np.ndarray]) -> None:
            self.input_ahead("train", batches)

        count = len(self.images("train"))
        engine.train(self.net, step, count, self.optimiser, self.seed, folder, self.device, ahead)
        if checkpoint:
            engine.save(self.net, checkpoint, key)

    def input(self, split: str, index: np.ndarray, view: View = 0) -> Tensor:
        """What the network is given for some images of a split, each in its view (1: mirrored)."""
        if self.on_images:
            x = self.photos(split, index)
            return torch.where((on_device(view, self.device) == 1).view(-1, 1, 1, 1), x.flip(-1), x)
        return self.stored(split).batch(index, view, self.device)

    def preprocessing(self) -> Preprocessing | None:
        """As the network's backbone wants its images, where it is trained on those."""
        own = (module.preprocessing for module in self.net.modules() if hasattr(module, "preprocessing"))
        return next(own) if self.on_images else None

    def input_ahead(self, split: str, batches: Iterable[np.ndarray]) -> None:
        """Start reading what :meth:`input` will be asked for."""
        if self.on_images:
            self.reader(split).ahead(batches)
        else:
            self.stored(split).ahead(batches, self.device)

    def ahead(self, split: str, batches: Iterable[np.ndarray]) -> None:
        self.input_ahead(split, batches)

    @torch.inference_mode()
    def localize(self, split: str, index: np.ndarray) -> dict[str, Route]:
        x = self.net[0](self.input(split, index))
        return self.routes(self.net[1], x, self.labels(split, index))

    def modules(self) -> dict[str, nn.Module]:
        if self.on_images:
            return {"network": self.net[1]}
        return {"encoder": encoders.load(self.profile.encoder), "network": self.net[1]}
