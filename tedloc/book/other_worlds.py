"""Would other worlds have said the same? TeD-Loc and the methods nearest to it, in worlds that no verdict rests on."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tedloc import runs
from tedloc.book import evidence
from tedloc.methods import METHODS, create
from tedloc.metrics import verdicts
from tedloc.metrics.verdicts import Side
from tedloc.runs import kept
from tedloc.settings import Profile

WORLDS = (6, 7, 8)  # whose towers do not come with the package: data_scripts/train_towers.py makes them
CLOSEST = 3
WORDS = {True: "TeD-Loc better", False: "TeD-Loc worse", None: "undecided"}


def sides(profile: Profile, worlds: Sequence[int]) -> dict[str, Side]:
    """Methods with the profile's own settings, each in those of the worlds in which its results are kept. Variants of a
    method (``c2am:test-threshold``) are left out."""
    found = {}
    for method in METHODS:
        base, _, variant = method.partition(":")
        if variant and base in METHODS:
            continue
        stored = map(kept.of, runs.grid(profile, method=method, seeds=worlds)) if worlds else ()
        if here := [run for run in stored if run]:
            found[method] = evidence.meters(here)
    return found


def closest(found: Mapping[str, Side], worlds: Sequence[int]) -> list[str]:
    """The methods whose mean MaxBoxAcc over worlds is nearest to TeD-Loc's, of those that have them all."""
    means = {
        name: np.mean(evidence.values(side, evidence.HALF)) for name, side in found.items() if {*worlds} <= {*side}
    }
    ours = means.pop("tedloc")
    return sorted(means, key=lambda name: abs(means[name] - ours))[:CLOSEST]


def table(profile: Profile) -> pd.DataFrame | None:
    """By method, TeD-Loc less the method in the worlds that verdicts rest on and in others, with each one's verdict;
    None where the results of fewer than two other worlds are kept."""
    judged = [world for world in profile.judged if world not in WORLDS]
    found, others = sides(profile, judged), sides(profile, WORLDS)
    if "tedloc" not in found or "tedloc" not in others:
        return None
    nearest = closest(found, judged)
    shared = set.intersection(*(set(others.get(name, ())) for name in ("tedloc", *nearest)))
    if len(shared) < 2:
        return None
    frame = pd.DataFrame(index=pd.Index([create(name, profile).title for name in nearest], name="TeD-Loc less"))
    for of, worlds in ((found, judged), (others, sorted(shared))):
        side = {name: {world: of[name][world] for world in worlds} for name in ("tedloc", *nearest)}
        gaps = [evidence.difference(side["tedloc"], side[name]) for name in nearest]
        told = ", ".join(map(str, worlds))
        frame[f"worlds {told}"] = [evidence.brief(gap) for gap in gaps]
        frame[f"verdict, {told}"] = [WORDS[holds] for holds, _ in verdicts.decide([[gap] for gap in gaps])]
    return frame
