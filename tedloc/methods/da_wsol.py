"""DA-WSOL (Zhu et al., CVPR 2022; TPAMI 2024): localization as domain adaptation from images to their pixels.

A classifier is trained on pooled features h (the source domain) and applied to pixel features f_p (the target
domain), which are distributed otherwise. Each step sorts the pixels of each image by k-means with three
centres, which start at

    universum u      a running mean of pixels that belong to no class (background)
    source-like h    the image's own pooled feature
    target t_y       a running mean of the class's target pixels

and trains with

    L = CE(W h + b, y) + beta MMD^2(S, T) + mu mean(f_p over universum pixels and channels)

MMD, the maximum mean discrepancy, draws target pixels T towards the source features S, so that the classifier
holds for them; the last term silences the universum (f >= 0, so its mean is its magnitude). At test time a
CAM is left: map_c(p) = <w_c, f_p>.

The published system trains a ResNet50 as a whole, whose last features, behind a ReLU, are f. With ``whole``, f is
ReLU(x) of the trained encoder's patch embeddings x. Without, the encoder is frozen and a trainable adapter stands for
the published trainable features: f = ReLU(x + conv3x3(x)), which starts as ReLU(x).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc.methods import Route, Shape
from tedloc.methods.trained import Batch
from tedloc.methods.trunk import FineTunedTrunk
from tedloc.model import anchor_maps
from tedloc.settings import OptimiserSettings
from tedloc.training import distributed

UNIVERSUM, SOURCE_LIKE, TARGET = range(3)
# of the RBF kernels, times the mean squared distance of the samples; ours: the sources give no widths
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
ROUNDS = 5  # of k-means; ours. The centres start close to where they end


def k_means(pixels: Tensor, centres: Tensor, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm on B images at once. pixels: (B, P, C); centres: (B, k, C), where it starts.

    Returns the cluster (B, P) of every pixel and the mean (B, k, C) of every cluster; one without pixels
    keeps its centre.
    """
    for _ in range(rounds):
        cluster = torch.cdist(pixels, centres).argmin(2)
        member = F.one_hot(cluster, centres.shape[1]).to(pixels)
        sizes = member.sum(1)[:, :, None]
        means = member.transpose(1, 2) @ pixels / sizes.clamp_min(1)
        centres = torch.where(sizes > 0, means, centres)
    return cluster, centres


def mmd(source: Tensor, target: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two sets of samples (n, C) and (m, C) under the mean of RBF
    kernels.

    Zero for equal sets. The bandwidths follow the mean squared distance of all samples, without gradient.
    """
    samples = torch.cat([source, target])
    distance = (samples[:, None] - samples[None]).square().sum(2)
    width = distance.detach().mean().clamp_min(1e-12)
    kernel = torch.stack([torch.exp(-distance / (scale * width)) for scale in BANDWIDTHS]).mean(0)
    n = len(source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def draw(pool: Tensor, draws: distributed.Draws) -> Tensor:
    """One random pixel (B,) of each row's pool (B, P), a bool tensor; any pixel where the pool is empty."""
    return draws.rand(pool.shape[1]).masked_fill(~pool, -1).argmax(1)


def found(cluster: Tensor, kind: int) -> Tensor:
    """Which images (B,) of all processes have pixels of a kind. cluster: (B, P), of this one's"""
    return distributed.gathered((cluster == kind).any(1).int()) > 0


class Adapter(nn.Module):
    """x + conv3x3(x) of patch embeddings (B, C, h, w), at first x. width: channels in between; None: one convolution"""

    def __init__(self, dim: int, width: int | None = None):
        super().__init__()
        last = nn.Conv2d(dim, dim, 3, padding=1) if width is None else nn.Conv2d(width, dim, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = last if width is None else nn.Sequential(nn.Conv2d(dim, width, 3, padding=1), nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class DANet(nn.Module):
    """Features, classifier, and the running centres: ``universum`` (C,) and ``targets`` (K, C).

    The universum's centre starts at zero, where a pixel says nothing. A class that no target pixel was found
    for yet (``known`` is False) starts from the strongest pixel of the image at hand. Both are our choice.
    """

    def __init__(self, features: nn.Module, dim: int, classes: int, momentum: float):
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(dim, classes)
        self.momentum = momentum
        self.register_buffer("universum", torch.zeros(dim))
        self.register_buffer("targets", torch.zeros(classes, dim))
        self.register_buffer("known", torch.zeros(classes, dtype=torch.bool))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features f (B, C, h, w), non-negative, and class scores (B, K)."""
        f = self.features(x).relu()
        return f, self.classifier(f.mean((2, 3)))

    @torch.no_grad()
    def assign(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """The cluster (B, P) of each pixel: UNIVERSUM, SOURCE_LIKE or TARGET. pixels: (B, P, C). Moves the
        running centres."""
        strongest = pixels.square().sum(2).argmax(1)
        strongest = pixels[torch.arange(len(pixels), device=pixels.device), strongest]
        target = torch.where(self.known[labels, None], self.targets[labels], strongest)
        start = torch.stack([self.universum.expand_as(target), pixels.mean(1), target], dim=1)
        cluster, centres = k_means(pixels, start)
        centres, labels = distributed.gathered(centres), distributed.gathered(labels)
        some = found(cluster, UNIVERSUM)
        if some.any():
            self.universum.lerp_(centres[some, UNIVERSUM].mean(0), 1 - self.momentum)
        some = found(cluster, TARGET)
        present = F.one_hot(labels[some], len(self.targets)).to(pixels)  # (images with target pixels, K)
        counts = present.sum(0)[:, None]
        means = present.T @ centres[some, TARGET] / counts.clamp_min(1)
        moved = torch.where(self.known[:, None], self.targets.lerp(means, 1 - self.momentum), means)
        self.targets.copy_(torch.where(counts > 0, moved, self.targets))
        self.known |= counts[:, 0] > 0
        return cluster


@dataclass(frozen=True)
class DASettings:
    """S and T hold one feature of each image of a batch, so a batch of 32 gives the published 32 against
    32."""

    whole: bool = False  # train the encoder along, as published (tedloc.methods.trunk)
    beta: float = 0.2  # weight of the MMD; published for OpenImages, the only released script
    mu: float = 3.0  # weight of the universum; likewise
    momentum: float = 0.9  # of the running centres; ours
    # channels within the adapter of a frozen encoder; None: one convolution, which is dear for many channels
    width: int | None = None
    optimiser: OptimiserSettings = OptimiserSettings()


class DAWSOL(FineTunedTrunk):
    """Routes: ``true`` and ``pred``. Scores: the classifier on pooled features (the published
    one-stage variant; the two-stage one takes another network's classes)."""

    title = "DA-WSOL"
    paper_row = "DA-WSOL"
    SETTINGS = {
        "small": DASettings(mu=30.0, optimiser=OptimiserSettings(epochs=6, learning_rate=0.03)),
        # rate 1e-3: published (OpenImages). Epochs: not in our sources, TeD-Loc's.
        "CUB": DASettings(optimiser=OptimiserSettings(epochs=50, batch_size=32, learning_rate=1e-3)),
        "ILSVRC": DASettings(optimiser=OptimiserSettings(epochs=10, batch_size=32, learning_rate=1e-3)),
    }
    SEARCH = {"optimiser.learning_rate": (0.01, 0.03, 0.1, 0.3), "mu": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)}

    def network(self, shape: Shape) -> DANet:
        features = self.trunk() if self.on_images else Adapter(shape.dim, self.own.width)
        dim = features.dim if self.on_images else shape.dim
        return DANet(features, dim, shape.classes, self.own.momentum)

    def loss(self, net: DANet, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        f, scores = net(batch.x)
        pixels = f.flatten(2).transpose(1, 2)
        cluster = net.assign(pixels.detach(), batch.labels)
        pick = draw(cluster == TARGET, batch.draws)
        picked = pixels[torch.arange(len(pixels), device=pixels.device), pick]
        source, target = distributed.gathered(pixels.mean(1)), distributed.gathered(picked)[found(cluster, TARGET)]
        discrepancy = mmd(source, target) if len(target) else pixels.new_zeros(())
        universum = (cluster == UNIVERSUM)[:, :, None]
        silent = distributed.divisor(universum.sum(), len(pixels)) * pixels.shape[2]
        silence = (pixels * universum).sum() / silent.clamp_min(1)
        terms = {"CE": F.cross_entropy(scores, batch.labels), "MMD": discrepancy, "universum": silence}
        loss = terms["CE"] + self.own.beta * terms["MMD"] + self.own.mu * terms["universum"]
        return loss, {name: term.detach() for name, term in terms.items()}

    def routes(self, net: DANet, x: Tensor, labels: Tensor) -> dict[str, Route]:
        f, scores = net(x)
        return {
            "true": Route(anchor_maps(f, net.classifier.weight, labels), scores),
            "pred": Route(anchor_maps(f, net.classifier.weight, scores.argmax(1)), scores),
        }
