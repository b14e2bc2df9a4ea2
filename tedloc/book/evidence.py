"""Runs and stored results, put to the rule of ``tedloc.metrics.verdicts``: a chapter's claims and their verdicts.

A notebook takes each claim by its id from ``tedloc/paper/claims.csv`` and says which runs decide it (``judge``,
``judge_best``, ``judge_order``; ``counted`` for arithmetic, ``undecided`` where something is lacking). ``verdicts``
decides all claims of the chapter together and shows them. What is compared are *sides*: world -> its meter, live or
unpacked (``tedloc.metrics.compact``); a run's world is its seed.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tedloc import paper
from tedloc.book import report
from tedloc.book.report import Table, Verdict, number
from tedloc.data import ImageSet
from tedloc.errors import UserError
from tedloc.metrics import baselines
from tedloc.metrics import verdicts as rule
from tedloc.metrics.meter import LocalizationMeter
from tedloc.metrics.verdicts import HALF, Difference, Side, difference
from tedloc.runs import kept
from tedloc.runs.run import Run
from tedloc.settings import Profile

__all__ = ["HALF", "Difference", "Side", "difference"]


def brief(found: Difference) -> str:
    """As in a narrow table: ``+2.1 (+0.5 to +3.6)``."""
    return f"{_signed(found.mean)} ({_signed(found.low)} to {_signed(found.high)})"


def p_value(p: float) -> str:
    """``p = 0.012``, or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {number(p, 3)}"


def by_world(found: Difference) -> str:
    """``+2.0, +2.1, +2.2``."""
    return ", ".join(map(_signed, found.worlds.values()))


def told(found: Difference) -> str:
    """Mean, interval, and what each seed gives: ``+2.1 points, 95 % interval +0.5 to +3.6; by seed +2.0, +2.1``."""
    text = f"{_signed(found.mean)} points, 95 % interval {_signed(found.low)} to {_signed(found.high)}"
    if len(found.worlds) > 1:
        return f"{text}; by seed {by_world(found)}"
    return f"{text} over the images of seed {next(iter(found.worlds))} alone, which decides nothing of others"


def _signed(value: float) -> str:
    return number(value, 1, signed=True)


def meter(run: Run, route: str | None = None, split: str = "test") -> LocalizationMeter:
    """A run's per-image results by one route (default: the headline's)."""
    return _meter(run.folder, route or run.routes[0], split)


def meters(runs: Sequence[Run], route: str | None = None, split: str = "test") -> dict[int, LocalizationMeter]:
    """One variant's runs as a side: world (a run's seed) -> :func:`meter`. Raises ``UserError`` for two of a world."""
    found = {run.metrics["provenance"]["seed"]: meter(run, route, split) for run in runs}
    if len(found) < len(runs):
        raise UserError("two runs of one variant have the same seed; compare one run a world")
    return found


@lru_cache(maxsize=512)
def _meter(folder: Path, route: str, split: str) -> LocalizationMeter:
    return kept.opened(folder).meter(route, split)


def decisive(profile: Profile, found: Mapping[str, Sequence[Run]]) -> dict[str, list[Run]]:
    """Of runs by name those that means and verdicts come from: of drawn worlds the ones after the first, in which
    settings were chosen. A name that has that one alone keeps it: it gives an interval over images, and no verdict."""
    later = {
        name: [run for run in some if run.metrics["provenance"]["seed"] in profile.judged]
        for name, some in found.items()
    }
    return {name: later[name] or list(some) for name, some in found.items()}


def paired(profile: Profile, *variants: tuple[Sequence[Run], str | None]) -> list[Side]:
    """Variants, each its runs and a route, as sides that can be compared: in the same worlds, of those that all have
    the ones that decide. Where one has the first world alone it is that one for all, and there is no verdict."""
    worlds = set.intersection(*({run.metrics["provenance"]["seed"] for run in some} for some, _ in variants))
    shared = {
        n: [run for run in some if run.metrics["provenance"]["seed"] in worlds] for n, (some, _) in enumerate(variants)
    }
    return [meters(some, variants[n][1]) for n, some in decisive(profile, shared).items()]


def in_common(*sides: Side) -> tuple[Side, ...]:
    """The sides, each in the worlds that all of them have."""
    worlds = set.intersection(*map(set, sides))
    return tuple({world: side[world] for world in sorted(worlds)} for side in sides)


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


def values(found: Side, metric: str, **more: Any) -> list[float]:
    """The metric in percent, one value a world; more: ``val``, ``subset`` of ``verdicts.mean``."""
    return list(rule.mean(found, metric, **more).worlds.values())


def interval(found: Side, metric: str = HALF, **more: Any) -> tuple[float, float]:
    """(low, high): 95 % interval of the mean over worlds; of one world, over its images. more: as in :func:`values`."""
    estimate = rule.mean(found, metric, **more)
    return estimate.low, estimate.high


@dataclass(frozen=True)
class Judged:
    """A claim and the differences that must all be positive for it to hold.

    holds: the verdict of a claim that depends on no images; evidence: words that stand before the p value
    """

    claim: paper.Claim
    evidence: str
    differences: tuple[Difference, ...] = ()
    holds: bool | None = None


def judge(claim: str, found: Difference, before: str = "") -> Judged:
    """A claim (its id) that a difference is positive. before: words that open the evidence"""
    return Judged(paper.claim(claim), before + told(found), (found,))


def judge_order(
    claim: str, ranking: Mapping[str, float], found: Mapping[str, Side], metric: str = HALF, before: str = ""
) -> Judged:
    """A claim that results follow a ranking: of every two, the one that ranks higher has the higher metric.

    ranking, found: by the same names; higher is better.
    """
    order = sorted(ranking, key=ranking.get, reverse=True)
    pairs = {
        f"{higher} / {lower}": difference(found[higher], found[lower], metric)
        for higher, lower in itertools.combinations(order, 2)
    }
    right = sum(each.mean > 0 for each in pairs.values())
    evidence = f"{right} of {len(pairs)} pairs in this order"
    if reversed_ := [f"{name} {brief(each)}" for name, each in pairs.items() if each.mean <= 0]:
        evidence += f"; the others: {', '.join(reversed_)}"
    return Judged(paper.claim(claim), before + evidence, tuple(pairs.values()))


def judge_all(claim: str, gaps: Mapping[str, Difference], before: str = "") -> Judged:
    """A claim that each of several differences is positive. The evidence names the smallest of them."""
    least = min(gaps, key=lambda name: gaps[name].mean)
    return Judged(
        paper.claim(claim), f"{before}of {len(gaps)} the least is {least}: {told(gaps[least])}", tuple(gaps.values())
    )


def judge_best(claim: str, ours: Side, others: Mapping[str, Side], metric: str = HALF, before: str = "") -> Judged:
    """A claim that one variant is better than each of the others."""
    gaps = {name: difference(ours, theirs, metric) for name, theirs in others.items()}
    return judge_all(claim, {f"the difference from {name}": gap for name, gap in gaps.items()}, before)


def counted(claim: str, holds: bool | None, evidence: str) -> Judged:
    """A claim that arithmetic or a clock decides, and no images. Raises ``UserError`` for one that images must."""
    if paper.claim(claim).images:
        raise UserError(f"the claim {claim!r} is decided by images; judge it by a difference")
    return Judged(paper.claim(claim), evidence, holds=None if holds is None else bool(holds))


def undecided(claim: str, why: str) -> Judged:
    """A claim that cannot be tested here, and why."""
    return Judged(paper.claim(claim), why)


def verdicts(profile: Profile, found: Sequence[Judged], caption: str = "") -> Table:
    """The claims of one chapter, decided together: claim, verdict, evidence, and what the verdict is about.

    Where numbers mean nothing (the smoke profile) nothing is decided. Raises ``UserError`` for claims of several
    chapters, or one that comes twice: the correction is for those of one chapter, each counted once.
    """
    ids = [each.claim.id for each in found]
    if len({each.claim.chapter for each in found}) > 1 or len(set(ids)) < len(ids):
        raise UserError(f"verdicts are given on the claims of one chapter, each once, not on {', '.join(ids)}")
    decided = rule.decide([each.differences for each in found])
    tested = sum(not np.isnan(p) for _, p in decided)
    shown = []
    for each, (holds, p) in zip(found, decided, strict=True):
        evidence = each.evidence
        if not np.isnan(p):
            evidence += f"; {p_value(p)}, corrected for {report.plural(tested, 'claim')}"
        holds = holds if each.claim.images else each.holds
        shown.append(
            Verdict(
                each.claim,
                holds if profile.meaningful or not each.claim.images else None,
                evidence,
                about(profile, each),
            )
        )
    meaning = "" if profile.meaningful else "The smoke profile decides nothing that images must decide."
    return report.verdicts(shown, " ".join(filter(None, (caption, meaning))))


def about(profile: Profile, judged: Judged) -> str:
    """What a verdict is about: data set and worlds, or that it depends on no images."""
    if not judged.claim.images:
        return "no images: counted and timed"
    worlds = sorted({world for each in judged.differences for world in each.worlds})
    kind = "world" if profile.synthetic else "seed"
    named = report.plural(len(worlds), kind) + f" ({', '.join(map(str, worlds))})" if worlds else "not tested"
    return f"{profile.data.name}{', synthetic images' if profile.synthetic else ''}; {named}"


def measured_on(profile: Profile, runs: Sequence[Run], **more: Any) -> dict[str, Any]:
    """The provenance (``report.measured_on``) of runs of one variant. more: what it says besides, or instead"""
    first = runs[0].metrics["provenance"]
    known = {key: first[key] for key in ("dataset", "split", "num_images", "device", "date", "commit", "synthetic")}
    seeds = [run.metrics["provenance"]["seed"] for run in runs]
    return report.measured_on(**known | {"profile": profile.name, "seeds": seeds} | more)
