"""PSOL (Zhang et al., 2020): pseudo boxes instead of maps, and localisation apart from classification.

1. DDT (:mod:`tedloc.methods.ddt`) gives each training image a pseudo box, found under its class.
2. A regressor learns to predict them, whatever the class: b = (x, y, w, h) in (0, 1) as shares of the image, with
   the loss 50 * mean (b - b')^2. That (x, y) is the upper left corner, and not the centre, is our reading.
3. A separate classifier says what is in the box.

Published: DenseNet161, fine-tuned as a whole, whose pooled features pass a layer of 512 units to the sigmoid; and
EfficientNet-B7 as the classifier. Here the encoder is frozen unless ``whole`` is set; what is pooled from frozen
features does not say where things are, so the regressor then sees the whole grid: a convolution, flattened. The
classifier is the best at hand (:mod:`tedloc.methods.classifier`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc.data import SPLITS
from tedloc.methods import Route, Shape
from tedloc.methods.classifier import WithClassifier
from tedloc.methods.ddt import DDT
from tedloc.methods.trained import Batch
from tedloc.methods.trunk import FineTunedTrunk, Trunk
from tedloc.settings import OptimiserSettings

CELLS = (20, 20)  # of the map that shows a box


class TrunkRegressor(nn.Module):
    """(B, 3, S, S) images to (B, 4) x, y, w, h as shares of the image, through a trunk that is trained along."""

    def __init__(self, trunk: Trunk, hidden: int):
        super().__init__()
        self.trunk = trunk
        self.head = nn.Sequential(nn.Linear(trunk.dim, hidden), nn.ReLU(), nn.Linear(hidden, 4), nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images).mean((2, 3)))


class BoxRegressor(nn.Module):
    """(B, C, h, w) patch embeddings of a frozen encoder to (B, 4) x, y, w, h as shares of the image.

    Batch norm behind the wide layer is ours: without it the first steps can drive the sigmoid to its ends, where
    it learns no more, and every box is empty.
    """

    def __init__(self, dim: int, grid: tuple[int, int], width: int, hidden: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(dim, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * grid[0] * grid[1], hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, 4),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def corner_and_size(boxes: Tensor, mirrored: Tensor) -> Tensor:
    """(B, 4) x, y, w, h from x0, y0, x1, y1 (shares); of the mirrored image where ``mirrored`` (B,) holds."""
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([torch.where(mirrored, 1 - x1, x0), y0, x1 - x0, y1 - y0], dim=1)


def corners(boxes: Tensor) -> Tensor:
    """(B, 4) x0, y0, x1, y1 from x, y, w, h (shares), cut at the image's edges."""
    return torch.cat([boxes[:, :2], (boxes[:, :2] + boxes[:, 2:]).clamp_max(1)], dim=1)


def coverage(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, h, w): the share of each patch that lies in the box (B, 4) x0, y0, x1, y1 (shares)."""
    along = []
    for size, low, high in ((grid[0], boxes[:, 1:2], boxes[:, 3:4]), (grid[1], boxes[:, 0:1], boxes[:, 2:3])):
        start = torch.arange(size, device=boxes.device)
        along.append((torch.minimum(high * size, start + 1) - torch.maximum(low * size, start)).clamp_min(0))
    return along[0][:, :, None] * along[1][:, None, :]


@dataclass(frozen=True)
class RegressorSettings:
    """width: channels of our convolution on frozen embeddings; hidden: units of the layer before the box, 512 as
    published; whole: train the encoder along, as published (:mod:`tedloc.methods.trunk`)."""

    whole: bool = False
    width: int = 32
    hidden: int = 512
    weight: float = 50.0  # of the mean squared error; published
    optimiser: OptimiserSettings = OptimiserSettings()


class PSOL(WithClassifier, FineTunedTrunk):
    """Route: ``box``, class-agnostic; as a map, for figures, the box on a grid of cells."""

    title = "PSOL"
    true_route = None
    paper_row = "PSOL"
    # Published for ILSVRC: SGD, 1e-3, 6 epochs. There is no published code for CUB; we take the same rate
    # and, as its epochs are 200 times shorter, more of them. Batch sizes, momentum and weight decay are ours.
    SETTINGS = {
        "small": RegressorSettings(optimiser=OptimiserSettings(kind="adamw", learning_rate=3e-3, weight_decay=0.1)),
        "CUB": RegressorSettings(width=64, optimiser=OptimiserSettings(epochs=50, learning_rate=1e-3)),
        "ILSVRC": RegressorSettings(
            width=64, optimiser=OptimiserSettings(epochs=6, batch_size=256, learning_rate=1e-3)
        ),
    }
    SEARCH = {"optimiser.learning_rate": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)}

    def share(self) -> None:
        for split in SPLITS:  # for the pseudo boxes and the classifier, which stay on the frozen encoder
            self.stored(split)

    def pseudo_boxes(self) -> Tensor:
        """(N, 4) boxes of the training images, x0, y0, x1, y1 as shares."""
        ddt = DDT(self.profile, self.seed, self.device)
        ddt.fit_directions()
        return torch.from_numpy(ddt.training_boxes())

    def prepare(self) -> None:
        self.boxes = self.pseudo_boxes()

    def network(self, shape: Shape) -> TrunkRegressor | BoxRegressor:
        if self.on_images:
            return TrunkRegressor(self.trunk(), self.own.hidden)
        return BoxRegressor(shape.dim, shape.grid, self.own.width, self.own.hidden)

    def loss(self, net: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        target = corner_and_size(self.boxes[batch.index].to(self.device), batch.mirrored)
        return self.own.weight * F.mse_loss(net(batch.x).to(target.dtype), target), {}

    def routes(self, net: nn.Module, x: Tensor, labels: Tensor) -> dict[str, Route]:
        boxes = corners(net(x))
        return {"box": Route(coverage(boxes, CELLS), x.new_zeros(len(x), 0), boxes)}
