"""The separate classifier of methods that only localise: the best at hand, chosen on the validation split.

The published systems take the strongest classifier that they have, an EfficientNet-B7 in PSOL and C2AM. Here two are at
hand: CAM's, linear on the frozen encoder, and the profile's CLIP, zero-shot, where its weights are on this machine. The
one that names more of the validation images rightly gives the scores; of equals, the linear one.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tedloc import paths
from tedloc.methods import Route, Shape, create
from tedloc.methods.trained import Trained, subfolder
from tedloc.settings import Profile
from tedloc.training import distributed

LINEAR, ZERO_SHOT = "linear", "zero-shot"


class BestClassifier:
    """``accuracy``: share of the validation images that each candidate names rightly, by name; ``chosen``: the best."""

    def __init__(self, profile: Profile, seed: int, device: str):
        self.profile, self.size = profile, profile.evaluation.batch_size
        self.linear, self.clip = create("cam", profile, seed, device), create("clip-es", profile, seed, device)

    def fit(self, folder: Path | None) -> None:
        """Train the linear one and choose. ``folder`` keeps the choice, which is made once."""
        self.linear.fit(folder)
        record = folder / "accuracy.json" if folder else None
        if record and record.exists():
            self.accuracy = json.loads(record.read_text())
        else:
            candidates = (LINEAR,) if self.clip.lacks() else (LINEAR, ZERO_SHOT)
            self.accuracy = {name: self.right(name) for name in candidates}
            if record and distributed.rank() == 0:
                with paths.replacing(record) as scratch:
                    scratch.write_text(json.dumps(self.accuracy))
        self.chosen = max(self.accuracy, key=self.accuracy.get)  # the first of equals

    def right(self, name: str) -> float:
        """Share of the validation images that a candidate names rightly; 0 where there are none."""
        labels = torch.from_numpy(self.linear.images("val").labels)
        parts = (np.arange(start, min(start + self.size, len(labels))) for start in range(0, len(labels), self.size))
        found = [self.of(name, "val", part).argmax(1).cpu() for part in parts]
        return float((torch.cat(found) == labels).double().mean()) if found else 0.0

    def scores(self, split: str, index: np.ndarray) -> Tensor:
        """(B, K) class scores of the images at some positions (B,) of a split."""
        return self.of(self.chosen, split, index)

    @torch.inference_mode()
    def of(self, name: str, split: str, index: np.ndarray) -> Tensor:
        """A candidate's scores."""
        if name == LINEAR:
            return self.linear.localize(split, index)["true"].scores
        return self.clip.clip.zero_shot(self.clip.photos(split, index), self.clip.text)

    def modules(self) -> dict[str, nn.Module]:
        chosen = self.linear if self.chosen == LINEAR else self.clip
        return {f"classifier's {name}": part for name, part in chosen.modules().items()}


class WithClassifier(Trained):
    """A localiser whose class scores come from :class:`BestClassifier`. Its ``routes`` leave them empty (B, 0)."""

    classifier: BestClassifier
    builds_on = ("cam", "clip-es")

    def own_settings(self) -> dict:
        p = self.profile.pseudo_labels
        return super().own_settings() | {ZERO_SHOT: {"clip": p.clip, "template": p.clip_es.template}}

    def fit(self, folder: Path | None = None) -> None:
        self.fit_classifier(folder)
        super().fit(folder)

    def fit_classifier(self, folder: Path | None) -> None:
        self.classifier = BestClassifier(self.profile, self.seed, self.device)
        self.classifier.fit(subfolder(folder, "classifier"))

    def localize(self, split: str, index: np.ndarray) -> dict[str, Route]:
        scores = self.classifier.scores(split, index)
        return {name: route._replace(scores=scores) for name, route in super().localize(split, index).items()}

    def untrained(self, shape: Shape) -> dict[str, nn.Module]:
        return super().untrained(shape) | {"classifier": create("cam", self.profile).untrained(shape)["network"]}

    def modules(self) -> dict[str, nn.Module]:
        return super().modules() | self.classifier.modules()
