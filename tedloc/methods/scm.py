"""SCM (Bai et al., ECCV 2022): TS-CAM, its attention and class maps calibrated in training by diffusion.

Four layers let attention spread between neighbouring patches, by how alike they are. Each takes class maps X
(K values a patch) and attention a (one value a patch) and solves for an equilibrium on the patch grid:

    S_pq = cos(X_p, X_q)                semantic similarity of patches
    L = (D - N) o (lambda S - 1)        D - N: Laplacian of the grid's four-neighbour graph; o: elementwise
    a' = L^-T a                         inverse by Newton-Schulz iteration
    a' <- tanhshrink(a' / (theta max a))    drops what is small; then min-max to [0, 1]
    X <- X + X o a',   a <- a + a'

lambda (how much similarity counts) and theta (how much is dropped) are learned. The calibrated X gives the
scores that are trained. At test time the layers are dropped: the map is TS-CAM's, attention times class map.
What they taught stays in the ViT.

At its first value lambda = 1, L is zero on the diagonal and 1 - S_pq between neighbours: small inside a
region of like patches, so that its inverse raises attention there, and large across the region's edge. L can
then be singular. The iteration starts from a multiple of L^T, so it heads for the pseudo-inverse, which
always exists. Directions in which L is small are, after the published number of steps, not yet inverted; that
is part of the method.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc.backbones.attention import AttentionViT
from tedloc.methods import Shape
from tedloc.methods.ts_cam import TSCAM, Coupled, TSCAMNet, TSCAMSettings, min_max, semantic_head
from tedloc.settings import OptimiserSettings

ITERATIONS = (16, 4, 4, 4)  # Newton-Schulz steps of each layer; published
START = 0.002  # the first guess of the inverse is START * L^T; published


def grid_laplacian(h: int, w: int, device: torch.device | str = "cpu") -> Tensor:
    """(hw, hw) Laplacian D - N of the graph that joins each patch to its four neighbours, in row order."""

    def path(n: int) -> Tensor:
        ones = torch.ones(n - 1, device=device)
        return torch.diag(ones, 1) + torch.diag(ones, -1)

    rows, columns = torch.eye(h, device=device), torch.eye(w, device=device)
    neighbours = torch.kron(path(h), columns) + torch.kron(rows, path(w))
    return torch.diag(neighbours.sum(1)) - neighbours


def newton_schulz(matrix: Tensor, values: Tensor, iterations: int, start: float = START) -> Tensor:
    """M^-T v, approximately, for matrices M (..., n, n) and columns v (..., n, m): Newton-Schulz, applied.

    The iteration for the inverse, V <- V (2 I - M V) from V = start M^T, is with the error E = I - M V

        V <- V (I + E),   E <- E^2

    E stays symmetric, so V^T v needs one product of matrices a step instead of two, and V is never formed. An
    error in the direction of singular value s starts at 1 - start s^2 and is squared each step. It vanishes
    where 0 < start s^2 < 2, and stays where s = 0 (pseudo-inverse).
    """
    error = torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype) - start * matrix @ matrix.mT
    solved = start * matrix @ values
    for _ in range(iterations - 1):
        solved = solved + error @ solved
        error = error @ error
    return solved + error @ solved


class Diffusion(nn.Module):
    """One calibration layer: class maps (B, K, h, w) and attention (B, h, w) to the same, calibrated."""

    def __init__(self, iterations: int):
        super().__init__()
        self.iterations = iterations
        self.similarity = nn.Parameter(torch.tensor(1.0))  # lambda; first value published
        self.threshold = nn.Parameter(torch.tensor(0.5))  # theta; first value published

    def graph(self, class_maps: Tensor) -> Tensor:
        """(B, hw, hw) matrix L of the patches."""
        patches = F.normalize(class_maps.flatten(2), dim=1)
        similarity = patches.mT @ patches
        return grid_laplacian(*class_maps.shape[2:], class_maps.device) * (self.similarity * similarity - 1)

    def forward(self, class_maps: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        # float32 whatever the precision of training: in bf16 errors near one grow when they are squared
        with torch.autocast(class_maps.device.type, enabled=False):
            return self.spread(class_maps.float(), attention.float())

    def spread(self, class_maps: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        flow = newton_schulz(self.graph(class_maps), attention.flatten(1)[..., None], self.iterations)
        flow = flow.view_as(attention)
        calibrated = min_max(F.tanhshrink(flow / (self.threshold * attention.amax((1, 2), keepdim=True))))
        return class_maps + class_maps * calibrated[:, None], attention + calibrated


class SCMNet(TSCAMNet):
    """TS-CAM's network, with calibration layers in training mode only."""

    def __init__(self, backbone: AttentionViT, head: nn.Module):
        super().__init__(backbone, head)
        self.calibration = nn.ModuleList(Diffusion(iterations) for iterations in ITERATIONS)

    def forward(self, images: Tensor) -> Coupled:
        found = super().forward(images)
        return self.calibrate(found) if self.training else found

    def calibrate(self, found: Coupled) -> Coupled:
        """Attention (first brought to [0, 1]), class maps and scores after all layers."""
        class_maps, attention = found.class_maps, min_max(found.attention)
        for layer in self.calibration:
            class_maps, attention = layer(class_maps, attention)
        return Coupled(attention, class_maps, class_maps.mean((2, 3)))


class SCM(TSCAM):
    """Routes: ``true`` and ``pred``; loss, maps and scores as in TS-CAM."""

    title = "SCM"
    paper_row = "SCM"
    SETTINGS = {
        "small": TSCAMSettings(optimiser=OptimiserSettings("adamw", 4, 128, 1e-3, weight_decay=5e-4)),
        # 30 epochs, rate 5e-5: published. Batch and weight decay: not in our sources, TS-CAM's.
        "CUB": TSCAMSettings(optimiser=OptimiserSettings("adamw", 30, 128, 5e-5, weight_decay=5e-4)),
        # rate 1e-6: published. Epochs, batch, weight decay: not in our sources, TS-CAM's.
        "ILSVRC": TSCAMSettings(optimiser=OptimiserSettings("adamw", 12, 256, 1e-6, weight_decay=5e-4)),
    }

    def network(self, shape: Shape) -> SCMNet:
        backbone = self.backbone()
        return SCMNet(backbone, semantic_head(backbone.dim, shape.classes))
