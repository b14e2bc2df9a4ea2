"""How every table of the book looks: the paper's number, ours, the difference, and what ours is measured on.

``comparison`` puts measured numbers beside printed ones, ``plain_table`` shows any other frame, ``verdicts`` says
claim by claim whether it holds. All give a ``tedloc.book.table.Table``, which shows itself as HTML (light and dark,
wide tables scroll in their own box), as Markdown and as plain text.
"""

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from tedloc import paths
from tedloc.book.table import MISSING, NOT_RUN, PROVENANCE, Table, badge, number
from tedloc.paper import Claim

__all__ = [
    "MISSING",
    "NOT_RUN",
    "PROVENANCE",
    "Table",
    "Verdict",
    "badge",
    "comparison",
    "measured",
    "measured_on",
    "number",
    "plain_table",
    "plural",
    "verdicts",
]

VERDICTS = "tedloc-verdicts"  # in the metadata of an executed notebook's outputs: its verdicts
RESULTS = "tedloc-results"  # and the metrics of its methods; see tedloc.book.findings

# Blue, orange and grey keep apart for every common colour blindness. The book's style sheet knows the shade that can
# be read on its ground, light or dark; elsewhere the one given here holds.
_LABELS = {
    True: ("holds", "var(--tedloc-good, #0b84c4)"),
    False: ("does not hold", "var(--tedloc-bad, #d55e00)"),
    None: ("cannot be decided here", "var(--tedloc-open, #808080)"),
}


OURS = "TeD-Loc"  # the row that a reader looks for
UNSEEN = "best centred box", "full-image box", "centred Gaussian"  # that see no image


def measured(ours: float | Sequence[float] | str | None, decimals: int = 1) -> str:
    """One value, "mean ± sd (n=…)" over seeds (sample deviation), "not run here", or the text itself."""
    if ours is None:
        return NOT_RUN
    if isinstance(ours, str):
        return ours
    seeds = np.atleast_1d(np.asarray(ours, dtype=float))
    if len(seeds) == 0:
        return NOT_RUN
    if len(seeds) == 1:
        return number(seeds[0], decimals)
    return f"{number(seeds.mean(), decimals)} ± {number(seeds.std(ddof=1), decimals)} (n={len(seeds)})"


def plural(count: int, word: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def measured_on(**known) -> dict:
    """A provenance dict with today's date and the checkout's commit filled in."""
    try:
        command = ["git", "-C", str(paths.PACKAGE), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
        commit = commit if paths.checkout() else None  # an installed package: the nearest repository is another's
    except (OSError, subprocess.SubprocessError):
        commit = None
    filled = {"date": date.today().isoformat(), "commit": commit} | known
    badge(filled)  # refuses unknown keys where they are written, not where they are shown
    return filled


def plain_table(
    frame: pd.DataFrame,
    caption: str = "",
    decimals: int | Mapping[str, int] = 1,
    provenance: Mapping | None = None,
    colours: Mapping[str, str] | None = None,
) -> Table:
    """Show any frame in the book's style. decimals: one for all float columns, or by column name."""
    cells = pd.DataFrame(index=frame.index, columns=frame.columns, dtype=object)
    for position, name in enumerate(frame.columns):
        places = decimals.get(name, 1) if isinstance(decimals, Mapping) else decimals
        places = 0 if pd.api.types.is_integer_dtype(frame.dtypes.iloc[position]) else places
        cells.isetitem(position, [_cell(value, places) for value in frame.iloc[:, position]])
    return Table(cells, frame, caption, colours, provenance=provenance)


def _cell(value, decimals: int) -> str:
    if value is None or isinstance(value, (bool, np.bool_)):
        return {None: MISSING, True: "yes", False: "no"}[value if value is None else bool(value)]
    return number(value, decimals) if isinstance(value, (int, float, np.number)) else str(value)


def comparison(
    rows: Iterable[Mapping],
    provenance: Mapping | None = None,
    paper_dataset: str | None = None,
    caption: str = "",
    decimals: int = 1,
    data: Mapping[str, Any] | None = None,
    higher: bool = True,
) -> Table:
    """Paper, ours and their difference, side by side. The best of a column stands out; boxes that see no image stand
    apart, and are not among the best.

    rows: mappings with ``row`` (label), ``paper`` (float or None), ``ours`` (float, one value a seed, None
        for "not run here", or a text that says why there is none, "needs weights: CLIP") and, for tables with
        several metrics, ``column``. With ``here`` (a float or None) the value of the first world stands beside it.
    provenance: see ``PROVENANCE``; becomes the badges below.
    paper_dataset: the data set of the paper's numbers. When ours come from other data the difference would
        compare two data sets, so it is left out and the caption says so.
    data: JSON that goes into the executed notebook beside the table, for ``tedloc.book.findings``.
    higher: whether more is better; where it is not, nothing is marked as the best
    """
    rows = [{"column": "", **row} for row in rows]
    dataset = (provenance or {}).get("dataset") or ""
    on_other_data = paper_dataset is not None and dataset.lower() != paper_dataset.lower()
    cells, numbers = {}, {}
    for row in rows:
        empty = row["ours"] is None or isinstance(row["ours"], str) or np.size(row["ours"]) == 0
        ours = None if empty else float(np.mean(row["ours"]))
        paper = None if row["paper"] is None or not np.isfinite(row["paper"]) else float(row["paper"])
        gap = None if ours is None or paper is None else ours - paper
        shown = {
            "paper": (number(paper, decimals), paper),
            "ours": (measured(row["ours"], decimals), ours),
            **({"world 0": (number(row["here"], decimals), row["here"])} if "here" in row else {}),
            "difference": (number(gap, decimals, signed=True), gap),
        }
        for name, (text, value) in shown.items():
            if name == "difference" and on_other_data:
                continue
            key = (row["column"], name) if row["column"] else name
            cells.setdefault(key, {})[row["row"]] = text
            numbers.setdefault(key, {})[row["row"]] = np.nan if value is None else value
    order = list(dict.fromkeys(row["row"] for row in rows))
    cells, numbers = (pd.DataFrame(data).reindex(order) for data in (cells, numbers))
    if on_other_data:
        caption += f" The paper's column is {paper_dataset}; ours is other data: compare orders, not values."
    reasons = {row["ours"] for row in rows if isinstance(row["ours"], str)}
    marks = {name: "ours" if name == OURS else "apart" for name in order if name in (OURS, *UNSEEN)}
    methods = numbers.loc[[name for name in order if marks.get(name) != "apart"]]
    best = {
        (order.index(name), position)
        for position, column in enumerate(numbers)
        if higher and "difference" not in (column, column[-1]) and methods[column].count() > 2
        for name in methods.index[methods[column] == methods[column].max()]
    }
    return Table(
        cells.fillna(MISSING),
        numbers,
        caption.strip(),
        asides=frozenset({NOT_RUN, MISSING} | reasons),
        provenance=provenance,
        data={} if data is None else {RESULTS: data},
        marks=marks,
        best=frozenset(best),
    )


@dataclass(frozen=True)
class Verdict:
    """A claim, whether it holds (None: cannot be decided here), the evidence, and what it is about: data and worlds."""

    claim: Claim
    holds: bool | None
    evidence: str
    about: str

    @property
    def label(self) -> str:
        return label(self.holds)

    def to_json(self) -> dict[str, Any]:
        """id, holds, label, evidence, about. The claim's words and source are those of ``tedloc.paper.claims``."""
        told = {"holds": self.holds, "label": self.label, "evidence": self.evidence, "about": self.about}
        return {"id": self.claim.id} | told


def verdicts(found: Iterable[Verdict], caption: str = "") -> Table:
    """Several verdicts as one table: claim and its source, verdict, evidence, and what the verdict is about.

    The executed notebook carries all verdicts as data too, from which the page *What holds* is made.
    """
    found = list(found)
    frame = pd.DataFrame(
        {
            "verdict": [item.label for item in found],
            "evidence": [item.evidence for item in found],
            "about": [item.about for item in found],
        },
        index=pd.Index([f"{item.claim.text}\n{item.claim.source}" for item in found], name="claim"),
    )
    colours = {item.label: colour(item.holds) for item in found}
    return Table(frame, frame, caption, colours, data={VERDICTS: [item.to_json() for item in found]})


def label(holds: bool | None) -> str:
    """The plain word for a verdict."""
    return _LABELS[holds][0]


def colour(holds: bool | None) -> str:
    """The CSS colour that a verdict is written in."""
    return _LABELS[holds][1]
