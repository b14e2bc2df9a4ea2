"""Baselines that look at no pixel: what a metric gives away for free. Results stand beside them, always.

- the full-image box
- one centred box of fixed size, relative to the image; the size is the best one on the validation split
- a centred Gaussian as every image's score map

Boxes follow the same convention as boxes drawn around maps: on the grid, right and bottom one pixel outside, cut at
the edge. The full-image box on a grid of 224 is (0, 0, 223, 223).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tedloc.metrics import boxes as mapping
from tedloc.metrics.meter import LocalizationMeter

FULL_IMAGE = (1.0, 1.0)  # width and height of a centred box, as shares of the image's


def centre_box(
    boxes: Sequence[np.ndarray], sizes: np.ndarray, grid: int = 224, iou: float = 0.5, steps: int = 50
) -> tuple[float, float]:
    """Width and height, as shares of the image's, of the centred box that is correct for most images.

    boxes: for each validation image (n, 4) in original pixels; sizes: (N, 2) width, height. All multiples of
    1 / ``steps`` are tried; of equally good sizes, the one with the highest mean IoU is taken.
    """
    counts = np.array([len(box) for box in boxes])
    targets = mapping.scale_boxes(np.concatenate(boxes), np.repeat(sizes, counts, axis=0), grid)
    starts = np.concatenate([[0], counts.cumsum()[:-1]])
    shares = np.arange(1, steps + 1) / steps
    sides = np.array([on_grid((share, share), grid) for share in shares])  # a box's width does not ask for its height
    across, down = (_shared(sides[:, [k, k + 2]], targets[:, [k, k + 2]]) for k in (0, 1))
    length, area = sides[:, 2] - sides[:, 0] + 1, (targets[:, 2:] - targets[:, :2] + 1).prod(axis=1)
    best, chosen = (-1.0, -1.0), FULL_IMAGE
    for i, width in enumerate(shares):
        for j, height in enumerate(shares):
            both = across[i] * down[j]
            found = np.maximum.reduceat(both / (length[i] * length[j] + area - both), starts)
            value = float((found >= iou).mean()), float(found.mean())
            if value > best:
                best, chosen = value, (float(width), float(height))
    return chosen


def _shared(spans: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n, m): how many pixels each of n spans (first, last) has in common with each of m others."""
    low, high = np.maximum(spans[:, None, 0], others[:, 0]), np.minimum(spans[:, None, 1], others[:, 1])
    return np.maximum(high - low + 1, 0)


def on_grid(size: tuple[float, float], grid: int = 224) -> np.ndarray:
    """(4,) int64: the centred box of a relative size on the grid."""
    return mapping.shares_on_grid(np.concatenate([(1 - np.asarray(size)) / 2, (1 + np.asarray(size)) / 2]), grid)


def place(size: tuple[float, float], sizes: np.ndarray) -> np.ndarray:
    """(N, 4) float64: the centred box of a relative size in pixels of each image; sizes (N, 2) width, height."""
    sizes = np.asarray(sizes, np.float64)
    return np.concatenate([(1 - np.asarray(size)) / 2 * sizes, (1 + np.asarray(size)) / 2 * sizes], axis=1)


def gaussian_map(grid: int = 224, spread: float = 0.25) -> np.ndarray:
    """(grid, grid) float64 centred Gaussian whose standard deviation is ``spread`` of the side; stretched to [0, 1].

    Its level sets are centred discs in the square that every image is stretched to, so ``spread`` matters only
    to a fixed threshold.
    """
    offset = (np.arange(grid) - (grid - 1) / 2) / (spread * grid)
    return mapping.to_grid(np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / 2), grid)


def score(predicted: np.ndarray, images: Any, grid: int = 224, scores: np.ndarray | None = None) -> dict[str, float]:
    """Metrics of one predicted box (N, 4) for each image, in its pixels, as far as they apply without a threshold.

    images: anything with ids, labels, boxes and sizes (an image set, a benchmark split); scores: (N, K) for Top-k Loc.
    """
    return meter_of_boxes(predicted, images, grid, scores).compute()


def meter_of_boxes(
    predicted: np.ndarray, images: Any, grid: int = 224, scores: np.ndarray | None = None
) -> LocalizationMeter:
    """Meter of one predicted box for each image; arguments as in :func:`score`. A box's right and lower edges count."""
    scaled = np.asarray(predicted, np.float64) * grid / np.tile(np.asarray(images.sizes, np.float64), 2)
    scaled = np.clip(scaled.round(6).astype(np.int64), 0, grid - 1)
    return _meter(scaled, images, scores, LocalizationMeter(grid=grid))


def gaussian_meter(
    images: Any,
    grid: int = 224,
    step: float = 0.001,
    scores: np.ndarray | None = None,
) -> LocalizationMeter:
    """Meter of the centred Gaussian as the map of every image. The map is boxed once; only ground truths differ."""
    levels = mapping.to_bytes(gaussian_map(grid))
    largest, _ = mapping.boxes_by_level(levels, np.zeros((0, 4), np.int64))  # its only contour at every level
    every = np.broadcast_to(largest, (len(images.ids), *largest.shape))
    return _meter(every, images, scores, LocalizationMeter(grid=grid, step=step), top=int(levels.max()))


def _meter(predicted, images, scores, meter, top=0) -> LocalizationMeter:
    for start in range(0, len(images.ids), 1000):  # keeps the working memory small
        part = slice(start, start + 1000)
        meter.update_boxes(
            images.ids[part],
            predicted[part],
            images.boxes[part],
            images.sizes[part],
            images.labels[part],
            None if scores is None else scores[part],
            top=top,
        )
    return meter


def baselines(
    images: Any, val: Any = None, grid: int = 224, step: float = 0.001, scores: np.ndarray | None = None
) -> dict[str, dict[str, float]]:
    """Metrics of all three baselines on a split; the centred box needs a validation split, the others do not.

    images, val, scores: see :func:`score`.
    """
    result = {"full-image box": score(place(FULL_IMAGE, images.sizes), images, grid, scores)}
    carried = None
    if val is not None:
        size = centre_box(val.boxes, val.sizes, grid)
        result["centred box"] = score(place(size, images.sizes), images, grid, scores)
        result["centred box"] |= {"width": size[0], "height": size[1]}
        carried = gaussian_meter(val, grid, step)
    result["centred Gaussian"] = gaussian_meter(images, grid, step, scores).compute(val=carried)
    return result
