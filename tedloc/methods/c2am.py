"""C2AM (Xie et al., 2022): foreground and background of all images, told apart by contrast; no class is used.

A 3x3 convolution, batch norm and a sigmoid turn the features z_p of an image into P in (0, 1), and with it

    f = mean_p P_p z_p        b = mean_p (1 - P_p) z_p

Over a batch, foregrounds are pushed away from backgrounds, and both drawn together among themselves; pairs
that already agree count more, by their rank among the image's partners (0 for the most similar):

    L = mean_ij -log(1 - cos(b_i, f_j))
      + mean_ij -w_ij log cos(f_i, f_j)  +  mean_ij -w_ij log cos(b_i, b_j)
    w_ij = exp(-alpha rank_ij),  i != j in the last two;  cosines are held within [0.0005, 0.9995]

L does not say which side is the object. Polarity: if most border patches have P > 0.5, P is inverted. A
threshold then cuts boxes of the training images from P, and a regressor learns them as in PSOL
(:mod:`tedloc.methods.psol`).

The threshold is the one that is best on the *validation* split. The published system chose it (and the epoch)
on the test split; the variant ``c2am:test-threshold`` does so, which **leaks test boxes into training**. It
exists to measure what that leak is worth. Neither of ours chooses an epoch: the last one counts.

Published: ResNet50, trained along, features of its last two stages side by side, not negative after their
ReLU. Ours are frozen and have signs, under which cosines of single images mean little; so positive and
negative parts become channels of their own (2C, none negative).

L finds the two kinds of patches that differ most, and nothing in it makes one of them the object. Where other kinds
differ more, the true masks have a higher L than what is found, longer training leads away from the object, and seeds
stop at different places on the way. That is the loss's own, and a matter of the features it is given: on embeddings in
which object and background differ most, the same loss and settings stay on the object.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc.methods import Route, Shape
from tedloc.methods.ddt import border, component_box
from tedloc.methods.psol import PSOL, RegressorSettings
from tedloc.methods.trained import Batch, Trained, subfolder
from tedloc.metrics import boxes as mapping
from tedloc.metrics.meter import LocalizationMeter
from tedloc.settings import OptimiserSettings
from tedloc.training import distributed

COSINES = (5e-4, 0.9995)  # published: keeps both logarithms finite
MEMORY = 0.1  # weight of the newest batch in the running border share; as in batch norm


class Foreground(nn.Module):
    """P of features (B, C, h, w), and which side of it is the object."""

    def __init__(self, dim: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2 * dim, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1), nn.Sigmoid())
        self.register_buffer("border_share", torch.tensor(0.5))  # running, of border patches with P > 0.5

    def forward(self, z: Tensor) -> Tensor:
        """(B, h, w) in (0, 1), either side."""
        return self.layers(z)[:, 0]

    @torch.no_grad()
    def watch(self, p: Tensor) -> None:
        """Take a batch's P into the running border share."""
        here = (p[:, border(tuple(p.shape[1:])).to(p.device)] > 0.5).float()
        self.border_share.lerp_(distributed.gathered(here).mean(), MEMORY)

    def maps(self, z: Tensor) -> Tensor:
        """(B, h, w): P, inverted where the border says that it shows the background."""
        p = self(z)
        return torch.where(self.border_share > 0.5, 1 - p, p)


def parts(x: Tensor) -> Tensor:
    """(B, 2C, h, w): the positive and the negative part of features (B, C, h, w)."""
    return torch.cat([x.clamp_min(0), (-x).clamp_min(0)], dim=1)


def contrast(z: Tensor, p: Tensor, alpha: float) -> dict[str, Tensor]:
    """The three terms of L by name, over the images of all processes, at least 2. z: (B, C, h, w) features, none
    negative; p: (B, h, w)"""
    with torch.autocast(z.device.type, enabled=False):  # in bf16 a cosine of 0.9995 is 1
        z, p = z.float(), p.float()
        f, b = (F.normalize(torch.einsum("bchw,bhw->bc", z, side), dim=1) for side in (p, 1 - p))
        f, b = distributed.gathered(f), distributed.gathered(b)
        apart = -(1 - (b @ f.T).clamp(*COSINES)).log().mean()
        return {"apart": apart, "foreground": together(f, alpha), "background": together(b, alpha)}


def together(u: Tensor, alpha: float) -> Tensor:
    """mean over i != j of -w_ij log cos(u_i, u_j); u: (B, C) of unit length."""
    others = ~torch.eye(len(u), dtype=torch.bool, device=u.device)
    cosines = (u @ u.T)[others].view(len(u), -1)
    return -(rank_weights(cosines, alpha) * cosines.clamp(*COSINES).log()).mean()


@torch.no_grad()
def rank_weights(cosines: Tensor, alpha: float) -> Tensor:
    """exp(-alpha rank) of each cosine within its row (B, n), from the largest down."""
    return (-alpha * cosines.argsort(1, descending=True).argsort(1)).exp()


@dataclass(frozen=True)
class C2AMSettings(RegressorSettings):
    """On top of the regressor's. alpha: how fast weights fall with rank; published 0.05 for a backbone that
    was pre-trained with labels.

    step: of the thresholds tried, 19 between 0 and 1 as published; contrast: how P is trained.
    """

    alpha: float = 0.05
    step: float = 0.05
    contrast: OptimiserSettings = OptimiserSettings()


class ForegroundStage(Trained):
    """The first stage: trains P. Route: ``map``, without class scores."""

    title = "C2AM's foreground"

    def __init__(self, method: "C2AM"):
        super().__init__(method.profile, method.seed, method.device, own=method.own)

    @property
    def optimiser(self) -> OptimiserSettings:
        return self.own.contrast

    def network(self, shape: Shape) -> Foreground:
        return Foreground(shape.dim)

    def loss(self, net: Foreground, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        z = parts(batch.x)
        p = net(z)
        net.watch(p)
        terms = contrast(z, p, self.own.alpha)
        return sum(terms.values()), {name: term.detach() for name, term in terms.items()}

    def routes(self, net: Foreground, x: Tensor, labels: Tensor) -> dict[str, Route]:
        return {"map": Route(net.maps(parts(x)), x.new_zeros(len(x), 0))}


class C2AM(PSOL):
    """Routes: ``box``, the regressor's, and ``map``, the foreground it learnt from; both class-agnostic."""

    title = "C2AM"
    true_route = "map"
    paper_row = "C2AM"
    # Published: 20 epochs on CUB, 5 on ILSVRC, for P; its batch size, kind and rate here are ours. The
    # regressor is PSOL's.
    SETTINGS = {
        "small": C2AMSettings(
            alpha=0.25,
            optimiser=PSOL.SETTINGS["small"].optimiser,
            contrast=OptimiserSettings(epochs=5, learning_rate=0.001),
        ),
        "CUB": C2AMSettings(
            width=64, optimiser=PSOL.SETTINGS["CUB"].optimiser, contrast=OptimiserSettings(epochs=20, batch_size=128)
        ),
        "ILSVRC": C2AMSettings(
            width=64, optimiser=PSOL.SETTINGS["ILSVRC"].optimiser, contrast=OptimiserSettings(epochs=5, batch_size=128)
        ),
    }
    SEARCH = {
        "contrast.learning_rate": (0.0001, 0.0003, 0.001, 0.003, 0.01),
        "alpha": (0.05, 0.25, 0.75, 1.5, 3.0, 6.0),
    }

    def rows(self) -> dict[str, str | None]:
        return {"C2AM, threshold from test" if self.variant else "C2AM": None}

    @property
    def threshold_split(self) -> str:
        return "test" if self.variant == "test-threshold" else "val"

    def fit(self, folder: Path | None = None) -> None:
        self.foreground = ForegroundStage(self)
        self.foreground.fit(subfolder(folder, "foreground"))
        super().fit(folder)

    def maps(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions (B,) and foreground maps (B, h, w), batch by batch."""
        for prediction in self.foreground.predict(split):
            yield prediction.index, prediction.routes["map"].maps.cpu().numpy()

    def threshold(self) -> float:
        """Where MaxBoxAcc at IoU 0.5 is highest on the split that may choose; the lowest of equals."""
        images = self.images(self.threshold_split)
        meter = LocalizationMeter(grid=self.profile.evaluation.grid, step=self.own.step)
        for index, maps in self.maps(self.threshold_split):
            ids, boxes = [images.ids[i] for i in index], [images.boxes[i] for i in index]
            meter.update(ids, maps, boxes, images.sizes[index])
        return meter.compute()["threshold@0.5"]

    def pseudo_boxes(self) -> Tensor:
        grid, threshold, found = self.profile.evaluation.grid, self.threshold(), []
        for _, maps in self.maps("train"):
            for levels in (mapping.to_bytes(mapping.to_grid(each, grid)) for each in maps):
                found.append(component_box(levels > mapping.level_of(threshold, levels.max())))
        return torch.tensor(found)

    def localize(self, split: str, index: np.ndarray) -> dict[str, Route]:
        routes = super().localize(split, index)
        maps = self.foreground.localize(split, index)["map"].maps
        return routes | {"map": Route(maps, routes["box"].scores)}
