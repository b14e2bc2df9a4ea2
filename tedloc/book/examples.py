"""Examples that chapters show: images chosen by rule, and those by which the chapter on scoring explains the measure,
maps that are made up, two ways to search a threshold, a perfect mask.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from tedloc.data import ImageSet
from tedloc.metrics import boxes
from tedloc.metrics.meter import LocalizationMeter


def by_rank(values: Sequence[float], count: int) -> np.ndarray:
    """(min(count, N),) positions of ``count`` of N values at even ranks, from the highest to the lowest; equal values
    keep their order. Of the IoUs of a method's images: from its best image to its worst."""
    order = np.argsort(-np.asarray(values), kind="stable")
    return order[evenly(len(order), count)]


def median(values: Sequence[float]) -> int:
    """The position of the median of the values that are finite, the higher of two."""
    values = np.asarray(values)
    usable = np.flatnonzero(np.isfinite(values))
    return int(usable[np.argsort(values[usable], kind="stable")[len(usable) // 2]])


def evenly(length: int, count: int) -> np.ndarray:
    """(min(count, length),) positions in a list of that length, evenly spaced from the first to the last."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(int)


def flawed_map(images: ImageSet, index: int) -> np.ndarray:
    """(40, 40) float32: a map of an aviary image with the flaws that learned maps have. It likes the crown best, and it
    is blurred and noisy; the same for the same index."""
    rng = np.random.default_rng([7, index])
    bird = cv2.GaussianBlur(images.mask(index).astype(np.float32), (0, 0), rng.uniform(2, 6))
    crown = cv2.GaussianBlur(images.part(index, "crown").astype(np.float32), (0, 0), 3)
    noise = cv2.resize(rng.random((8, 8), np.float32), (80, 80), interpolation=cv2.INTER_CUBIC)
    total = rng.uniform(0.3, 1) * bird + rng.uniform(0.5, 2) * crown + rng.uniform(0.1, 0.5) * noise
    return cv2.resize(total, (40, 40), interpolation=cv2.INTER_AREA)


def two_searches(meter: LocalizationMeter, step: float) -> tuple[float, float]:
    """Boxes (%) that are right at IoU 0.5 with the best threshold for all images, and with the best for each image: the
    second is no measure, since it asks every image's own ground truth. step: between the thresholds tried"""
    correct = meter.records.correct("largest", meter.ious.index(0.5), np.arange(0, 1, step))
    return 100 * correct.mean(axis=0).max(), 100 * correct.any(axis=1).mean()


def perfect_square(side: int, grid: int = 224, corner: int = 5) -> float:
    """The IoU that the protocol gives to the exact mask of a square object of so many pixels a side."""
    mask = np.zeros((grid, grid), np.uint8)
    mask[corner : corner + side, corner : corner + side] = 1
    truth = np.array([corner, corner, corner + side - 1, corner + side - 1])
    return float(boxes.iou(np.array(boxes.largest_box(mask, 0)), truth))
