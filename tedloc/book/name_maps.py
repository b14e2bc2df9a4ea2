"""Class names as points of the plane: t-SNE of their anchors, before and after orthogonalization (Figure 3).

t-SNE: L. van der Maaten and G. Hinton, "Visualizing Data using t-SNE", 2008; scikit-learn's.
"""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from tedloc import plots

PERPLEXITY, SEED = 30, 0


def perplexity(count: int) -> float:
    """How many neighbours of each of so many points count; few points have fewer."""
    return min(PERPLEXITY, (count - 1) / 3)


def layout(anchors: torch.Tensor, steps: int = 1000) -> np.ndarray:
    """(K, 2) float32 t-SNE of the directions of anchors (K, d); the same every time."""
    tsne = TSNE(perplexity=perplexity(len(anchors)), init="pca", metric="cosine", random_state=SEED, max_iter=steps)
    return tsne.fit_transform(torch.nn.functional.normalize(anchors.double(), dim=1).numpy())


def draw(
    panels: Mapping[str, torch.Tensor],
    pairs: Sequence[tuple[int, int]],
    names: Sequence[str],
    places: np.ndarray,
    groups: Sequence[str] | None = None,
    steps: int = 1000,
) -> Figure:
    """One layout of the K names a panel, with numbered lines that join pairs of names.

    panels: title -> anchors (K, d); places: (K,) of the names in a list, for their colour; groups: (K,) instead, marker
    and colour by group; steps: of t-SNE
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(5.0 * len(panels) + 0.8, 5.2), squeeze=False)
    for ax, (title, anchors) in zip(axes[0], panels.items(), strict=True):
        place = layout(anchors, steps)
        if groups is None:
            dots = ax.scatter(*place.T, c=places, cmap="viridis", s=16, linewidth=0)
        else:
            for name, marker, colour in zip(dict.fromkeys(groups), "osD^vP*", plots.PALETTE):
                ax.scatter(*place[np.array(groups) == name].T, marker=marker, s=60, color=colour, label=name)
        for number, (a, b) in enumerate(pairs, start=1):
            ax.plot(*place[[a, b]].T, color="#444444", linewidth=1.2, zorder=3)
            ax.scatter(*place[[a, b]].T, s=90, facecolor="none", edgecolor="#444444", linewidth=1.2, zorder=4)
            ax.annotate(str(number), place[a], (6, 5), textcoords="offset points", fontsize=11, weight="bold")
        ax.set(title=title, xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)", xticks=[], yticks=[])
        ax.grid(False)
    if groups is None:
        figure.colorbar(dots, ax=axes, label="place in the list", shrink=0.8)
    else:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    how = f"(cosine distance, perplexity {perplexity(len(names)):.0f}, PCA start, seed {SEED})"
    figure.suptitle(f"t-SNE of {len(names)} class names {how}", fontweight="bold")
    key = [f"{n}: {names[a]} – {names[b]}".replace(" ", "\N{NO-BREAK SPACE}") for n, (a, b) in enumerate(pairs, 1)]
    figure.supxlabel(textwrap.fill("   ".join(key), 62 * len(panels)), fontsize=10)
    return figure
