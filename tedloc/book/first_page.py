"""The first minute: the book's answer in one figure, five sentences and a table of verdicts, from what the chapters
found on drawn birds and on real photos (``tedloc.book.findings``)."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from tedloc import plots
from tedloc.book import findings, report

KINDS = {"aviary": "drawn birds", "imagenette-small": "real photos"}  # profile -> what its images are
ROLES = {  # of a row of the main results -> as a newcomer reads it; a role of many rows stands for its best
    "ours": "TeD-Loc",
    "teacher": "its teacher, told the class",
    "plain": "a classifier's map (CAM)",
    "compared": "best other method",
    "image unseen": "best box that sees no image",
}
CLAIMS = {  # id -> in few words
    "over-teacher": "it localizes better than the maps that it learns from",
    "best-maxboxacc": "… better than every other method",
    "best-top-1-loc": "… with the right class, too",
    "over-clip": "it classifies better than CLIP without training",
    "adding-p-cl": "the patch loss helps localization",
    "adding-i-cl": "the image loss helps on top",
    "orthogonal-cl": "orthogonal anchors help classification",
    "cheaper-than-genpromp": "it is far cheaper than GenPromp",
}


def at_hand(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Of findings by profile those of :data:`KINDS` that hold main results."""
    return {name: found[name] for name in KINDS if name in found and found[name]["results"]}


def best(results: Mapping[str, Any], metric: str = "MaxBoxAcc") -> dict[str, dict[str, Any]]:
    """By role of :data:`ROLES` the method with the highest mean: {method, mean, sd, n}; roles without one: left out."""
    ranked = {role: findings.ranked(results, role, metric) for role in ROLES}
    return {role: {"method": some[0]["method"], **some[0]["metrics"][metric]} for role, some in ranked.items() if some}


def figure(found: Mapping[str, Mapping[str, Any]], stacked: bool = False) -> Figure:
    """MaxBoxAcc of each role, a panel a kind of images; a bar is one standard deviation over worlds or seeds.

    stacked: one panel below the other, for a phone
    """
    shown = at_hand(found)
    shape, size = ((len(shown), 1), (4.6, 4.8)) if stacked else ((1, len(shown)), (8.6, 2.9))
    drawn, axes = plt.subplots(*shape, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained")
    for ax, (name, finding) in zip(axes.flat, shown.items(), strict=True):
        values = best(finding["results"])
        for place, role in enumerate(reversed(ROLES)):
            if role not in values:
                continue
            value, colour = values[role], plots.PALETTE[0] if role == "ours" else "#666666"
            ax.barh(place, value["mean"], height=0.62, color=colour, alpha=1 if role == "ours" else 0.45)
            if value["sd"]:
                ends = [value["mean"] - value["sd"], value["mean"] + value["sd"]]
                ax.plot(ends, [place, place], color="#222222", linewidth=1.2)
            words = f"{value['mean']:.0f} %" + (f"  {value['method']}" if role == "compared" else "")
            ax.text(1.5, place, words, va="center", color="white" if role == "ours" else "#111111", fontsize=10)
        ax.set(yticks=range(len(ROLES)), yticklabels=list(reversed(ROLES.values())), xlim=(0, 100))
        ax.set_title(KINDS[name], loc="left", fontsize=11)
        ax.grid(False, axis="y")
    drawn.supxlabel("boxes that overlap the true one by half (%)", fontsize=11)
    return drawn


def verdicts(found: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The main claims, and in a column a kind of images what became of each: "holds", "does not hold", "cannot be
    decided here", or a dash where it was not tested. A claim that no image decides stands in every column."""
    claims = {claim["id"]: claim for claim in findings.claims(found.values())}
    lines = {}
    for name, words in CLAIMS.items():
        claim = claims.get(name, {"images": True, "verdicts": {}})
        told = {profile: verdict["label"] for profile, verdict in claim["verdicts"].items()}
        if not claim["images"]:
            told = dict.fromkeys(KINDS, next(iter(told.values())))
        lines[words] = {kind: told.get(profile, report.MISSING) for profile, kind in KINDS.items()}
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("the paper says")


def sentences(found: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """Five: what is asked, the idea, the claim, what was found, what was not."""
    shown, told, held = at_hand(found), [], []
    for name, finding in shown.items():
        values, count = best(finding["results"]), finding["results"]["provenance"]["num_images"]
        ours, teacher = (values[role]["mean"] for role in ("ours", "teacher"))
        told.append(f"on {KINDS[name]} ({report.number(count, 0)}) **{ours:.0f} %** against {teacher:.0f} %")
        papers = [claim for claim in findings.claims([finding]) if not claim["own"]]
        counts = findings.counts(papers, name)
        held.append(f"{counts[report.label(True)]} of {sum(counts.values())} on {KINDS[name]}")
    answer = (
        f"Its boxes are right, beside those of its teacher, {' and '.join(told)}. Of the "
        f"paper's claims that were put to images hold {' and '.join(held)}; most others cannot be decided."
    )
    return (
        "**Weakly supervised object localization** trains a model on pictures and class names alone, and then asks it "
        "where in a new picture the object is.",
        "A classifier's own map marks what tells a class apart, a beak or a crest, rather than the object; **TeD-Loc** "
        "takes such maps as noisy hints, teaches every patch of a frozen encoder to say whether it is object, and "
        "draws it towards the text of its class.",
        "The paper claims that one pass then gives a better box than the maps that it learned from and than all other "
        "methods, and the class with it.",
        answer if told else "No results are at hand.",
        "Nothing was run on the whole of CUB or ILSVRC with EVA and CLIP: every number of ours is of smaller data and "
        "smaller networks, and what can be compared with the paper is the order of methods.",
    )
