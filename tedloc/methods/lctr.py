"""LCTR (Chen et al., AAAI 2022): attention passed on between patches; a head that chooses its own kernels.

Relational patch attention (RPAM). A patch counts when patches that the class token looks at look at it too.
With A_l the head-mean attention of block l, queries q and keys p among the n patches:

    m(p) = mean_l 1/n sum_q A_l[q, p] A_l[cls, q]

Cue digging (CDM). TS-CAM's 3x3 head becomes a mixture of four expert kernels, weighted for each image by what
is left of its tokens X once the attended part is erased. With a the class token's attention, its mean over blocks
and heads, brought to [0, 1]:

    X' = conv3x3(X o (1 - a))
    r = sigmoid(FC1(avgpool X') + FC2(maxpool X'))      four weights
    S = (sum_e r_e W_e) * X                             class maps; a convolution is linear in its kernel
    score_c = mean of S_c, pooled 3x3                   trained with cross-entropy
    map_c = m o ReLU(S_c)

The sources write 1 - a without a scale. As the softmax gives them, the weights of n patches sum to one, and 1 - a would
be about 1 - 1/n everywhere: nothing would be erased. So a is min-max normalised in each image, which is our reading.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc.backbones.attention import Seen
from tedloc.methods import Shape
from tedloc.methods.ts_cam import TSCAM, Coupled, TSCAMNet, TSCAMSettings, min_max
from tedloc.settings import OptimiserSettings

EXPERTS = 4  # published


def relational_attention(seen: Seen) -> Tensor:
    """m: (B, h, w)."""
    passed_on = []
    for weights in seen.attention:
        mean = weights.mean(1)
        passed_on.append((mean[:, :1, 1:] @ mean[:, 1:, 1:]).squeeze(1) / (mean.shape[-1] - 1))
    return torch.stack(passed_on).mean(0).unflatten(1, seen.tokens.shape[2:])


class CueDigging(nn.Module):
    """The head with routed experts."""

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.cues = nn.Conv2d(dim, dim, 3, padding=1)
        self.from_mean, self.from_peak = nn.Linear(dim, EXPERTS), nn.Linear(dim, EXPERTS)
        self.experts = nn.Conv2d(dim, EXPERTS * classes, 3, padding=1)

    def routing(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """(B, 4) weights of the experts. tokens: (B, C, h, w); attention: (B, h, w) within [0, 1]."""
        cues = self.cues(tokens * (1 - attention)[:, None])
        return (self.from_mean(cues.mean((2, 3))) + self.from_peak(cues.amax((2, 3)))).sigmoid()

    def forward(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """(B, K, h, w) class maps. The experts' outputs are mixed, which equals mixing their kernels."""
        each = self.experts(tokens).unflatten(1, (EXPERTS, -1))
        return torch.einsum("be,bekhw->bkhw", self.routing(tokens, attention), each)


class LCTRNet(TSCAMNet):
    """Relational attention with the class maps of cue digging."""

    def couple(self, seen: Seen) -> Coupled:
        class_maps = self.head(seen.tokens, min_max(seen.cls_to_patches().mean((1, 2))))
        # Stride 1, no padding: our reading. Patches at the border then count less in the scores.
        scores = F.avg_pool2d(class_maps, 3, stride=1).mean((2, 3))
        return Coupled(relational_attention(seen), class_maps.relu(), scores)


class LCTR(TSCAM):
    """Routes: ``true`` and ``pred``. The published system localises the predicted class always, also where it
    reports GT-known localization; its numbers there are to be set beside ``pred``."""

    title = "LCTR"
    paper_row = "LCTR"
    SETTINGS = {
        "small": TSCAMSettings(optimiser=OptimiserSettings("adamw", 4, 32, 5e-4, weight_decay=5e-4)),
        # Epochs and rates: published. Batch and weight decay: not in our sources, TS-CAM's.
        "CUB": TSCAMSettings(optimiser=OptimiserSettings("adamw", 80, 128, 5e-5, weight_decay=5e-4)),
        "ILSVRC": TSCAMSettings(optimiser=OptimiserSettings("adamw", 14, 256, 5e-4, weight_decay=5e-4)),
    }

    def network(self, shape: Shape) -> LCTRNet:
        backbone = self.backbone()
        return LCTRNet(backbone, CueDigging(backbone.dim, shape.classes))
