"""The rule by which the book decides: is one variant better than another, in worlds that nobody has looked at?

A *world* is one drawing of everything that chance decides: images to train, validate and test on, the towers that are
trained on others, and the initialisation. Both variants are run in the same worlds. Then

    difference   ours minus theirs in each world, on its test images, and the mean over worlds
    interval     at each end the outer one of two: Student's t over the worlds' differences, and a hierarchical
                 bootstrap that draws worlds anew and, in each that was drawn, its images
    p            the larger p value of the two, so that p < 5 % exactly when both 95 % intervals leave out zero
    claims       those of one chapter are corrected together by Holm (1979); a claim over several differences ("better
                 than each of the others") holds when all are positive, and fails when one is negative even after
                 Bonferroni over them

Neither interval will do alone. The bootstrap over a handful of worlds is too narrow where worlds differ much: it draws
from W of them and divides by W where W - 1 would be right, and trusts the normal tails. The t interval is exact for
normal differences, but from a few worlds that agree by chance it can be far too narrow; there the images, which the
bootstrap draws, still have their say. ``tests/metrics/test_verdicts.py`` simulates the rule with known truth,
``benchmarks/verdict_rule.py`` prints its error rates.

From one world nothing follows about others: there is an interval over its images, and no verdict.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tedloc.errors import UserError
from tedloc.metrics import uncertainty
from tedloc.metrics.meter import LocalizationMeter
from tedloc.metrics.uncertainty import Statistic

Side = Mapping[int, LocalizationMeter]  # one variant's results: world -> its meter
HALF = "MaxBoxAcc@0.5"
LEVEL = 0.05  # of a chapter's false verdicts
IMAGE_SAMPLES = 1000  # resamples of a world's images
WORLD_SAMPLES = 10_000  # resamples of worlds, each with images from those
MOST_FREEDOM = 60  # degrees of freedom; from there on Student's t is the normal distribution but for 2 %


@dataclass(frozen=True)
class Difference:
    """In percentage points. low, high: 95 % interval; p: two-sided, NaN with one world; worlds: world -> difference."""

    mean: float
    low: float
    high: float
    p: float
    worlds: Mapping[int, float]


def difference(
    ours: Side,
    theirs: Side,
    metric: str = HALF,
    *,
    val: tuple[Side, Side] | None = None,
    subset: Mapping[int, np.ndarray] | None = None,
) -> Difference:
    """``ours - theirs`` in the same worlds and, in each, on the same images.

    metric: as in ``LocalizationMeter.compute``; "(val threshold)" needs ``val``, both sides' validation results
    subset: world -> (N,) bool over the images sorted by id: only these are scored, at the threshold chosen on all

    Worlds that share their test images (photos, of which there is one set) are known by them: then the bootstrap draws
    the images once for all worlds. Raises ``UserError`` when worlds or images do not agree.
    """
    sides = (ours, theirs, *(val or ()))
    if any(set(side) != set(ours) for side in sides):
        listed = " and ".join(", ".join(map(str, sorted(side))) or "none" for side in sides[:2])
        raise UserError(
            f"a difference needs the same worlds on both sides, not {listed}; compute those that are missing"
        )
    for world in ours:
        if ours[world].images != theirs[world].images:
            raise UserError(
                f"a difference needs results on the same images; in world {world} these hold different ones"
            )
    one, other = (
        _in_worlds(side, metric, chosen, subset)
        for side, chosen in zip((ours, theirs), val or (None, None), strict=True)
    )
    points, drawn = (mine - his for mine, his in zip(one, other, strict=True))
    return Difference(*judged(points, drawn, _shared(ours)), dict(zip(sorted(ours), points.tolist(), strict=True)))


def mean(
    side: Side, metric: str = HALF, *, val: Side | None = None, subset: Mapping[int, np.ndarray] | None = None
) -> Difference:
    """One variant's metric in percent, as if the other side were zero; arguments as in :func:`difference`."""
    points, drawn = _in_worlds(side, metric, val, subset)
    return Difference(*judged(points, drawn, _shared(side)), dict(zip(sorted(side), points.tolist(), strict=True)))


def _shared(side: Side) -> bool:
    return len(side) > 1 and len({meter.images for meter in side.values()}) == 1


def _in_worlds(
    side: Side, metric: str, val: Side | None, subset: Mapping[int, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """(W,) the metric in each world, in their order, and (W, IMAGE_SAMPLES) the same over resampled images."""
    if not side:
        raise UserError("no world was computed; a verdict needs results of at least one")
    points, drawn, shared = [], [], _shared(side)
    for world in sorted(side):
        kept = None if subset is None else np.asarray(subset[world], bool)
        if kept is not None and not kept.any():
            raise UserError(f"no image of world {world} is in the subset; leave that comparison out")
        found = statistic(side[world], metric, val and val[world], kept)
        count = len(side[world])
        every = np.ones((1, count), np.float32) if kept is None else kept[None].astype(np.float32)
        points.append(found(every)[0])
        drawn.append(found(_of_subset(image_counts(count, 0 if shared else world), kept)))
    return np.array(points, float), np.array(drawn, float)


def statistic(
    meter: LocalizationMeter, metric: str, val: LocalizationMeter | None = None, kept: np.ndarray | None = None
) -> Statistic:
    """The metric as a function of how often each image counts. kept: as ``subset`` of :func:`difference`."""
    if kept is None or metric in ("Top-1 CL", "Top-5 CL", "PxAP"):
        return uncertainty.statistic_of(meter, metric, "largest", val, None)
    name, _, rule = metric.partition(" (")
    threshold = (val if rule else meter).best_threshold()
    return uncertainty.statistic_of(meter, f"{name} (fixed threshold)", "largest", None, threshold)


@lru_cache(maxsize=64)
def image_counts(images: int, seed: int) -> np.ndarray:
    """(IMAGE_SAMPLES, N) how often each image is drawn; the same for all variants of a world."""
    return np.concatenate(list(uncertainty.resamples(images, seed, IMAGE_SAMPLES)))


def _of_subset(counts: np.ndarray, kept: np.ndarray | None) -> np.ndarray:
    """The counts of the kept images alone; a resample that drew none of them takes each once."""
    if kept is None:
        return counts
    counts = counts * kept
    counts[~counts.any(axis=1)] = kept
    return counts


@lru_cache(maxsize=8)
def _draws(count: int, samples: int, shared: bool) -> tuple[np.ndarray, np.ndarray]:
    """(WORLD_SAMPLES, W) worlds, and the number of the resample of its images for each of them, or one for all."""
    rng = np.random.default_rng(0)
    worlds = rng.integers(count, size=(WORLD_SAMPLES, count))
    return worlds, rng.integers(samples, size=(WORLD_SAMPLES, 1 if shared else count))


def judged(points: np.ndarray, drawn: np.ndarray, shared: bool = False) -> tuple[float, float, float, float]:
    """Mean, low, high (95 %) and p of the differences of W worlds.

    points: (W,) difference in each world; drawn: (W, S) the same in S resamples of its images
    shared: all worlds have the same images, and a resample's number names the same draw in each. What the choice of
    images does to all worlds alike cannot be seen between worlds, so the t interval adds its variance, with Welch's
    degrees of freedom.
    """
    center, count = float(points.mean()), len(points)
    if count == 1:
        low, high = np.quantile(drawn[0], [LEVEL / 2, 1 - LEVEL / 2])
        return center, float(low), float(high), math.nan
    means = drawn[_draws(*drawn.shape, shared)].mean(axis=1)
    below, above = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    rarer = int(min((means <= 0).sum(), (means >= 0).sum()))
    by_bootstrap = min(1.0, 2 * (1 + rarer) / (1 + WORLD_SAMPLES))
    between, of_images = float(points.var(ddof=1)) / count, float(drawn.mean(axis=0).var()) if shared else 0.0
    error = math.sqrt(between + of_images)
    freedom = count - 1 if not of_images else int(min(MOST_FREEDOM, (count - 1) * (error**2 / max(between, 1e-9)) ** 2))
    reach = t_quantile(1 - LEVEL, freedom) * error
    by_t = 1 - t_within(abs(center) / error, freedom) if error > 1e-9 else float(abs(center) < 1e-9)
    return center, min(center - reach, float(below)), max(center + reach, float(above)), max(by_t, by_bootstrap)


def t_within(t: float, freedom: int) -> float:
    """Student's P(|T| <= t) for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    return (angle + sine * total) * 2 / math.pi if odd else sine * total


@lru_cache
def t_quantile(share: float, freedom: int) -> float:
    """The t that |T| does not exceed with this probability, by bisection."""
    low, high = 0.0, 1e4
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < share else (low, middle)
    return high


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number, step by step (Holm, 1979); NaN, a claim without a test, is not counted."""
    tested = [i for i, p in enumerate(values) if not math.isnan(p)]
    corrected, largest = [math.nan] * len(values), 0.0
    for rank, i in enumerate(sorted(tested, key=lambda i: values[i])):
        largest = max(largest, min(1.0, values[i] * (len(tested) - rank)))
        corrected[i] = largest
    return corrected


def decide(claims: Sequence[Sequence[Difference]]) -> list[tuple[bool | None, float]]:
    """Of each of a chapter's claims, whether it holds (None: cannot be decided), and its corrected p.

    A claim says that all of its differences are positive. One without differences, or with one of a single world,
    cannot be decided.
    """
    found = [_of_claim(differences) for differences in claims]
    corrected = holm([p for _, p in found])
    return [
        (holds if p <= LEVEL else None, p)  # NaN is not below it
        for (holds, _), p in zip(found, corrected, strict=True)
    ]


def _of_claim(differences: Sequence[Difference]) -> tuple[bool, float]:
    """The likelier verdict, and the p value that speaks for it."""
    if not differences or any(math.isnan(each.p) for each in differences):
        return False, math.nan
    for_it = max(each.p if each.mean > 0 else 1.0 for each in differences)
    against = min(1.0, len(differences) * min(each.p if each.mean < 0 else 1.0 for each in differences))
    return for_it < against, min(for_it, against)
