"""CAM (Zhou et al., 2016) on the same frozen encoder as TeD-Loc: a linear classifier on pooled patch embeddings.

Scores: W mean_p x_p + b. Map of class c: <w_c, x_p>. Trained with cross-entropy by the profile's optimiser.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc import engine
from tedloc.features import features, open_data
from tedloc.methods import Method, Prediction, Route
from tedloc.methods.tedloc import Standardise
from tedloc.model import anchor_maps
from tedloc.runs import digest


class LinearCAM(Method):
    """Routes: ``true`` and ``pred``."""

    title = "CAM"
    uses = ("data", "encoder", "optimiser")

    def fit(self, folder: Path | None = None) -> None:
        p, key = self.profile, digest(self.settings())
        stored = features(p.data, "train", p.encoder, self.device)
        images = open_data(p.data, "train")
        head = engine.seeded(self.seed, lambda: nn.Linear(stored.dim, len(images.class_names)))
        self.net = nn.Sequential(Standardise(stored), head)
        checkpoint = folder / "checkpoint.safetensors" if folder else None
        if checkpoint and checkpoint.exists():
            engine.load(self.net, checkpoint, key).to(self.device)
            return
        labels = torch.from_numpy(images.labels)

        def step(net: nn.Module, index: np.ndarray, generator: torch.Generator):
            view = torch.randint(stored.tokens.shape[1], (len(index),), generator=generator,
                                 device=self.device).cpu().numpy()
            scores = self._scores(net[0](stored.batch(index, view, self.device)))
            loss = F.cross_entropy(scores, labels[index].to(self.device))
            return loss, {}

        engine.train(self.net, step, len(labels), p.optimiser, self.seed, folder, self.device)
        if checkpoint:
            engine.save(self.net, checkpoint, key)

    def _scores(self, tokens: Tensor) -> Tensor:
        return self.net[1](tokens.mean((2, 3)))

    @torch.inference_mode()
    def predict(self, split: str) -> Iterator[Prediction]:
        p = self.profile
        stored = features(p.data, split, p.encoder, self.device)
        labels = torch.from_numpy(open_data(p.data, split).labels)
        for start in range(0, len(labels), p.evaluation.batch_size):
            index = np.arange(start, min(start + p.evaluation.batch_size, len(labels)))
            tokens = self.net[0](stored.batch(index, device=self.device))
            scores, weights = self._scores(tokens), self.net[1].weight
            yield Prediction(index, {
                "true": Route(anchor_maps(tokens, weights, labels[index].to(self.device)), scores),
                "pred": Route(anchor_maps(tokens, weights, scores.argmax(1)), scores)})
