"""PxAP: average precision of a score map's pixels against masks with ignored regions (Choe et al., CVPR 2020).

Pixels of the whole data set are pooled, not averaged image by image. Scores are counted in bins with the edges
0, step, ..., 1 - step, 1, 2, 3; cumulated from the top, the bins give precision and recall, and
PxAP = sum of precision_i * (recall_i - recall_(i-1)).
"""

import cv2
import numpy as np

IGNORED = 255


def bin_edges(step: float) -> np.ndarray:
    """Edges 0, step, ..., 1, 2, 3 of the bins; the last two only keep a score of exactly 1 apart."""
    return np.concatenate([np.arange(0, 1, step), [1.0, 2.0, 3.0]])


def to_grid(mask: np.ndarray, grid: int) -> np.ndarray:
    """(grid, grid) uint8 mask, resized by nearest neighbour: 1 object, 0 background, 255 ignored."""
    mask = np.asarray(mask).astype(np.uint8)
    if mask.shape != (grid, grid):
        mask = cv2.resize(mask, (grid, grid), interpolation=cv2.INTER_NEAREST)
    return mask


def with_ignored(objects: list[np.ndarray], ignored: list[np.ndarray]) -> np.ndarray:
    """One mask of an image's object masks and ignore regions (all bool): what an object covers is never ignored."""
    mask = np.any(objects, axis=0).astype(np.uint8)
    if ignored:
        mask[np.any(ignored, axis=0) & (mask == 0)] = IGNORED
    return mask


def histogram(score_map: np.ndarray, mask: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(2, len(edges) - 1) uint32: how many background and object pixels fall into each bin.

    score_map: in [0, 1]; mask: of the same shape, see :func:`to_grid`.
    """
    counted = mask != IGNORED
    scores, positive = score_map[counted], mask[counted] == 1
    bins = len(edges) - 1
    # Evenly spaced below 1: guess the bin, then mend the guess where rounding crossed an edge.
    guess = np.minimum((scores / edges[1]).astype(np.int64), np.searchsorted(edges, 1.0))
    guess -= scores < edges[guess]
    guess += scores >= edges[guess + 1]
    return np.bincount(positive * bins + guess, minlength=2 * bins).reshape(2, bins).astype(np.uint32)


def average_precision(histograms: np.ndarray) -> np.ndarray:
    """PxAP in percent of pooled histograms (..., 2, bins); NaN where no pixel belongs to an object."""
    above = np.asarray(histograms, dtype=np.float64)[..., ::-1].cumsum(axis=-1)
    negative, positive = above[..., 0, :], above[..., 1, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = positive / (positive + negative)
        recall = positive / positive[..., -1:]
    gained = np.diff(recall, axis=-1, prepend=0.0)
    area = np.where(positive + negative > 0, precision * gained, 0.0).sum(axis=-1)
    return 100 * np.where(positive[..., -1] > 0, area, np.nan)
