"""Is one variant better than another? Differences on the same images, with what speaks for them.

A difference is taken image by image between runs of the same seed, and averaged over seeds; its 95 % interval
resamples the images (bootstrap). Two things can fool a reader of two means, which images happen to be in the test
split and which seed happened to be drawn, so a difference counts only when the interval leaves out zero *and*
every seed has the same sign.

Thresholds stay as they were chosen on all images; a subset is scored at the same one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tedloc.data import ImageSet
from tedloc.errors import UserError
from tedloc.report import Verdict, number, verdict
from tedloc.runs import Run
from tedloc.settings import Profile

RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """In percentage points. low, high: 95 % interval over images; seeds: one difference a pair of runs."""

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]

    def sign(self) -> int:
        """1 or -1 when interval and seeds agree on it, else 0."""
        for sign in (1, -1):
            if min(sign * self.low, sign * self.high) > 0 and all(sign * seed > 0 for seed in self.seeds):
                return sign
        return 0

    def __str__(self) -> str:
        text = f"{_signed(self.mean)} points, 95 % interval {_signed(self.low)} to {_signed(self.high)}"
        return text + (f"; by seed {', '.join(map(_signed, self.seeds))}" if len(self.seeds) > 1 else "")


def _signed(value: float) -> str:
    return number(value, 1, signed=True)


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval. values: (R, N), R runs on N images; images are resampled, runs averaged."""
    per_image = np.atleast_2d(np.asarray(values, dtype=float)).mean(0)
    draws = np.random.default_rng(seed).multinomial(len(per_image), np.full(len(per_image), 1 / len(per_image)), RESAMPLES)
    low, high = np.percentile(draws @ per_image / len(per_image), (2.5, 97.5))
    return float(per_image.mean()), float(low), float(high)


def difference(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    """Paired difference of two sets of per-image results in per cent.

    ours, theirs: (R, N) on the same N images in the same order; row i of both has the same seed. One row stands for
    a method without seeds and is compared with every row of the other.
    Raises ``UserError`` when the images or the numbers of seeds do not agree.
    """
    ours, theirs = np.atleast_2d(ours), np.atleast_2d(theirs)
    if ours.shape[1] != theirs.shape[1] or len({len(ours), len(theirs)} - {1}) > 1:
        raise UserError(f"results of shape {ours.shape} and {theirs.shape} cannot be paired; give runs of the same "
                        "seeds on the same images")
    gaps = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    return Difference(*interval(gaps), tuple(gaps.mean(1)))


def judge(claim: str, found: Difference, decidable: bool = True, before: str = "") -> Verdict:
    """Whether a difference is positive: holds, does not hold (negative), or cannot be decided here.

    decidable: False where numbers mean nothing (the smoke profile). before: words that open the evidence.
    """
    holds = {1: True, -1: False, 0: None}[found.sign()] if decidable else None
    return verdict(claim, holds, before + str(found))


def area_shares(images: ImageSet) -> np.ndarray:
    """(N,) share of the image that the ground-truth box fills, the largest where there are several."""
    pixels = np.prod(np.asarray(images.sizes), axis=1)
    areas = [max((box[:, 2] - box[:, 0] + 1) * (box[:, 3] - box[:, 1] + 1)) for box in map(np.atleast_2d, images.boxes)]
    return np.array(areas) / pixels


def provenance(profile: Profile, runs: Sequence[Run]) -> dict:
    """What ``report.measured_on`` wants to know, from runs of one variant."""
    first = runs[0].metrics["provenance"]
    known = {key: first[key] for key in ("dataset", "split", "num_images", "device", "date", "commit", "synthetic")}
    return known | {"profile": profile.name, "seeds": [run.metrics["provenance"]["seed"] for run in runs]}
