"""One look for every figure of the book: white ground, readable type, colours safe for colour-blind readers.

A figure's alternative text stands with its notebook cell: ``# %% mystnb={"image": {"alt": "..."}}``.

Ground truth is drawn dashed in bluish green and predictions solid in vermilion, so that line style tells them
apart where colour does not. Score maps use one perceptually even colour map.
"""

import functools
import io
import sys
import unicodedata
from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

# Okabe and Ito's palette, strongest first; yellow is left out because it fades on white.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#444444")
GROUND_TRUTH = "#00c896"  # bluish green, lightened to show on dark photos
PREDICTION = "#ff5a1f"  # vermilion, likewise
OURS, PAPER = PALETTE[0], PALETTE[1]
NO_LETTERS = ("Last Resort", "cm")  # fonts of placeholders, and of TeX's own order of letters

_STYLE = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "savefig.bbox": "tight",
    "figure.constrained_layout.use": True,
    "figure.figsize": (7.0, 4.0),
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "svg.fonttype": "none",
}


def use_style() -> None:
    """Set the book's style for every figure that follows. The first call of every notebook."""
    sns.set_theme(style="ticks", palette=list(PALETTE), rc=_STYLE)
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        plt.switch_backend(plt.get_backend())  # a notebook's backend, once at work, would set its own formats
        formatters = shell.display_formatter.formatters
        formatters["image/png"].for_type(Figure, lambda figure: None if _has_photos(figure) else picture(figure))
        formatters["image/jpeg"].for_type(Figure, lambda figure: picture(figure) if _has_photos(figure) else None)


def picture(figure: Figure) -> bytes:
    """A figure as a page shows it: JPEG where it holds photos or large matrices, a quarter of the bytes; else PNG."""
    file = io.BytesIO()
    jpeg = {"format": "jpeg", "pil_kwargs": {"quality": 88, "optimize": True}}
    figure.savefig(file, dpi=figure.dpi, **(jpeg if _has_photos(figure) else {"format": "png"}))
    return file.getvalue()


def _has_photos(figure: Figure) -> bool:
    arrays = [image.get_array() for ax in figure.axes for image in ax.images]
    return any(array.ndim == 3 or array.size > 100_000 for array in arrays)


def written(name: str) -> str:
    """A name for a figure, so that it is drawn as it is: a dollar sign begins no formula, accents are composed.

    Letters that the usual font lacks are taken from any installed font that has them. Where none has, their code points
    are drawn in their place, and stderr says so, once a letter.
    """
    name = unicodedata.normalize("NFC", name)
    for letter in name:
        family, known = _family(letter), plt.rcParams["font.sans-serif"]
        if family and family not in known:
            plt.rcParams["font.sans-serif"] = [*known, family]  # asked for what the ones before lack
    return "".join(f"[U+{ord(a):04X}]" if _family(a) == "" else a for a in name).replace("$", r"\$")


@functools.cache
def _family(letter: str) -> str | None:
    """The font that has a letter: None for the usual one, "" if there is none."""
    if letter.isspace() or _has(font_manager.findfont(font_manager.FontProperties()), letter):
        return None
    for font in font_manager.fontManager.ttflist:
        if not font.name.startswith(NO_LETTERS) and "Emoji" not in font.name and _has(font.fname, letter):
            return font.name
    print(
        f"no font here has {letter}, so figures show U+{ord(letter):04X}; install one that has it, as Noto Sans CJK",
        file=sys.stderr,
    )
    return ""


def _has(font: str, letter: str) -> bool:
    return font_manager.get_font(font).get_char_index(ord(letter)) != 0


def _overlay() -> LinearSegmentedColormap:
    """Magma whose low end is transparent: the background of a map leaves the photo as it is."""
    colours = plt.get_cmap("magma")(np.linspace(0.15, 1.0, 256))
    colours[:, 3] = np.clip(np.linspace(0.0, 1.3, 256), 0.0, 0.75)
    return LinearSegmentedColormap.from_list("score_overlay", colours)


OVERLAY = _overlay()


def show_localization(
    ax: Axes,
    image: np.ndarray,
    score_map: np.ndarray | None = None,
    gt_boxes: Iterable[Sequence[float]] = (),
    predicted_box: Sequence[float] | None = None,
    title: str = "",
) -> Axes:
    """One image with its score map laid over it, its ground-truth boxes and the predicted box.

    image: (H, W, 3) uint8 RGB or float in [0, 1].
    score_map: (h, w) in [0, 1], of any size; it is stretched over the image.
    gt_boxes, predicted_box: x0, y0, x1, y1 in pixels of the image, inclusive.
    title: may hold formulas; names go through :func:`written`.
    """
    height, width = image.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    ax.imshow(image, extent=extent, interpolation="nearest")
    if score_map is not None:
        ax.imshow(
            np.asarray(score_map, dtype=float), extent=extent, cmap=OVERLAY, vmin=0, vmax=1, interpolation="bilinear"
        )
    for box in gt_boxes:
        _draw_box(ax, box, GROUND_TRUTH, "--")
    if predicted_box is not None:
        _draw_box(ax, predicted_box, PREDICTION, "-")
    ax.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])
    ax.grid(False)
    sns.despine(ax=ax, left=True, bottom=True)
    if title:
        ax.set_title(title, fontsize=10, fontweight="normal", loc="center")
    return ax


def _draw_box(ax: Axes, box: Sequence[float], colour: str, line: str) -> None:
    x0, y0, x1, y1 = (float(edge) for edge in box)
    corner, size = (x0 - 0.5, y0 - 0.5), (x1 - x0 + 1, y1 - y0 + 1)
    ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor="black", linewidth=3.6, alpha=0.55))
    ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=2.0, linestyle=line))


def grid_of_localizations(
    rows: Sequence[Sequence[dict]],
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    cell: float = 1.7,
) -> Figure:
    """A grid of ``show_localization`` panels: one row an image, one column a method; panel titles go below. All titles
    are drawn as they are (:func:`written`).

    rows: for each row its panels, each the keyword arguments of ``show_localization`` without ``ax``.
    """
    columns = max(map(len, rows))
    with_maps = any("score_map" in panel for panels in rows for panel in panels)
    width = cell * columns + 0.9 * with_maps + 0.5 * bool(row_titles)  # room for the scale and the titles
    figure, axes = plt.subplots(len(rows), columns, figsize=(width, (cell + 0.25) * len(rows) + 0.55), squeeze=False)
    for r, panels in enumerate(rows):
        for c in range(columns):
            if c < len(panels):
                show_localization(axes[r, c], **{**panels[c], "title": ""})
                axes[r, c].set_xlabel(written(panels[c].get("title", "")), fontsize=9.5)
            else:
                axes[r, c].axis("off")
    for ax, title in zip(axes[0], column_titles, strict=False):
        ax.set_title(written(title), fontsize=11, fontweight="bold", loc="center")
    for ax, title in zip(axes[:, 0], row_titles, strict=False):
        ax.set_ylabel(written(title), fontsize=10)
    handles = [
        Rectangle((0, 0), 1, 1, fill=False, edgecolor=GROUND_TRUTH, linewidth=2, linestyle="--"),
        Rectangle((0, 0), 1, 1, fill=False, edgecolor=PREDICTION, linewidth=2),
    ]
    figure.legend(handles, ["ground truth", "prediction"], loc="outside lower center", ncols=2)
    if with_maps:
        scale = ScalarMappable(Normalize(0, 1), OVERLAY)
        figure.colorbar(scale, ax=axes, shrink=min(1.0, 2.0 / len(rows)), pad=0.01, label="score")
    return figure


def rank_plot(
    df: pd.DataFrame, xlabel: str, title: str = "", ax: Axes | None = None, highlight: str = "TeD-Loc"
) -> Axes:
    """Methods ranked by a value, best on top, with intervals.

    df: columns ``method`` and ``value``, and optionally ``low`` and ``high`` (ends of the interval) and
        ``reference`` (a second value to compare with, drawn as a hollow diamond; the paper's, say).
    """
    ax = ax or plt.subplots(figsize=(7.0, 0.42 * len(df) + 1.2))[1]
    df = df.sort_values("value").reset_index(drop=True)
    colours = [OURS if method == highlight else "#777777" for method in df["method"]]
    ax.hlines(df.index, *_guide_ends(df), color="#dddddd", linewidth=1, zorder=1)
    if {"low", "high"} <= set(df.columns):
        ax.hlines(df.index, df["low"], df["high"], color=colours, linewidth=2.5, zorder=2)
    ax.scatter(df["value"], df.index, color=colours, s=60, zorder=3)
    if "reference" in df.columns:
        label = df.attrs.get("reference", "reference")
        hollow = {"facecolor": "white", "edgecolor": PAPER, "linewidth": 1.6, "marker": "D"}
        ax.scatter(df["reference"], df.index, s=45, zorder=4, label=label, **hollow)
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)  # inside, it reads as data
    ax.set(xlabel=xlabel, ylabel="", yticks=df.index, yticklabels=df["method"], title=title)
    for label in ax.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == highlight else "normal")
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    return ax


def _guide_ends(df: pd.DataFrame) -> tuple[float, float]:
    """Ends of the guide lines: a little beyond the smallest and largest number shown."""
    shown = df[[name for name in ("value", "low", "high", "reference") if name in df.columns]]
    low, high = float(np.nanmin(shown.values)), float(np.nanmax(shown.values))
    margin = 0.05 * (high - low or 1.0)
    return low - margin, high + margin
