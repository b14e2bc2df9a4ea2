"""Is one variant better than another? Differences on the same images, with what speaks for them.

Two things can fool a reader of two numbers: which images happen to be in the test split, and which seed
happened to be drawn. So a difference is taken between runs of the same seed and averaged over seeds, its 95 %
interval resamples the images (:mod:`tedloc.metrics.uncertainty`), and it counts only when the interval leaves out
zero *and* every seed has the same sign.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tedloc.book import report
from tedloc.book.report import Verdict, number, verdict
from tedloc.data import ImageSet
from tedloc.errors import UserError
from tedloc.metrics import baselines, uncertainty
from tedloc.metrics.meter import LocalizationMeter
from tedloc.runs.run import Run
from tedloc.settings import Profile

Meters = Sequence[LocalizationMeter]  # of one variant, one a seed; a method without seeds has one
HALF = "MaxBoxAcc@0.5"
SAMPLES = 1000  # bootstrap resamples


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

    @property
    def brief(self) -> str:
        """As in a narrow table: ``+2.1 (+0.5 to +3.6)``."""
        return f"{_signed(self.mean)} ({_signed(self.low)} to {_signed(self.high)})"

    @property
    def by_seed(self) -> str:
        """``+2.0, +2.1, +2.2``."""
        return ", ".join(map(_signed, self.seeds))

    def __str__(self) -> str:
        text = f"{_signed(self.mean)} points, 95 % interval {_signed(self.low)} to {_signed(self.high)}"
        return text + (f"; by seed {self.by_seed}" if len(self.seeds) > 1 else "")


def _signed(value: float) -> str:
    return number(value, 1, signed=True)


def meters(runs: Sequence[Run], route: str | None = None, split: str = "test") -> list[LocalizationMeter]:
    """The runs' per-image results by one route (default: the headline's)."""
    return [_meter(run.folder, route or run.routes[0], split) for run in runs]


@lru_cache(maxsize=128)
def _meter(folder: Path, route: str, split: str) -> LocalizationMeter:
    return Run(folder).meter(route, split)


def by_image(meter: LocalizationMeter, ids: Sequence[str]) -> pd.DataFrame:
    """``meter.per_image()`` of these images, one line each, in their order."""
    return meter.per_image().set_index("id").loc[list(ids)]


def box_meter(size: tuple[float, float], images: ImageSet, grid: int = 224) -> LocalizationMeter:
    """One centred box, of a width and height relative to the image's, predicted for every image."""
    meter = LocalizationMeter(grid=grid)
    predicted = np.tile(baselines.on_grid(size, grid), (len(images), 1))
    meter.update_boxes(images.ids, predicted, images.boxes, images.sizes, images.labels)
    return meter


def object_shares(meter: LocalizationMeter) -> np.ndarray:
    """(N,) share of the image that its largest ground-truth box fills; images sorted by id."""
    records = meter.records
    areas = (records.targets[:, 2:] - records.targets[:, :2] + 1).prod(axis=1)
    return np.maximum.reduceat(areas, np.concatenate([[0], records.counts.cumsum()[:-1]])) / meter.grid**2


def values(found: Meters, metric: str, *, val: Meters | None = None, subset: np.ndarray | None = None) -> list[float]:
    """The metric in percent, one value a seed.

    metric: as in ``LocalizationMeter.compute``; "(val threshold)" needs ``val``, the validation meters
    subset: (N,) bool over the images sorted by id: only these are scored, at the threshold chosen on all
    """
    every = np.ones((1, len(found[0])), np.float32) if subset is None else subset[None].astype(np.float32)
    return [float(statistic(every)[0]) for statistic in _statistics(found, metric, val, subset)]


def interval(
    found: Meters,
    metric: str = HALF,
    *,
    val: Meters | None = None,
    subset: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """(low, high): 95 % bootstrap interval of the mean over seeds; see :func:`values`."""
    statistics = _statistics(found, metric, val, subset)
    return _interval(lambda drawn: np.mean([each(drawn) for each in statistics], axis=0), len(found[0]), subset, seed)


def difference(
    ours: Meters,
    theirs: Meters,
    metric: str = HALF,
    *,
    val: tuple[Meters, Meters] | None = None,
    subset: np.ndarray | None = None,
    seed: int = 0,
) -> Difference:
    """``ours - theirs`` on the same images, run by run of the same seed; one run alone is compared with every
    run of the other.

    val, subset: as in :func:`values`. Raises ``UserError`` when images or numbers of seeds do not agree.
    """
    if len({len(ours), len(theirs)} - {1}) > 1:
        raise UserError(f"{len(ours)} runs cannot be paired with {len(theirs)}; compare runs of the same seeds")
    if any(not np.array_equal(ours[0].records.ids, other.records.ids) for other in (*ours, *theirs)):
        raise UserError("a paired difference needs results on the same images; these hold different ones")
    ours_val, theirs_val = val or (None, None)
    first, second = (
        _statistics(ours, metric, ours_val, subset),
        _statistics(theirs, metric, theirs_val, subset),
    )
    count = max(len(first), len(second))
    pairs = list(zip(first * (count // len(first)), second * (count // len(second)), strict=True))

    def gaps(drawn: np.ndarray) -> np.ndarray:
        return np.array([one(drawn) - other(drawn) for one, other in pairs])

    every = np.ones(len(ours[0])) if subset is None else subset
    by_seed = gaps(every[None].astype(np.float32))[:, 0]
    low, high = _interval(lambda drawn: gaps(drawn).mean(axis=0), len(ours[0]), subset, seed)
    return Difference(float(by_seed.mean()), low, high, tuple(by_seed.tolist()))


def _statistics(
    found: Meters, metric: str, val: Meters | None, subset: np.ndarray | None
) -> list[uncertainty.Statistic]:
    val = val or [None] * len(found)
    if subset is None or metric in ("Top-1 CL", "Top-5 CL", "PxAP"):
        return [
            uncertainty.statistic_of(meter, metric, "largest", v, None) for meter, v in zip(found, val, strict=True)
        ]
    name, _, rule = metric.partition(" (")
    thresholds = [(v if rule else meter).best_threshold() for meter, v in zip(found, val, strict=True)]
    return [
        uncertainty.statistic_of(meter, f"{name} (fixed threshold)", "largest", None, threshold)
        for meter, threshold in zip(found, thresholds, strict=True)
    ]


def _interval(
    statistic: uncertainty.Statistic, count: int, subset: np.ndarray | None, seed: int
) -> tuple[float, float]:
    kept = np.arange(count) if subset is None else np.flatnonzero(subset)
    return uncertainty.interval(statistic, kept, count, seed, SAMPLES)


def judge(claim: str, found: Difference, decidable: bool = True, before: str = "") -> Verdict:
    """Whether a difference is positive: holds, does not hold (negative), or cannot be decided here.

    decidable: False where numbers mean nothing (the smoke profile). before: words that open the evidence.
    """
    holds = {1: True, -1: False, 0: None}[found.sign()] if decidable else None
    return verdict(claim, holds, before + str(found))


def judge_order(
    claim: str,
    ranking: Mapping[str, float],
    found: Mapping[str, Meters],
    metric: str = HALF,
    decidable: bool = True,
    before: str = "",
) -> Verdict:
    """Whether results follow a ranking: of every two, the one that ranks higher has the higher metric.

    It holds when every pair's difference counts and agrees, does not hold when one counts and disagrees, and
    cannot be decided otherwise. ranking, found: by the same names; higher is better.
    """
    order = sorted(ranking, key=ranking.get, reverse=True)
    pairs: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for higher, lower in itertools.combinations(order, 2):
        pairs[difference(found[higher], found[lower], metric).sign()].append(f"{higher} / {lower}")
    holds = False if pairs[-1] else None if pairs[0] else True
    evidence = f"{len(pairs[1])} of {sum(map(len, pairs.values()))} pairs clearly in this order"
    for sign, words in ((-1, "clearly reversed"), (0, "too close to call")):
        evidence += f"; {words}: {', '.join(pairs[sign])}" if pairs[sign] else ""
    return verdict(claim, holds if decidable else None, before + evidence)


def judge_best(
    claim: str,
    ours: Meters,
    others: Mapping[str, Meters],
    metric: str = HALF,
    decidable: bool = True,
    before: str = "",
) -> Verdict:
    """Whether one variant is better than each of the others.

    It holds when every difference is clearly positive, does not hold when one is clearly negative, and cannot
    be decided otherwise. The evidence names the closest, or best, of the others.
    """
    gaps = {name: difference(ours, theirs, metric) for name, theirs in others.items()}
    signs = [gap.sign() for gap in gaps.values()]
    holds = True if min(signs) > 0 else False if min(signs) < 0 else None
    closest = min(gaps, key=lambda name: gaps[name].mean)
    evidence = f"compared with {len(gaps)}; the closest or best is {closest}: {gaps[closest]}"
    return verdict(claim, holds if decidable else None, before + evidence)


def caution(profile: Profile) -> str:
    """A word below verdicts of a profile whose numbers mean nothing; empty for any other."""
    return "" if profile.meaningful else "The smoke profile decides nothing."


def checked(profile: Profile, table: str) -> str:
    """The caption of the verdicts on one of the paper's tables."""
    if profile.meaningful:
        return f"Claims of {table}, checked in this profile."
    return "The smoke profile trains for seconds on a few images: it shows that everything runs, and decides nothing."


def measured_on(profile: Profile, runs: Sequence[Run], **more: Any) -> dict[str, Any]:
    """The provenance (``report.measured_on``) of runs of one variant. more: what it says besides, or instead"""
    first = runs[0].metrics["provenance"]
    known = {key: first[key] for key in ("dataset", "split", "num_images", "device", "date", "commit", "synthetic")}
    seeds = [run.metrics["provenance"]["seed"] for run in runs]
    return report.measured_on(**known | {"profile": profile.name, "seeds": seeds} | more)
