"""Does TeD-Loc beat its teacher on real photos? What is varied, the runs behind each variant, and what they say."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tedloc import plots, runs
from tedloc.book import evidence, report
from tedloc.data import at_hand
from tedloc.data.imagenette import SUBSETS
from tedloc.methods import create
from tedloc.metrics import verdicts
from tedloc.metrics.verdicts import Difference, Side
from tedloc.runs import kept
from tedloc.runs.run import Run
from tedloc.settings import Profile, override

# That need no hub. Grad-CAM is left out: where a linear layer reads the mean of the features its map is CAM's.
TEACHERS = ("head-cam", "cam", "ddt", "c2am")
FEW = 100  # training photos a class
PHOTOS = (30, FEW)  # beside the profile's own number
SIZES = (224, 320)  # pixels of the encoder's input
ENCODERS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
ANCHORS = ("qr_rows", "none", "random")
TERMS = {"L_KD": "kd", "P_CL": "patch", "I_CL": "image"}
LOSSES = ("L_KD", "L_KD + P_CL", "L_KD + P_CL + I_CL", "P_CL + I_CL")  # Table 2's rows, and all but the first term
WORDS = {True: "better", False: "worse", None: "cannot be decided"}


@dataclass(frozen=True)
class Variant:
    """TeD-Loc with one thing changed, and its teacher beside it.

    group: what is varied; label: its value; requests: TeD-Loc's runs, one a seed; own: whether it is the profile itself
    """

    group: str
    label: str
    requests: list[runs.Request]
    own: bool

    @property
    def name(self) -> str:
        return f"{self.group}: {self.label}"

    @property
    def teachers(self) -> list[runs.Request]:
        """The run that taught each; a teacher without chance is the same for all."""
        return [request.teacher() for request in self.requests]


def variants(profile: Profile) -> list[Variant]:
    """By teacher, number of training photos, classes, input size and, with :data:`FEW` photos a class since every
    encoder needs embeddings of its own, by encoder. The profile itself stands in every group but the last; of drawn
    images there is the first group alone."""
    few = override(profile, {"data.per_class": FEW})
    made = {name: create(name, profile) for name in dict.fromkeys((profile.pseudo_labels.teacher, *TEACHERS))}
    teachers = {name: method.title for name, method in made.items() if method.applies() and not method.lacks()}
    photos = {n: "all" if n is None else f"{n}" for n in (*PHOTOS, profile.data.per_class)}
    subsets = {None: "both subsets"} | {(name,): f"{name.title()} alone" for name in SUBSETS}
    sizes = {size: f"{size} x {size} pixels" for size in SIZES}
    encoders = {name: name.replace("efficientnet-lite", "EfficientNet-Lite") for name in ENCODERS}
    groups = {
        "teacher": (profile, "pseudo_labels__teacher", teachers),
        "training photos a class": (profile, "data__per_class", photos),
        "classes": (profile, "data__only_classes", subsets),
        "input": (profile, "encoder__image_size", sizes),
        f"encoder, {FEW} photos a class": (few, "encoder__name", encoders),
    }
    own, found = runs.grid(profile, routes=("g",)), []
    for group, (base, setting, values) in list(groups.items())[: 1 if profile.synthetic else None]:
        for value, label in values.items():
            asked = runs.grid(base, routes=("g",), **{setting: value})
            found.append(Variant(group, label, asked, asked == own))
    return found


def to_be_had(found: Sequence[Variant]) -> tuple[list[Variant], list[Variant]]:
    """(those that can be shown here, the others): runs are computed where the photos are, and else have to be kept. A
    group of one is no comparison."""
    able = [
        each
        for each in found
        if all(at_hand(asked.profile.data) or kept.holds(asked) for asked in (*each.requests, *each.teachers))
    ]
    counts = Counter(each.group for each in able)
    able = [each for each in able if counts[each.group] > 1 or len(counts) == 1]
    return able, [each for each in found if each not in able]


def requests(found: Sequence[Variant]) -> dict[str, list[runs.Request]]:
    """The runs of all variants by name, teachers among them."""
    students = {each.name: each.requests for each in found}
    return students | {f"{each.name}, teacher": list(dict.fromkeys(each.teachers)) for each in found}


def sides(variant: Variant, found: Mapping[str, Sequence[Run]], split: str = "test") -> tuple[Side, Side]:
    """(TeD-Loc's results, its teacher's) by seed."""
    ours = evidence.meters(found[variant.name], "g", split)
    asked = dict.fromkeys(variant.teachers)
    by_request = dict(zip(asked, found[f"{variant.name}, teacher"], strict=True))
    theirs = {
        request.seed: evidence.meter(by_request[teacher], None, split)
        for request, teacher in zip(variant.requests, variant.teachers, strict=True)
        if request.seed in ours
    }
    return ours, theirs


def against_teachers(
    found: Sequence[Variant], collected: Mapping[str, Sequence[Run]]
) -> tuple[pd.DataFrame, dict[str, Difference]]:
    """One line a variant: teacher's and TeD-Loc's MaxBoxAcc, the difference and its verdict, the same at thresholds
    carried over from validation, and Top-1 CL of both. And the differences by name. Verdicts are corrected for all
    variants; one that stands in several groups is counted once."""
    pairs = {each.name: sides(each, collected) for each in found}
    val = {each.name: sides(each, collected, "val") for each in found}
    gaps = {name: verdicts.difference(*pair) for name, pair in pairs.items()}
    carried = {
        name: verdicts.difference(*pair, f"{evidence.HALF} (val threshold)", val=val[name])
        for name, pair in pairs.items()
    }
    alike = {tuple(each.requests): each.name for each in found}  # what stands in several groups is counted once
    decided = dict(zip(alike, verdicts.decide([[gaps[name]] for name in alike.values()]), strict=True))
    lines = {}
    for each in found:
        (ours, theirs), (holds, p) = pairs[each.name], decided[tuple(each.requests)]
        lines[each.name] = {
            "teacher": mean(theirs, evidence.HALF),
            "TeD-Loc": report.measured(evidence.values(ours, evidence.HALF)),
            "TeD-Loc less teacher": evidence.brief(gaps[each.name]),
            "TeD-Loc is": f"{WORDS[holds]} ({evidence.p_value(p)})",
            "difference, thresholds from val": evidence.brief(carried[each.name]),
            "Top-1 CL, teacher": mean(theirs, "Top-1 CL"),
            "Top-1 CL, TeD-Loc": report.measured(evidence.values(ours, "Top-1 CL")),
        }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("varied"), gaps


def mean(side: Side, metric: str = evidence.HALF, **more: Any) -> str:
    """In percent, mean ± sd over seeds; one value where all seeds share it, as those of a method without chance do.
    more: as in ``evidence.values``"""
    found = evidence.values(side, metric, **more)
    return report.measured(found[:1] if len(set(found)) == 1 else found)


def figure(found: Sequence[Variant], gaps: Mapping[str, Difference]) -> Figure:
    """The differences with their intervals, a panel a group."""
    groups = list(dict.fromkeys(each.group for each in found))
    counts = [sum(each.group == group for each in found) for group in groups]
    size, shape = (7.4, 0.42 * len(found) + 1.6), {"height_ratios": counts, "squeeze": False}
    drawn, axes = plt.subplots(len(groups), 1, figsize=size, sharex=True, layout="constrained", **shape)
    for ax, group in zip(axes.flat, groups, strict=True):
        some = [each for each in found if each.group == group][::-1]
        for place, each in enumerate(some):
            gap, colour = gaps[each.name], plots.PALETTE[0] if each.own else "#555555"
            ax.plot([gap.low, gap.high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
            ax.plot(gap.mean, place, "o", color=colour, markersize=7)
            ax.plot(list(gap.worlds.values()), np.full(len(gap.worlds), place), "|", color=colour, markersize=9)
        ax.axvline(0, color="#888888", linewidth=1, linestyle=":")
        ax.set(yticks=range(len(some)), yticklabels=[each.label for each in some], ylim=(-0.6, len(some) - 0.4))
        ax.set_title(f"by {group}", loc="left", fontsize=10)
        ax.grid(False, axis="y")
    axes[-1, 0].set_xlabel("TeD-Loc less its teacher, MaxBoxAcc in points; bar: 95 % interval")
    return drawn


def subsets(side: Side, classes: Mapping[str, Sequence[str]]) -> dict[str, dict[int, np.ndarray]]:
    """Test images by name of a subset, as ``subset`` of the rule: those of its classes, and those whose object fills
    at most half of the photo; those that hold none are left out. classes: name -> WordNet ids, with which image ids
    begin."""
    found = {
        name: {
            seed: np.isin([image.partition("/")[0] for image in meter.records.ids], wnids)
            for seed, meter in side.items()
        }
        for name, wnids in classes.items()
    }
    found |= {"object ≤ half": {seed: evidence.object_shares(meter) <= 0.5 for seed, meter in side.items()}}
    return {name: part for name, part in found.items() if all(some.any() for some in part.values())}


def anchors(profile: Profile) -> dict[str, list[runs.Request]]:
    """TeD-Loc with each kind of anchors of :data:`ANCHORS`, scored by both of its maps."""
    return {kind: runs.grid(profile, routes=("g", "anchor-true"), anchors__orthogonaliser=kind) for kind in ANCHORS}


def losses(profile: Profile) -> dict[str, list[runs.Request]]:
    """TeD-Loc trained with each combination of :data:`LOSSES`; a term that is left out has the weight 0."""
    return {
        name: runs.grid(
            profile,
            routes=("g", "anchor-true"),
            **{f"loss__{field}": 0.0 for term, field in TERMS.items() if term not in name},
        )
        for name in LOSSES
    }
