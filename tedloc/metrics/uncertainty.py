"""How sure a metric is: bootstrap intervals over images. (``tedloc.book.evidence`` pairs differences by seed.)

Everything comes from the stored per-image correctness: no map is read again. An oracle threshold is searched anew
in every resample, as it was in the metric itself; a carried-over or fixed threshold stays where it is. A resample
is a vector of how often each image was drawn, so all resamples at all thresholds are one matrix product.
"""

import re
from collections.abc import Callable

import numpy as np

from tedloc.errors import UserError
from tedloc.metrics import pxap
from tedloc.metrics.boxes import level_of
from tedloc.metrics.meter import LocalizationMeter

# (resamples (S, N), how often each image was drawn) -> the metric in each (S,), in percent
Statistic = Callable[[np.ndarray], np.ndarray]
_NAME = re.compile(
    r"(MaxBoxAcc@(?P<iou>[\d.]+)|MaxBoxAccV2|Top-(?P<k>[15]) (?P<kind>Loc|CL)|PxAP)"
    r"(?P<own> \(own threshold\))?( \((?P<rule>val|fixed) threshold\))?"
)


def bootstrap(
    meter: LocalizationMeter,
    metric: str,
    seed: int,
    samples: int = 1000,
    *,
    level: float = 0.95,
    val: LocalizationMeter | None = None,
    fixed: float | None = None,
    contours: str = "largest",
) -> tuple[float, float]:
    """(low, high): percentile interval of a metric over resampled images.

    metric: a key of ``LocalizationMeter.compute`` other than thresholds, ``mean IoU`` and ``num_images``; ``val``,
    ``fixed`` and ``contours`` as there. Raises ``UserError`` for a metric that the meter does not have.
    """
    return interval(
        statistic_of(meter, metric, contours, val, fixed), np.arange(len(meter)), len(meter), seed, samples, level
    )


def interval(
    statistic: Statistic, kept: np.ndarray, images: int, seed: int, samples: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """(low, high): percentile interval of any statistic when the images ``kept`` (indices) are drawn anew.

    images: how many there are in all; those that are not kept count zero times.
    """
    found = []
    for drawn in resamples(len(kept), seed, samples):
        counts = np.zeros((len(drawn), images), np.float32)
        counts[:, kept] = drawn
        found.append(statistic(counts))
    low, high = np.quantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resamples(images: int, seed: int, samples: int, block: int = 50):
    """Blocks (<= 50, N) float32 of how often each image is drawn."""
    rng = np.random.default_rng(seed)
    for start in range(0, samples, block):
        drawn = [
            np.bincount(rng.integers(images, size=images), minlength=images) for _ in range(min(block, samples - start))
        ]
        yield np.array(drawn, dtype=np.float32)


def resampled(metric: str) -> bool:
    """Is this key of ``LocalizationMeter.compute`` one that intervals can be computed for?"""
    return _NAME.fullmatch(metric) is not None


def statistic_of(
    meter: LocalizationMeter, metric: str, contours: str, val: LocalizationMeter | None, fixed: float | None
) -> Statistic:
    """The metric as a function of how often each image counts; arguments as in :func:`bootstrap`."""
    known = meter.compute(val=val, fixed=fixed, contours=contours)
    parsed = _NAME.fullmatch(metric)
    if metric not in known or parsed is None:
        possible = ", ".join(repr(name) for name in known if resampled(name))
        raise UserError(f"no interval can be computed for {metric!r}; choose one of: {possible}")
    records, rule = meter.records, parsed["rule"]
    if metric == "PxAP":
        pixels = records.pixels.reshape(len(records), -1).astype(np.float64)
        shape = (-1, *records.pixels.shape[1:])
        return lambda counts: pxap.average_precision((counts @ pixels).reshape(shape))
    top_k = int(parsed["k"]) if parsed["k"] else None
    if parsed["kind"] == "CL":
        ranked = 100 * records.ranked_within(top_k)
        return lambda counts: counts @ ranked / counts.sum(axis=1)
    if metric.startswith("MaxBoxAccV2"):
        parts = [_accuracy(meter, "all", j, None, False, rule, val, fixed) for j in range(len(meter.ious))]
        return lambda counts: np.mean([part(counts) for part in parts], axis=0)
    j = meter.ious.index(float(parsed["iou"] or 0.5))
    return _accuracy(meter, contours, j, top_k, bool(parsed["own"]), rule, val, fixed)


def _accuracy(meter, contours, j, top_k, own, rule, val, fixed) -> Statistic:
    """Box accuracy, or Top-k Loc, of resamples under one threshold rule."""
    records = meter.records
    if rule == "fixed":
        thresholds = np.array([fixed])
    elif rule == "val":
        thresholds = np.array([val.best_threshold(contours, j, top_k if own else None)])
    else:  # thresholds that give the same level in every map are one
        levels = level_of(meter.thresholds[:, None], np.unique(records.top)[None])
        thresholds = meter.thresholds[np.sort(np.unique(levels, axis=0, return_index=True)[1])]
    correct = records.correct(contours, j, thresholds)
    located = correct if top_k is None else correct & records.ranked_within(top_k)[:, None]

    def rates(counts: np.ndarray, table: np.ndarray) -> np.ndarray:
        total = np.zeros((len(counts), table.shape[1]), np.float32)
        for start in range(0, len(table), 4096):  # exact: whole numbers below 2^24
            total += counts[:, start : start + 4096] @ table[start : start + 4096].astype(np.float32)
        return 100 * total.astype(np.float64) / counts.sum(axis=1, dtype=np.float64, keepdims=True)

    if top_k is None or own:
        return lambda counts: rates(counts, located).max(axis=1)

    def at_threshold_of_maxboxacc(counts: np.ndarray) -> np.ndarray:
        chosen = rates(counts, correct).argmax(axis=1)
        return np.take_along_axis(rates(counts, located), chosen[:, None], axis=1)[:, 0]

    return at_threshold_of_maxboxacc
