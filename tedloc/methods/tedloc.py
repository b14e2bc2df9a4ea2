"""TeD-Loc: frozen encoder, decoder, patch classifier and orthogonalised text anchors, trained with Eq. 5."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tedloc import engine, losses, sampler
from tedloc.anchors import orthogonalise
from tedloc.encoders import load_encoder
from tedloc.features import Features, features, open_data
from tedloc.methods import Method, Prediction, Route
from tedloc.model import TeDLoc, anchor_maps
from tedloc.pseudo_labels import pseudo_label_cams
from tedloc.runs import digest
from tedloc.text import class_text


class Standardise(nn.Module):
    """Per-channel standardisation of the encoder's patch embeddings, by the training split's statistics."""

    def __init__(self, statistics: Features):
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(statistics.mean)[:, None, None])
        self.register_buffer("std", torch.from_numpy(statistics.std)[:, None, None])

    def forward(self, tokens: Tensor) -> Tensor:
        return (tokens - self.mean) / self.std


class TeDLocMethod(Method):
    """Routes: ``g``, the patch classifier's map M; ``anchor-true`` and ``anchor-pred``, <z_p, t_y>."""

    title = "TeD-Loc"
    uses = ("data", "encoder", "anchors", "pseudo_labels", "decoder", "sampler", "loss", "optimiser")

    def model(self) -> nn.Sequential:
        """Standardisation and the trained part, freshly initialised under the seed."""
        p = self.profile
        self.train_features = features(p.data, "train", p.encoder, self.device)
        text = class_text(p.anchors.text, open_data(p.data, "train").class_names, p.anchors.template)
        anchors = orthogonalise(text, p.anchors.orthogonaliser, seed=p.anchors.seed)
        model = engine.seeded(self.seed, lambda: TeDLoc(self.train_features.dim, anchors, p.decoder))
        return nn.Sequential(Standardise(self.train_features), model)

    def fit(self, folder: Path | None = None) -> None:
        p, key = self.profile, digest(self.settings())
        self.net = self.model()
        checkpoint = folder / "checkpoint.safetensors" if folder else None
        if checkpoint and checkpoint.exists():
            engine.load(self.net, checkpoint, key)
            self.net.to(self.device)
            return
        labels = torch.from_numpy(open_data(p.data, "train").labels)
        cams = torch.from_numpy(np.ascontiguousarray(pseudo_label_cams(p, "train", self.device)))
        size = tuple(side * p.decoder.upsampling for side in self.train_features.grid)
        views = self.train_features.tokens.shape[1]

        def step(net: nn.Module, index: np.ndarray, generator: torch.Generator):
            view = torch.randint(views, (len(index),), generator=generator, device=self.device).cpu().numpy()
            tokens = self.train_features.batch(index, view, self.device)
            cam = cams[index].to(self.device).float() / 255
            mirrored = torch.from_numpy(view == 1).to(self.device)
            cam = torch.where(mirrored[:, None, None], cam.flip(-1), cam)
            foreground, background = sampler.pools(sampler.to_grid(cam, size), p.sampler)
            samples = sampler.sample(foreground, background, p.sampler.samples, generator)
            y = labels[index].to(self.device)
            return losses.total(net(tokens), samples, y, net[1].anchors, p.loss)

        engine.train(self.net, step, len(labels), p.optimiser, self.seed, folder, self.device)
        if checkpoint:
            engine.save(self.net, checkpoint, key)

    @torch.inference_mode()
    def predict(self, split: str) -> Iterator[Prediction]:
        p = self.profile
        stored = features(p.data, split, p.encoder, self.device)
        labels = torch.from_numpy(open_data(p.data, split).labels)
        for start in range(0, len(labels), p.evaluation.batch_size):
            index = np.arange(start, min(start + p.evaluation.batch_size, len(labels)))
            out = self.net(stored.batch(index, device=self.device))
            anchors = self.net[1].anchors
            true = anchor_maps(out.z, anchors, labels[index].to(self.device))
            predicted = anchor_maps(out.z, anchors, out.scores.argmax(1))
            maps = {"g": out.g.sigmoid(), "anchor-true": true, "anchor-pred": predicted}
            yield Prediction(index, {name: Route(m, out.scores) for name, m in maps.items()})

    def modules(self) -> dict[str, nn.Module]:
        e = self.profile.encoder
        encoder = load_encoder(e.name, image_size=e.image_size, weights=e.weights)
        return {"encoder": encoder, "decoder": self.net[1].decoder, "g": self.net[1].g, "anchors": self.net[1]}
