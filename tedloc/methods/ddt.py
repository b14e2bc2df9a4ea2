"""DDT (Wei et al., 2019): what the images of one class have in common, without training. PSOL's first half.

All patch embeddings x_p of a class's training images are pooled. With their mean m and covariance S,

    d = eigenvector of S with the largest eigenvalue        a_p = <d, x_p - m>

and the object is where a_p > 0: the largest connected component there gives a training image's pseudo box.
As a method of its own DDT localises test images with the m and d of their class; its score map is the
positive part of a, thresholded by the protocol instead of at zero.

The sign of an eigenvector is arbitrary. We take the one under which the patches at the image borders are
negative on average: objects stand rather in the middle, and no box is needed to say so.

Published on the last convolution of VGG16 at 448 pixels; here on the frozen encoder, standardised per
channel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from tedloc.fingerprints import digest
from tedloc.methods import Route, Shape
from tedloc.methods.classifier import WithClassifier
from tedloc.training import engine

WHOLE_IMAGE = (0.0, 0.0, 1.0, 1.0)


def border(grid: tuple[int, int]) -> Tensor:
    """(h, w) bool: the outermost ring of patches."""
    ring = torch.ones(grid, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    return ring


def component_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Box of the largest 8-connected component of a mask (H, W): x0, y0, x1, y1 as shares of its sides.

    Shares are of edges, not of pixel centres: a component that ends with pixel k reaches to (k + 1) / W. (The
    benchmark's boxes of maps lie one pixel outside, too.) An empty mask gives the whole image.
    """
    height, width = mask.shape
    _, _, components, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if len(components) == 1:  # only the background
        return WHOLE_IMAGE
    x, y, w, h, _ = components[1 + components[1:, cv2.CC_STAT_AREA].argmax()]
    return x / width, y / height, (x + w) / width, (y + h) / height


class Directions(nn.Module):
    """Mean m and direction d of every class; (K, C) each."""

    def __init__(self, classes: int, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(classes, dim))
        self.register_buffer("direction", torch.zeros(classes, dim))

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        """(B, h, w): a_p of embeddings (B, C, h, w), each image under its class (B,)."""
        d = self.direction[classes]
        return torch.einsum("bchw,bc->bhw", x, d) - (d * self.mean[classes]).sum(1)[:, None, None]


@dataclass(frozen=True)
class DDTSettings:
    """whiten: of the variant ``ddt:whitened`` alone: so much of the identity is added to the covariance of all training
    patches before embeddings are whitened by it."""

    whiten: float = 0.0001


class DDT(WithClassifier):
    """Routes: ``true`` and ``pred``. ``ddt`` is the published method; ``ddt:whitened`` whitens all embeddings first.
    Then d is where the class varies more than the data as a whole, which is ours, for data whose backgrounds vary more
    than their objects."""

    title = "DDT"
    SETTINGS = {
        "small": DDTSettings(),
        "CUB": DDTSettings(),
        "ILSVRC": DDTSettings(),
    }
    SEARCH = {"whiten": (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)}
    loss = routes = None  # nothing is learnt by steps, and maps need the classifier's word

    def rows(self) -> dict[str, str | None]:
        return {"DDT, whitened" if self.variant else "DDT": None}

    def search(self) -> dict[str, tuple]:
        return super().search() if self.variant else {}

    def network(self, shape: Shape) -> Directions:
        return Directions(shape.classes, shape.dim)

    def fit(self, folder: Path | None = None) -> None:
        self.fit_classifier(folder)
        self.fit_directions(folder)

    def fit_directions(self, folder: Path | None = None) -> None:
        """Everything but the classifier."""
        key, checkpoint = digest(self.settings()), folder / "checkpoint.safetensors" if folder else None
        self.net = self.model().to(self.device).eval()
        if checkpoint and checkpoint.exists():
            engine.load(self.net, checkpoint, key)
            return
        labels = self.images("train").labels
        whitening = self.whitening(len(labels))
        for c in range(self.classes):
            mean, covariance, at_border = self.moments(np.flatnonzero(labels == c))
            d = whitening @ torch.linalg.eigh(whitening @ covariance @ whitening).eigenvectors[:, -1]
            self.net[1].mean[c] = mean
            self.net[1].direction[c] = -d if (at_border - mean) @ d > 0 else d
        if checkpoint:
            engine.save(self.net, checkpoint, key)

    def whitening(self, count: int) -> Tensor:
        """(C, C) symmetric root of the inverse covariance of all training images' patches; or identity.

        count: number of training images
        """
        if self.variant != "whitened":
            return torch.eye(self.stored("train").dim, dtype=torch.float64, device=self.device)
        values, vectors = torch.linalg.eigh(self.moments(np.arange(count))[1])
        return (vectors * (values.clamp_min(0) + self.own.whiten).rsqrt()) @ vectors.T

    @torch.inference_mode()
    def moments(self, index: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (C,) and covariance (C, C) of all patches of some training images, and the mean (C,) of those
        at the border; float64. Read in batches: no more than one of them is in memory."""
        ring = border(self.stored("train").grid).to(self.device)
        dim = self.stored("train").dim
        total, outer = torch.zeros(2, dim, dtype=torch.float64, device=self.device), 0
        for part in self.parts(index):
            x = self.net[0](self.input("train", part)).movedim(1, -1)
            total += torch.stack([x.sum((0, 1, 2)), x[:, ring].sum((0, 1))]).double()
            x = x.flatten(0, 2)
            outer = outer + (x.T @ x).double()
        mean, at_border = total[0] / (len(index) * ring.numel()), total[1] / (len(index) * int(ring.sum()))
        return mean, outer / (len(index) * ring.numel()) - torch.outer(mean, mean), at_border

    def parts(self, index: np.ndarray) -> Iterator[np.ndarray]:
        size = self.profile.evaluation.batch_size
        return (index[start : start + size] for start in range(0, len(index), size))

    @torch.inference_mode()
    def training_boxes(self) -> np.ndarray:
        """(N, 4) pseudo boxes of the training images under their class, x0, y0, x1, y1 as shares.

        Components are of patches: nothing is interpolated, as with the nearest neighbour.
        """
        labels = torch.from_numpy(self.images("train").labels)
        found = []
        for part in self.parts(np.arange(len(labels))):
            a = self.net[1](self.net[0](self.input("train", part)), labels[part].to(self.device))
            found += [component_box(mask) for mask in (a > 0).cpu().numpy()]
        return np.array(found, np.float32)

    @torch.inference_mode()
    def localize(self, split: str, index: np.ndarray) -> dict[str, Route]:
        standardise, directions = self.net
        x, scores = standardise(self.input(split, index)), self.classifier.scores(split, index)
        classes = {"true": self.labels(split, index), "pred": scores.argmax(1)}
        return {name: Route(directions(x, each).clamp_min(0), scores) for name, each in classes.items()}
