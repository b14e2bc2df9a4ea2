"""How good pseudo-labels are, measured against masks or boxes that training never sees.

A sampled foreground pixel is right inside the object, a sampled background pixel outside it. Sampling is
uniform within a pool, so the expected share of right samples is the pool's own: no draw is needed. Precision
alone would favour pools that know one part of the object, so the share of the object that the pool reaches
stands beside it.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch

from tedloc.data import ImageSet
from tedloc.errors import UserError
from tedloc.metrics.meter import LocalizationMeter
from tedloc.sampler import pools, to_grid
from tedloc.settings import EvaluationSettings, SamplerSettings
from tedloc.training.distributed import Draws

BATCH = 500
NAMED = {  # what tables call the parts of ``SampleQuality.percent``
    "both": "right samples",
    "foreground": "foreground right",
    "background": "background right",
    "coverage": "object reached",
}


class SampleQuality(NamedTuple):
    """Per image, each (N,) in [0, 1]; NaN where it is undefined.

    foreground: share of the foreground samples that lie inside the object
    background: share of the background samples that lie outside
    coverage:   share of the object's pixels that the foreground pool holds, so that they can be sampled
    A flat CAM has no pools: all three are NaN. ``coverage`` is NaN for an object that fills no pixel.
    """

    foreground: np.ndarray
    background: np.ndarray
    coverage: np.ndarray

    def percent(self) -> dict[str, float]:
        """Means over images in percent; ``both``: of all samples, which are half of each kind."""
        means = {
            name: float(np.nanmean(part)) * 100 if np.isfinite(part).any() else float("nan")
            for name, part in self._asdict().items()
        }
        return {"both": (means["foreground"] + means["background"]) / 2, **means}


def object_truth(images: ImageSet, size: tuple[int, int], index: np.ndarray | None = None) -> np.ndarray:
    """(N, H, W) bool on the decoder's grid: pixels of which the object covers at least half.

    The object is the mask, or the union of the boxes where the data set has no masks.
    Raises ``UserError`` for an image with neither.
    """
    index = np.arange(len(images)) if index is None else index
    truth = np.empty((len(index), *size), bool)
    for row, i in enumerate(index):
        mask = images.mask(i)
        if mask is None:
            if len(images.boxes[i]) == 0:
                raise UserError(
                    f"{images.name}, split {images.split!r}: image {images.ids[i]} has neither mask nor box, "
                    "so its pseudo-labels cannot be judged; use a split that has boxes"
                )
            mask = box_mask(images.boxes[i], images.sizes[i])
        share = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
        truth[row] = share >= 0.5
    return truth


def box_mask(boxes: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(height, width) bool: the union of inclusive boxes (n, 4); ``size`` is width, height."""
    mask = np.zeros((int(size[1]), int(size[0])), bool)
    for x0, y0, x1, y1 in np.asarray(boxes, np.int64):
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def sample_quality(cams: np.ndarray, truth: np.ndarray, settings: SamplerSettings) -> SampleQuality:
    """Quality of what the sampler draws from CAMs (N, h, w) uint8, against truth (N, H, W) bool. Ties at the edges of
    the pools fall once, under a fixed seed."""
    parts, ties = [], torch.Generator().manual_seed(0)
    for start in range(0, len(cams), BATCH):
        part = slice(start, start + BATCH)
        cam = torch.from_numpy(np.ascontiguousarray(cams[part])).float() / 255
        inside = torch.from_numpy(truth[part]).flatten(1)
        foreground, background = pools(to_grid(cam, truth.shape[1:]), settings, Draws(ties, len(cam)))
        parts.append(
            (
                _share(inside, foreground),
                _share(~inside, background),
                torch.where(foreground.any(1), _share(foreground, inside), torch.nan),
            )
        )
    return SampleQuality(*(torch.cat(column).numpy() for column in zip(*parts, strict=True)))


def _share(wanted: torch.Tensor, pool: torch.Tensor) -> torch.Tensor:
    """(B,) share of a pool's (B, P) pixels that are wanted (B, P); NaN for an empty pool."""
    return (wanted & pool).sum(1) / pool.sum(1)


def localize(cams: np.ndarray, images: ImageSet, settings: EvaluationSettings) -> LocalizationMeter:
    """The meter of CAMs (N, h, w) uint8 used as score maps of the true class on a split that has boxes."""
    meter = LocalizationMeter(grid=settings.grid, step=settings.step)
    for start in range(0, len(cams), settings.batch_size):
        index = np.arange(start, min(start + settings.batch_size, len(cams)))
        meter.update(
            [images.ids[i] for i in index],
            cams[index].astype(np.float32) / 255,
            [images.boxes[i] for i in index],
            images.sizes[index],
        )
    return meter


def summary(
    cams: np.ndarray,
    images: ImageSet,
    truth: np.ndarray,
    settings: SamplerSettings,
    evaluation: EvaluationSettings,
) -> dict[str, float]:
    """How good CAMs (N, h, w) uint8 are, in percent, by the words of the chapter's tables: as the sampler uses them,
    against truth (N, H, W) bool, and as localization maps of these images."""
    scores = sample_quality(cams, truth, settings)
    return {NAMED[key]: value for key, value in scores.percent().items()} | {
        "images without pools": 100 * float(np.isnan(scores.foreground).mean()),
        "MaxBoxAcc of the CAM": localize(cams, images, evaluation).compute()["MaxBoxAcc@0.5"],
    }
