"""The anchors explorer's data: cosines of class pairs, of the text as it is and after every orthogonalization.

See :mod:`tedloc.book.explorer` for what a piece is and for the attributes in which it says what it shows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from tedloc import anchors
from tedloc.book import examples
from tedloc.book.explorer import Explorer
from tedloc.errors import UserError

MOST_CLASSES = 40  # of a matrix on the page
DECIMALS = 4  # of a cosine on the page
# -1, 0, 1: blue and vermilion stay apart for colour-blind readers; the script uses the same ends
ENDS = ("#0072b2", "#f7f7f7", "#d55e00")


def orthogonalization(texts: Mapping[str, Tensor], class_names: Sequence[str], badge: str = "") -> Explorer:
    """The anchors explorer.

    texts: by name of the text encoder, (K, d) embeddings of the K class names. Of more than ``MOST_CLASSES`` classes
    so many are shown, evenly spaced; all K take part in the orthogonalization and in the summaries.
    """
    shown = examples.evenly(len(class_names), MOST_CLASSES)
    upper = np.triu_indices(len(shown), 1)
    made = []
    for name, text in texts.items():
        kinds = [_kind(text, kind, shown, upper) for kind in anchors.METHODS]
        made.append({"name": name, "classes": len(text), "width": text.shape[1], "kinds": kinds})
    names = [class_names[k] for k in shown]
    return Explorer("anchors", {"names": names, "ends": ENDS, "decimals": DECIMALS, "texts": made}, badge)


def _kind(text: Tensor, kind: str, shown: np.ndarray, upper: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """cosines: of pairs i < j, row by row; or ``refused``: why there are no such anchors."""
    made = {"name": kind, "label": anchors.METHODS[kind]}
    try:
        vectors = anchors.orthogonalise(text, kind)
    except UserError as refusal:
        return made | {"refused": str(refusal)}
    cosines = anchors.cosines(vectors).cpu().numpy()[np.ix_(shown, shown)][upper]
    return made | {
        "cosines": (cosines.round(DECIMALS) + 0.0).tolist(),
        "coherence": round(anchors.coherence(vectors), DECIMALS),
        "mean": round(anchors.mean_abs_cosine(vectors), DECIMALS),
    }


def matrix(explored: dict[str, Any], text: int, kind: str) -> np.ndarray:
    """(n, n) cosines of the shown classes; ones on the diagonal. Raises ``KeyError`` for a refused kind."""
    found = next(made for made in explored["texts"][text]["kinds"] if made["name"] == kind)
    size = len(explored["names"])
    upper = np.zeros((size, size))
    upper[np.triu_indices(size, 1)] = found["cosines"]
    return upper + upper.T + np.eye(size)


def pair(explored: dict[str, Any], text: int, kind: str, first: int, second: int) -> dict[str, Any]:
    """What the page must show: the attributes of the anchors explorer, by name without ``data-``."""
    names = explored["names"]
    before, after = (float(matrix(explored, text, each)[first, second]) for each in ("none", kind))
    return {
        "text": explored["texts"][text]["name"],
        "kind": kind,
        "first": names[first],
        "second": names[second],
        "before": before,
        "after": after,
    }


def static_orthogonalization(explored: Explorer, kind: str = "qr_rows") -> Figure:
    """The figure for a page without JavaScript: the first text's matrix before and after."""
    colours = LinearSegmentedColormap.from_list("cosine", ENDS)
    figure, axes = plt.subplots(1, 2, figsize=(7.0, 3.6))
    for ax, each in zip(axes, ("none", kind), strict=True):
        end = len(explored.payload["names"]) + 0.5  # classes count from 1
        picture = ax.imshow(
            matrix(explored.payload, 0, each), cmap=colours, vmin=-1, vmax=1, extent=(0.5, end, end, 0.5)
        )
        ax.set(title=anchors.METHODS[each], xlabel="class", ylabel="class" if ax is axes[0] else "")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(False)
    figure.colorbar(picture, ax=axes, label="cosine", shrink=0.8)
    return figure
