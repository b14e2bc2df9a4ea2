"""CATR (Chen et al., ICCV 2023): TS-CAM whose attention is told about classes and about the object's extent.

Beside TS-CAM's head (class maps S, cross-entropy), two modules read the class token's attention a_lk of all
blocks l and heads k, and train the ViT through it:

Category-aware stimulation (CSM)
    Q = W U(a)      U: a small U-net from all L x heads maps to K maps; W: 1x1 convolution without bias
    CE(mean_p Q, y)

Object constraint (OCM), with a the attention of TS-CAM, brought to [0, 1]
    p = sigmoid(BN(conv3x3[LeakyReLU(BN(conv1x1 a_l))]_l))      one map a block, of the early blocks
    MSE(p, a),   mean of the lowest share of a                  consistent attention; an empty background

The four losses L_i are weighted by learned uncertainties s_i, sum_i L_i / (2 s_i^2) + log(1 + s_i^2), which
give a loss that stays large a smaller weight. At test time the object constraint is dropped:

    map_c = A o (S_c + Q_c),    scores: mean_p S
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc.backbones.attention import AttentionViT, Seen
from tedloc.methods import Shape
from tedloc.methods.trained import Batch
from tedloc.methods.ts_cam import TSCAM, Coupled, TSCAMNet, TSCAMSettings, min_max, semantic_head
from tedloc.settings import OptimiserSettings

WIDTH = 64  # channels of the U-net; ours, the published shape is only known as a small U-net


def _conv(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU())


class CategoryStimulation(nn.Module):
    """CSM: (B, L, heads, h, w) attention -> (B, K, h, w) maps Q. The grid, 10 to 14 wide, is halved once."""

    def __init__(self, maps: int, classes: int):
        super().__init__()
        self.fine, self.coarse = _conv(maps, WIDTH), _conv(WIDTH, 2 * WIDTH)
        self.joined = nn.Sequential(_conv(3 * WIDTH, WIDTH), nn.Conv2d(WIDTH, classes, 1))
        self.classifier = nn.Conv2d(classes, classes, 1, bias=False)

    def forward(self, attention: Tensor) -> Tensor:
        fine = self.fine(attention.flatten(1, 2))
        coarse = self.coarse(F.max_pool2d(fine, 2))
        coarse = F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=False)
        return self.classifier(self.joined(torch.cat([fine, coarse], 1)))


class ObjectConstraint(nn.Module):
    """OCM: (B, L, heads, h, w) attention -> (B, h, w) object map p in (0, 1), from the first blocks only."""

    def __init__(self, heads: int, blocks: int):
        super().__init__()
        self.merge = nn.ModuleList(
            nn.Sequential(nn.Conv2d(heads, 1, 1), nn.BatchNorm2d(1), nn.LeakyReLU()) for _ in range(blocks)
        )
        self.object = nn.Sequential(nn.Conv2d(blocks, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, attention: Tensor) -> Tensor:
        merged = [merge(attention[:, block]) for block, merge in enumerate(self.merge)]
        return self.object(torch.cat(merged, 1)).squeeze(1)


def background(attention: Tensor, share: float) -> Tensor:
    """Mean of the lowest ``share`` of each map's values. attention: (B, h, w)"""
    values = attention.flatten(1)
    return values.topk(max(1, round(share * values.shape[1])), largest=False).values.mean()


class UncertaintyWeighting(nn.Module):
    """Sum of losses, each weighted by its own learned uncertainty s (first value 1)."""

    def __init__(self, losses: int):
        super().__init__()
        self.s = nn.Parameter(torch.ones(losses))

    def forward(self, losses: Tensor) -> Tensor:
        """losses: (n,), each at least zero"""
        return (losses / (2 * self.s**2) + torch.log1p(self.s**2)).sum()


class CATRNet(TSCAMNet):
    """TS-CAM's network with stimulation, and for training the object constraint and the losses' weights.

    early: share of the blocks, from the first, that the object constraint reads
    """

    def __init__(self, backbone: AttentionViT, head: nn.Module, classes: int, early: float):
        super().__init__(backbone, head)
        self.stimulation = CategoryStimulation(backbone.depth * backbone.heads, classes)
        self.constraint = ObjectConstraint(backbone.heads, max(1, round(early * backbone.depth)))
        self.weighting = UncertaintyWeighting(4)

    def couple(self, seen: Seen) -> Coupled:
        found = super().couple(seen)
        return found._replace(class_maps=found.class_maps + self.stimulation(seen.cls_to_patches()))

    def losses(self, seen: Seen, labels: Tensor, share: float) -> dict[str, Tensor]:
        """The four losses, unweighted."""
        by_head = seen.cls_to_patches()
        found = super().couple(seen)
        attention = min_max(found.attention)
        return {
            "class": F.cross_entropy(found.scores, labels),
            "stimulation": F.cross_entropy(self.stimulation(by_head).mean((2, 3)), labels),
            "object": F.mse_loss(self.constraint(by_head), attention),
            "background": background(attention, share),
        }


@dataclass(frozen=True)
class CATRSettings(TSCAMSettings):
    """That a is brought to [0, 1] before it is compared with p and its lowest values are counted is ours:
    raw weights sum to one over the patches, so that a sigmoid would only learn to be small."""

    early: float = 9 / 12  # share of blocks in the object constraint; published: the first 9 of 12 on CUB
    lowest: float = 0.25  # share of the patches taken for background; published for CUB


class CATR(TSCAM):
    """Routes: ``true`` and ``pred``. The published system localises the predicted class."""

    title = "CATR"
    paper_row = "CATR"
    SETTINGS = {
        "small": CATRSettings(optimiser=OptimiserSettings("adamw", 4, 4, 5e-4, weight_decay=5e-4)),
        # Not in our sources: epochs, batch, rate, weight decay. LCTR's, by the same authors, are taken.
        "CUB": CATRSettings(optimiser=OptimiserSettings("adamw", 80, 128, 5e-5, weight_decay=5e-4)),
        "ILSVRC": CATRSettings(
            optimiser=OptimiserSettings("adamw", 14, 256, 5e-4, weight_decay=5e-4), early=10 / 12, lowest=0.1
        ),  # published
    }

    def network(self, shape: Shape) -> CATRNet:
        backbone = self.backbone()
        return CATRNet(backbone, semantic_head(backbone.dim, shape.classes), shape.classes, self.own.early)

    def loss(self, net: CATRNet, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        losses = net.losses(net.backbone(batch.x), batch.labels, self.own.lowest)
        total = net.weighting(torch.stack(list(losses.values())))
        return total, {name: value.detach() for name, value in losses.items()}

    def modules(self) -> dict[str, nn.Module]:
        return super().modules() | {"stimulation": self.net[1].stimulation}
