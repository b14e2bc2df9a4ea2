"""A look at a data set before a run: what is in it, what chance would score, which photos are broken or there twice.

Every photo is decoded once (JPEG at an eighth of its size), in threads: 50,000 of two megapixels take a few minutes.
Two photos are near-duplicates when at most ``NEAR`` of the 63 bits of their perceptual hashes differ: the signs, about
their median, of the 8 x 8 lowest frequencies of a 32 x 32 grey copy, less the mean. Copies that were shrunk, compressed
or brightened are found, and most that lost a few percent at their edges; different photos are hardly ever taken for
one.
"""

import hashlib
import io
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from tqdm.auto import tqdm

from tedloc import paths, plots
from tedloc.data import SPLITS, ImageSet
from tedloc.data.files import FileImages
from tedloc.errors import UserError
from tedloc.metrics import baselines

NEAR = 8
FLAT = 2.0  # standard deviation, of 255 levels, below which a photo shows nothing to compare
LISTED = 20  # classes, photos or pairs that the text names
COLUMNS, ROWS = 8, 5  # of the contact sheet
THUMBNAIL, TITLE = 240, 26  # pixels, letters


class Looked(NamedTuple):
    """One photo. content: sha256; hash: 64 bits, 0 for a flat photo; error: why it cannot be read, or ""."""

    content: str
    hash: int
    error: str = ""


def look(images: ImageSet, index: int) -> Looked:
    """Decode one photo."""
    try:
        if not isinstance(images, FileImages):
            pixels = images.image(index)
            return Looked(hashlib.sha256(pixels.tobytes()).hexdigest(), perceptual_hash(pixels))
        content = (images.folder / images.ids[index]).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        with Image.open(io.BytesIO(content)) as image:
            if image.format != "JPEG":
                return Looked(digest, perceptual_hash(images.image(index)))
            image.draft("L", (32, 32))
            return Looked(digest, perceptual_hash(np.asarray(image.convert("L"))))
    except (UserError, OSError, SyntaxError, ValueError) as error:
        return Looked("", 0, str(error))


def perceptual_hash(pixels: np.ndarray) -> int:
    """63 bits of a photo (H, W, 3) or (H, W) uint8; 0 for a flat one."""
    grey = Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.BOX)
    values = np.asarray(grey, np.float32)
    if values.std() < FLAT:
        return 0
    low = cv2.dct(values)[:8, :8].ravel()[1:]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def near(hashes: np.ndarray, groups: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of positions, of different groups, whose hashes (N,) uint64 are near-duplicates."""
    pairs = []
    for first in np.flatnonzero(hashes[:-1]):
        rest = slice(first + 1, None)
        close = (np.bitwise_count(hashes[first] ^ hashes[rest]) <= NEAR) & (groups[rest] != groups[first])
        pairs += [(int(first), int(first + 1 + other)) for other in np.flatnonzero(close & (hashes[rest] > 0))]
    return pairs


def describe(splits: dict[str, ImageSet]) -> dict[str, Any]:
    """All that is told of a data set, ready for JSON. splits: its image sets by name."""
    first = splits["train"]
    names = [(split, i) for split, images in splits.items() for i in range(len(images))]
    bar = tqdm(total=len(names), desc="reading photos", unit="photo", leave=False)
    with ThreadPoolExecutor(os.cpu_count()) as pool, bar:
        found = []
        for one in pool.map(lambda name: look(splits[name[0]], name[1]), names):
            found.append(one)
            bar.update()

    def photo(place: int) -> str:
        split, i = names[place]
        return f"{split}: {splits[split].ids[i]}"

    same: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(found):
        if one.content:
            same[one.content].append(place)
    groups = np.array([SPLITS.index(split) for split, _ in names])
    pairs = near(np.array([one.hash for one in found], np.uint64), groups)
    identical = [places for places in same.values() if len(places) > 1]
    return {
        "name": first.name,
        "notes": list(getattr(first, "notes", ())),
        "classes": {
            name: {split: int((images.labels == label).sum()) for split, images in splits.items()}
            for label, name in enumerate(first.class_names)
        },
        "splits": {split: _split(images) for split, images in splits.items()},
        "trivial boxes": _trivial(splits),
        "unreadable": {photo(place): one.error for place, one in enumerate(found) if one.error},
        "identical": [[photo(place) for place in places] for places in identical],
        "near-duplicates across splits": [
            [photo(a), photo(b)] for a, b in pairs if found[a].content != found[b].content
        ],
    }


def _split(images: ImageSet) -> dict[str, Any]:
    """Counts, sizes and boxes of a split."""
    counts = np.array([len(boxes) for boxes in images.boxes])
    known = (images.sizes > 0).all(axis=1)
    shares = [
        float((boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1).max() / size.prod())
        for boxes, size, there in zip(images.boxes, images.sizes, known)
        if len(boxes) and there
    ]
    tell = {
        "photos": len(images),
        "photos with boxes": int((counts > 0).sum()),
        "boxes": int(counts.sum()),
        "photos with several boxes": int((counts > 1).sum()),
    }
    if known.any():
        tell["width and height"] = {
            name: [int(value) for value in np.quantile(images.sizes[known], q, axis=0)]
            for name, q in (("smallest", 0), ("median", 0.5), ("largest", 1))
        }
    if shares:
        tell["share of the photo that its largest box fills"] = {
            name: round(float(np.quantile(shares, q)), 3) for name, q in (("10 %", 0.1), ("median", 0.5), ("90 %", 0.9))
        }
    return tell


def _trivial(splits: dict[str, ImageSet]) -> dict[str, dict[str, float]]:
    """MaxBoxAcc and mean IoU on test of boxes that look at no photo; empty where test has no boxes."""
    if not splits["test"].boxed:
        return {}
    scores = baselines.baselines(splits["test"], splits["val"] if splits["val"].boxed else None)
    kept = ("MaxBoxAcc@0.5", "MaxBoxAccV2", "mean IoU", "width", "height")
    return {name: {key: each[key] for key in kept if key in each} for name, each in scores.items()}


def table(story: dict[str, Any]) -> pd.DataFrame:
    """Photos, boxes and sizes, one row a split, as text."""
    rows = {}
    for split, each in story["splits"].items():
        sizes = each.get("width and height", {})
        share = each.get("share of the photo that its largest box fills", {})
        rows[split] = {
            "photos": f"{each['photos']:,}",
            "with boxes": f"{each['photos with boxes']:,}",
            "boxes": f"{each['boxes']:,}",
            "median size": " x ".join(map(str, sizes["median"])) if sizes else "-",
            "from": " x ".join(map(str, sizes["smallest"])) if sizes else "-",
            "to": " x ".join(map(str, sizes["largest"])) if sizes else "-",
            "box fills (median)": f"{100 * share['median']:.0f} %" if share else "-",
            "10 to 90 %": f"{100 * share['10 %']:.0f} to {100 * share['90 %']:.0f} %" if share else "-",
        }
    return pd.DataFrame(rows).T


def text(story: dict[str, Any]) -> str:
    """The story as a page of text."""
    parts = [f"data set {story['name']}, {len(story['classes'])} classes", *story["notes"]]
    classes = pd.DataFrame(story["classes"]).T
    if len(classes) > LISTED:
        smallest = classes.sort_values("train").head(LISTED // 4)
        parts.append(f"photos a class, the {len(smallest)} smallest:\n{smallest.to_string()}")
        classes = classes.describe().loc[["min", "50%", "max"]].rename({"50%": "median"})
    parts.append(f"photos a class:\n{classes.to_string(float_format='{:.0f}'.format)}")
    parts.append(table(story).to_string())
    if story["trivial boxes"]:
        scores = pd.DataFrame(story["trivial boxes"]).T.drop(columns=["width", "height"], errors="ignore")
        centred = story["trivial boxes"].get("centred box")
        size = f" (the centred box: {centred['width']:.0%} x {centred['height']:.0%})" if centred else ""
        parts.append(f"boxes that look at no photo, on test{size}:\n{scores.to_string(float_format='{:.1f}'.format)}")
    else:
        parts.append("no boxes in test: nothing to score a box by")
    for title, items in (
        ("photos that cannot be read", [f"{name} ({why})" for name, why in story["unreadable"].items()]),
        ("identical photos", [" = ".join(group) for group in story["identical"]]),
        ("near-duplicates in two splits", [" ~ ".join(pair) for pair in story["near-duplicates across splits"]]),
    ):
        shown = "".join(f"\n  {item}" for item in items[:LISTED])
        parts.append(f"{title}: {len(items) or 'none'}{shown}" + ("\n  ..." if len(items) > LISTED else ""))
    return "\n\n".join(parts)


def contact_sheet(splits: dict[str, ImageSet], file: Path | None = None) -> None:
    """Draw photos with their boxes, evenly spaced through test, val and train; if there are none, photos.

    file: where to; None draws on pyplot's figure, for a notebook
    """
    boxed = any(images.boxed for images in splits.values())
    places = [
        (split, i)
        for split in reversed(SPLITS)
        for i in np.argsort(splits[split].labels, kind="stable")
        if len(splits[split].boxes[i]) or not boxed
    ]
    picked = np.unique(np.linspace(0, len(places) - 1, min(COLUMNS * ROWS, len(places))).round().astype(int))
    rows = -(-len(picked) // COLUMNS)
    shape = {"figsize": (1.75 * COLUMNS, 2.1 * rows), "dpi": 110, "layout": "constrained", "facecolor": "white"}
    figure = Figure(**shape) if file else plt.figure(**shape)
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for ax in axes[len(picked) :]:
        ax.axis("off")
    for ax, place in zip(axes, picked):
        split, i = places[place]
        images = splits[split]
        try:
            photo = Image.fromarray(images.image(i))
        except UserError:
            ax.axis("off")
            continue
        scale = min(1.0, THUMBNAIL / max(photo.size))
        small = photo.resize([max(1, round(side * scale)) for side in photo.size])
        lines = images.class_names[images.labels[i]], f"{split}: {images.ids[i].rpartition('/')[2]}"
        title = "\n".join(plots.written(line if len(line) <= TITLE else f"{line[: TITLE - 1]}…") for line in lines)
        plots.show_localization(ax, np.asarray(small), gt_boxes=images.boxes[i] * scale, title=title)
        ax.title.set_fontsize(7)
    if file:
        with paths.replacing(file) as scratch:
            figure.savefig(scratch)
