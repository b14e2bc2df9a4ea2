"""CAM (Zhou et al., 2016) on the same frozen encoder as TeD-Loc: a linear classifier on pooled patch embeddings.

Scores: W mean_p x_p + b. Map of class c: <w_c, x_p>. Trained with cross-entropy.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from tedloc.methods import Route, Shape
from tedloc.methods.trained import Batch, Trained
from tedloc.model import anchor_maps
from tedloc.settings import OptimiserSettings


@dataclass(frozen=True)
class CAMSettings:
    """A linear classifier needs no more than an optimiser; at full size it gets TeD-Loc's epochs and batches."""

    optimiser: OptimiserSettings = OptimiserSettings()


class LinearCAM(Trained):
    """Routes: ``true`` and ``pred``."""

    title = "CAM"
    SETTINGS = {
        "small": CAMSettings(OptimiserSettings(learning_rate=0.02)),
        "CUB": CAMSettings(OptimiserSettings(epochs=50, batch_size=16, learning_rate=0.01)),
        "ILSVRC": CAMSettings(OptimiserSettings(epochs=10, learning_rate=0.01)),
    }
    SEARCH = {"optimiser.learning_rate": (0.01, 0.02, 0.05, 0.1)}

    def network(self, shape: Shape) -> nn.Linear:
        return nn.Linear(shape.dim, shape.classes)

    def loss(self, net: nn.Linear, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return F.cross_entropy(net(batch.x.mean((2, 3))), batch.labels), {}

    def routes(self, net: nn.Linear, x: Tensor, labels: Tensor) -> dict[str, Route]:
        scores = net(x.mean((2, 3)))
        return {
            "true": Route(anchor_maps(x, net.weight, labels), scores),
            "pred": Route(anchor_maps(x, net.weight, scores.argmax(1)), scores),
        }
