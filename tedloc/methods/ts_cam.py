"""TS-CAM (Gao et al., ICCV 2021): class maps of the patch tokens, coupled with where the class token looked.

A ViT is fine-tuned with a head that gives every patch its own class scores. With patch tokens T (C channels)
and the weights a_l that block l's heads give to patch p for the class token:

    S = conv3x3(T)                          class maps, K channels: "semantic re-allocation"
    score_c = mean_p S_c(p)                 trained with cross-entropy
    A(p) = sum_l mean_heads a_l(cls, p)     attention of all blocks; knows no class
    map_c(p) = A(p) S_c(p)                  S before softmax

SCM, LCTR and CATR start from here: they change S, A or what is trained, and share the rest of this file.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc.backbones.attention import AttentionViT, Seen
from tedloc.methods import Route, Shape
from tedloc.methods.fine_tuned import FineTunedViT
from tedloc.methods.trained import Batch
from tedloc.settings import OptimiserSettings


class Coupled(NamedTuple):
    """attention: (B, h, w), of no class; class_maps: (B, K, h, w); scores: (B, K) class logits."""

    attention: Tensor
    class_maps: Tensor
    scores: Tensor

    def of(self, classes: Tensor) -> Tensor:
        """(B, h, w): attention times the map of one class an image. classes: (B,)"""
        return self.attention * self.class_maps[torch.arange(len(classes), device=classes.device), classes]


class TSCAMNet(nn.Module):
    """The fine-tuned ViT with a head: (B, C, h, w) patch tokens -> (B, K, h, w) class maps."""

    def __init__(self, backbone: AttentionViT, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Tensor) -> Coupled:
        """images: (B, 3, S, S), prepared by the backbone's ``preprocess``."""
        return self.couple(self.backbone(images))

    def couple(self, seen: Seen) -> Coupled:
        class_maps = self.head(seen.tokens)
        return Coupled(seen.cls_to_patches().mean(2).sum(1), class_maps, class_maps.mean((2, 3)))


def min_max(maps: Tensor, eps: float = 1e-6) -> Tensor:
    """(B, h, w) maps, each brought to [0, 1]; a constant one to 0."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp_min(eps)


def semantic_head(dim: int, classes: int) -> nn.Conv2d:
    """The semantic head: C -> K channels from each patch and its eight neighbours."""
    return nn.Conv2d(dim, classes, 3, padding=1)


@dataclass(frozen=True)
class TSCAMSettings:
    """Published with a step schedule (learning rate x 0.1 at epoch 30 of 60 on CUB); here it is the cosine of
    ``tedloc.training.engine``. The released weights are those of the best epoch on the test set, ours of the last."""

    backbone: str | None = None  # None: the aviary's ViT there, else DeiT-S, as published
    optimiser: OptimiserSettings = OptimiserSettings(  # ours: the steps that the small profiles' time allows
        kind="adamw", epochs=4, batch_size=32, learning_rate=5e-4, weight_decay=5e-4
    )


class TSCAM(FineTunedViT):
    """Routes: ``true`` and ``pred``. Scores: the mean class maps."""

    title = "TS-CAM"
    paper_row = "TS-CAM"
    SETTINGS = {
        "small": TSCAMSettings(optimiser=OptimiserSettings("adamw", 4, 64, 1e-3, weight_decay=5e-4)),
        # 60 epochs, batch 128, rate 5e-5: published. Weight decay: not in our sources, ours.
        "CUB": TSCAMSettings(optimiser=OptimiserSettings("adamw", 60, 128, 5e-5, weight_decay=5e-4)),
        # batch 256, rate 5e-4: published. Epochs: not in our sources, close to LCTR's 14.
        "ILSVRC": TSCAMSettings(optimiser=OptimiserSettings("adamw", 12, 256, 5e-4, weight_decay=5e-4)),
    }
    SEARCH = {
        "optimiser.learning_rate": (5e-5, 2e-4, 5e-4, 1e-3, 2e-3),
        "optimiser.batch_size": (8, 16, 32, 64, 128, 256),
    }

    def network(self, shape: Shape) -> TSCAMNet:
        backbone = self.backbone()
        return TSCAMNet(backbone, semantic_head(backbone.dim, shape.classes))

    def loss(self, net: TSCAMNet, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return F.cross_entropy(net(batch.x).scores, batch.labels), {}

    def routes(self, net: TSCAMNet, x: Tensor, labels: Tensor) -> dict[str, Route]:
        found = net(x)
        return {
            "true": Route(found.of(labels), found.scores),
            "pred": Route(found.of(found.scores.argmax(1)), found.scores),
        }

    def modules(self) -> dict[str, nn.Module]:
        return {"backbone": self.net[1].backbone, "head": self.net[1].head}
