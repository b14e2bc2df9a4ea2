"""Class anchors: text embeddings made orthogonal before they are distilled.

The paper (section 3.1, figure 3, table 5) says that it uses "QR orthogonalization ... and conserve[s] the
basis", not of which matrix. T is K x d, one text embedding a row. The readings differ:

qr_rows  T = Q R, anchors are the rows of Q, K x min(K, d). Our default, because it runs for any K in no more
         than the text's dimensions: ILSVRC has 1000 classes, CLIP ViT-B/16 512 dimensions. For K <= d the rows are
         exactly orthonormal and the dimension becomes K (200 on CUB). Where K < d only the first K coordinates
         of the texts matter, since those K columns of T already fix Q. For K > d no orthonormal set exists in d
         dimensions; the rows form a tight frame (Q^T Q = I) of unequal norms.
qr_full  the full QR of T, whose Q is K x K; anchors are its rows. For K <= d it is qr_rows. For K > d the first
         d coordinates of an anchor are that of qr_rows, and K - d more, in which every text is zero, complete
         it: 1000 exactly orthonormal anchors, outside the text's space. A full QR leaves open which
         coordinates these are (a rotation); ours continue with the unit vectors, in order.
qr_cols  T^T = Q R, Gram-Schmidt over the classes: anchor k is t_k less its share in t_1 .. t_{k-1}, scaled to
         unit norm. Undefined for K > d, and the anchors depend on the order of the classes.
polar    U V^T from T = U S V^T (Loewdin): the orthonormal set nearest to T, free of order, in the text's own
         space. For K > d the tight frame nearest to T; it has the Gram matrix of qr_rows.

Controls: ``none`` (T itself), ``random`` (orthonormal directions that know no text; a tight frame for K > d)
and ``onehot`` (class indices). For K <= d all orthonormal sets are rotations of each other, and a decoder can
learn a rotation: what then distinguishes qr_rows from random or onehot anchors is not the text. This is our
observation, not the paper's.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tedloc.errors import UserError, choose

METHODS = {  # name -> as a reader knows it
    "none": "text as it is",
    "qr_rows": "QR, rows of Q (default)",
    "qr_full": "full QR, rows of Q",
    "qr_cols": "QR, columns of Q",
    "polar": "polar (Löwdin)",
    "random": "control: random directions",
    "onehot": "control: one-hot codes",
}


def orthogonalise(text: Tensor, method: str = "qr_rows", seed: int = 0) -> Tensor:
    """Anchors (K, d') float32 from text embeddings (K, d), on the text's device.

    method: one of ``METHODS``; d' is min(K, d) for qr_rows, K for qr_full and onehot, d for all others.
    seed:   of ``random``; the others ignore it.
    Computed in float64; the sign that QR leaves open is fixed by a positive diagonal of R.
    Raises ``UserError`` for an unknown method, for qr_cols when K > d, and for qr_cols and polar when a class
    text is a combination of others (two classes of the same name), which leaves its direction to rounding.
    """
    choose("orthogonaliser", method, METHODS)
    classes, width = text.shape
    exact = text.detach().double().cpu()
    if method == "qr_cols" and classes > width:
        raise UserError(
            f"orthogonaliser qr_cols gives at most {width} anchors, one per text dimension, but there are "
            f"{classes} classes; choose qr_rows, qr_full or polar, or a text encoder of more dimensions"
        )
    if method in ("qr_cols", "polar"):
        _check_independent(exact, method)
    match method:
        case "none":
            anchors = exact
        case "qr_rows":
            anchors = _qr(exact)
        case "qr_full":
            anchors = _qr(torch.cat([exact, torch.eye(classes, dtype=torch.float64)], dim=1))
        case "qr_cols":
            anchors = _qr(exact.T).T
        case "polar":
            left, _, right = torch.linalg.svd(exact, full_matrices=False)
            anchors = left @ right
        case "random":
            noise = torch.randn(
                max(classes, width),
                min(classes, width),
                dtype=torch.float64,
                generator=torch.Generator().manual_seed(seed),
            )
            anchors = _qr(noise) if classes > width else _qr(noise).T
        case "onehot":
            anchors = torch.eye(classes, dtype=torch.float64)
    return anchors.float().contiguous().to(text.device)


def _qr(matrix: Tensor) -> Tensor:
    """Q of the thin QR decomposition whose R has a non-negative diagonal."""
    q, r = torch.linalg.qr(matrix)
    return q * torch.where(r.diagonal() < 0, -1.0, 1.0)


def _check_independent(text: Tensor, method: str) -> None:
    if rank(text) < min(text.shape):
        raise UserError(
            f"orthogonaliser {method}: the {len(text)} class texts span fewer than {min(text.shape)} "
            "dimensions, as when two classes share a name; make the names distinct or choose qr_rows"
        )


def refusal(text: Tensor, method: str) -> str | None:
    """Why ``orthogonalise`` refuses these texts (K, d), in the few words that a table has room for; None if it does
    not."""
    if method == "qr_cols" and len(text) > text.shape[1]:
        return "needs K ≤ d"
    if method in ("qr_cols", "polar") and rank(text) < min(text.shape):
        return f"texts span fewer than {min(text.shape)} dimensions"
    return None


def rank(vectors: Tensor) -> int:
    """How many dimensions vectors (K, d) span. float32 embeddings carry an error of about 1e-7: directions a millionth
    as strong as the strongest are not theirs."""
    strength = torch.linalg.svdvals(vectors.detach().double())
    return int((strength > 1e-6 * strength[0]).sum())


def energies(vectors: Tensor) -> Tensor:
    """(min(K, d),) float64: the shares of the vectors' (K, d) squared length that lie along their principal
    directions, the strongest first."""
    squares = torch.linalg.svdvals(vectors.detach().double()).square()
    return squares / squares.sum()


def coherence(anchors: Tensor) -> float:
    """Largest |cos| between two anchors (K, d'): 0 for an orthogonal set, 1 when two coincide."""
    return float(_cosines(anchors).max())


def mean_abs_cosine(anchors: Tensor) -> float:
    """Mean |cos| over pairs of different anchors (K, d')."""
    return float(_cosines(anchors).mean())


def cosines(anchors: Tensor) -> Tensor:
    """(K, K) float64 cosines between anchors (K, d')."""
    unit = torch.nn.functional.normalize(anchors.detach().double(), dim=1)
    return unit @ unit.T


def _cosines(anchors: Tensor) -> Tensor:
    if len(anchors) < 2:
        raise UserError("coherence compares pairs of anchors: give at least two classes")
    row, column = torch.triu_indices(len(anchors), len(anchors), offset=1)
    return cosines(anchors)[row, column].abs()


def family_cosine(anchors: Tensor, families: np.ndarray) -> float:
    """Mean cosine over pairs of different anchors (K, d') of one family (K,); NaN if no family has two."""
    families = torch.as_tensor(families)
    same = families[:, None] == families[None]
    pairs = cosines(anchors).cpu()[same.triu(diagonal=1)]
    return float(pairs.mean())


def closest_pairs(anchors: Tensor, count: int) -> list[tuple[int, int]]:
    """The ``count`` pairs of classes with the largest cosine, closest first."""
    row, column = torch.triu_indices(len(anchors), len(anchors), offset=1)
    order = cosines(anchors).cpu()[row, column].argsort(descending=True, stable=True)[:count]
    return list(zip(row[order].tolist(), column[order].tolist(), strict=True))


def same_neighbour(before: Tensor, after: Tensor) -> float:
    """The share of K classes whose nearest other class, by cosine, is the same among two sets of anchors (K, .)."""
    alone = torch.eye(len(before), dtype=torch.bool)
    nearest = [cosines(each).cpu().masked_fill(alone, -torch.inf).argmax(1) for each in (before, after)]
    return float((nearest[0] == nearest[1]).double().mean())


def welch_bound(classes: int, width: int) -> float:
    """Least possible coherence of K unit vectors in d dimensions: sqrt((K - d) / (d (K - 1))), 0 for K <= d.

    Reference: L. Welch, "Lower bounds on the maximum cross correlation of signals", 1974.
    """
    return 0.0 if classes <= width else float(np.sqrt((classes - width) / (width * (classes - 1))))


class Sensitivity(NamedTuple):
    """Mean relative movement ||A - B|| / ||A|| (Frobenius) of the anchors; 0 means that they stay.

    direct:   as they are; what matters when anchors are compared with the text itself
    rotation: after the best orthogonal map of B onto A; what matters to a decoder that can learn a rotation
    """

    direct: float
    rotation: float


def permutation_sensitivity(text: Tensor, method: str, permutations: int = 10, seed: int = 0) -> Sensitivity:
    """How far each class's anchor moves when the classes are listed in another order.

    text: (K, d). The mean is over random orders drawn from ``seed``. ``random`` and ``onehot`` ignore the
    text, so for them a class simply takes another class's vector. Raises ``UserError`` as ``orthogonalise``.
    """
    reference = orthogonalise(text, method).double().cpu()
    generator = torch.Generator().manual_seed(seed)
    moves = []
    for _ in range(permutations):
        order = torch.randperm(len(text), generator=generator)
        moved = torch.empty_like(reference)
        moved[order] = orthogonalise(text[order.to(text.device)], method).double().cpu()
        left, _, right = torch.linalg.svd(moved.T @ reference)  # orthogonal Procrustes
        moves.append([(reference - b).norm() / reference.norm() for b in (moved, moved @ left @ right)])
    direct, rotation = torch.tensor(moves).mean(dim=0).tolist()
    return Sensitivity(direct, rotation)


def geometry(
    text: Tensor,
    method: str,
    families: np.ndarray | None = None,
    permutations: int = 10,
    among: np.ndarray | slice = slice(None),
) -> dict[str, str | float]:
    """What an orthogonaliser makes of texts (K, d), by the name of each measure as a table shows it.

    families: (K,), for the mean cosine within one; among: the classes between which cosines are taken (default: all)
    permutations: orders of the classes tried for ``permutation_sensitivity``; "order" is as they are, "order, rotated"
        after the best rotation. Refused texts give the reason alone (``refusal``).
    """
    if why := refusal(text, method):
        return {"K × d'": why}
    made = orthogonalise(text, method)
    lengths, moved = made.norm(dim=1), permutation_sensitivity(text, method, permutations)
    return {
        "K × d'": f"{len(made)} × {made.shape[1]}",
        "coherence": coherence(made[among]),
        "Welch bound": welch_bound(*made.shape),
        "mean |cos|": mean_abs_cosine(made[among]),
        **({} if families is None else {"cos in family": family_cosine(made, families)}),
        "norm, least": float(lengths.min()),
        "norm, most": float(lengths.max()),
        "order": moved.direct,
        "order, rotated": moved.rotation,
    }
