"""How every table of the book looks: the paper's number, ours, the difference, and what ours is measured on.

``comparison`` puts measured numbers beside printed ones, ``table`` shows any other frame, ``verdicts`` says
claim by claim whether it holds. All give a ``Table``, which shows itself as HTML (light and dark, wide
tables scroll in their own box), as Markdown and as plain text.
"""

import html
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from tedloc import paths
from tedloc.errors import UserError

NOT_RUN = "not run here"
MISSING = "–"
PROVENANCE = ("profile", "dataset", "split", "num_images", "seeds", "device", "date", "commit", "synthetic",
              "threshold")  # fmt: skip

# Blue, orange and grey keep apart for every common colour blindness. The book's style sheet knows the shade that can
# be read on its ground, light or dark; elsewhere the one given here holds.
_LABELS = {
    True: ("holds", "var(--tedloc-good, #0b84c4)"),
    False: ("does not hold", "var(--tedloc-bad, #d55e00)"),
    None: ("cannot be decided here", "var(--tedloc-open, #808080)"),
}

_STYLES = [
    {"selector": "", "props": "border-collapse: collapse; margin: 0; font-size: 0.9em; width: auto;"},
    {"selector": "th, td", "props": "padding: 0.3em 0.7em; vertical-align: top;"},
    {
        "selector": "td",
        "props": "text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap;",
    },
    {
        "selector": "th.row_heading, th.index_name, th.blank",
        "props": "text-align: left; font-weight: 500; min-width: 7em;",
    },
    {"selector": "th.col_heading", "props": "text-align: right; vertical-align: bottom;"},
    {"selector": "td.aside", "props": "opacity: 0.65; font-style: italic;"},
]


@dataclass(frozen=True, eq=False)
class Table:
    """A finished table: ``cells`` as shown (text), ``numbers`` behind them, one caption line."""

    cells: pd.DataFrame
    numbers: pd.DataFrame
    caption: str = ""
    colours: Mapping[str, str] | None = None  # text of a cell -> colour
    asides: frozenset[str] = frozenset({NOT_RUN, MISSING})  # texts that stand where a number is not

    def styler(self) -> Styler:
        """The pandas Styler behind the HTML, for those who want to restyle it."""
        styles = list(_STYLES)
        for position, width in enumerate(map(self._text_width, self._columns())):
            if width:
                props = f"text-align: left; white-space: normal; min-width: {min(width / 2.5, 22):.0f}em;"
                styles.append({"selector": f"td.col{position}, th.col_heading.col{position}", "props": props})
        if max(map(len, map(str, self.cells.index)), default=0) > 40:
            styles.append({"selector": "th.row_heading", "props": "min-width: 13em;"})
        if self.cells.columns.nlevels > 1:
            styles.append({"selector": "th.col_heading.level0", "props": "text-align: center;"})
        cells = self.cells
        if cells.columns.nlevels == 1:  # the index's name moves into the corner instead of a line of its own
            cells = cells.rename_axis(index=None, columns=cells.index.name)
        if not cells.index.is_unique:
            cells = cells.set_axis(_grouped(cells.index), axis=0)
        styler = cells.style.format(html.escape).set_table_attributes('class="dataframe"')
        styler = styler.set_table_styles(styles, overwrite=False)
        styler = styler.set_td_classes(cells.map(lambda cell: "aside" if cell in self.asides else ""))
        for cell, colour in (self.colours or {}).items():
            styler = styler.map(
                lambda shown, cell=cell, colour=colour: _emphasis(colour) if shown == cell else ""
            )
        return styler

    def _text_width(self, cells: Sequence[str]) -> int:
        """0 for a column of numbers, which stands on the right; else the length of its longest text."""
        words = (cell for cell in cells if cell not in self.asides)
        return max((len(cell) for cell in words if cell.lstrip("+−")[:1] not in "0123456789"), default=0)

    def _columns(self) -> list[list[str]]:
        return [list(self.cells.iloc[:, position]) for position in range(self.cells.shape[1])]

    def _repr_html_(self) -> str:
        return (
            f'<div class="tedloc-table" style="margin: 0.8em 0"><div style="overflow-x: auto">'
            f"{self.styler().to_html()}</div>"
            f'<div style="font-size: 0.85em; opacity: 0.8">{html.escape(self.caption)}</div>'
            "</div>"
        )

    def to_markdown(self) -> str:
        """A pipe table with the caption line below."""
        header = [_flat(self.cells.index.name or "")] + [_flat(name) for name in self.cells.columns]
        rows = [
            [_flat(name), *map(str, cells)]
            for name, cells in zip(self.cells.index, self.cells.values, strict=True)
        ]
        aligned = [":--"] + [":--" if self._text_width(cells) else "--:" for cells in self._columns()]
        lines = [
            "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
            for row in [header, aligned, *rows]
        ]
        return "\n".join(lines) + (f"\n\n*{self.caption}*" if self.caption else "")

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        return self.cells.to_string() + (f"\n{self.caption}" if self.caption else "")


def _flat(name) -> str:
    return " ".join(str(part) for part in name if part != "") if isinstance(name, tuple) else str(name)


def _grouped(labels: Iterable) -> list[str]:
    """Blank a label that repeats the one above; zero-width spaces keep all apart, as the Styler needs."""
    shown, above = [], None
    for position, label in enumerate(labels):
        shown.append(("" if label == above else str(label)) + "\u200b" * position)
        above = label
    return shown


def _emphasis(colour: str) -> str:
    return f"color: {colour}; font-weight: 600"


def number(value: float | None, decimals: int = 1, signed: bool = False) -> str:
    """Fixed decimals with a true minus sign and thin thousands; a dash for None and NaN."""
    if value is None or not np.isfinite(value):
        return MISSING
    value = round(value, decimals) + 0.0  # no sign on what shows as zero
    text = f"{value:{'+' if signed and value else ''},.{decimals}f}"
    return text.replace(",", " ").replace("-", "−")


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


def badge(provenance: Mapping) -> str:
    """One line that says what numbers were measured on. Raises ``UserError`` for a key it does not know."""
    unknown = set(provenance) - set(PROVENANCE)
    if unknown:
        raise UserError(f"provenance has unknown keys {sorted(unknown)}; known are {', '.join(PROVENANCE)}")
    known = {key: value for key, value in provenance.items() if value not in (None, "")}
    parts = []
    if "dataset" in known:
        kind = " (synthetic images)" if known.get("synthetic") else ""
        parts.append(f"{known['dataset']}{kind}" + (f", {known['split']} split" if "split" in known else ""))
    if "num_images" in known:
        parts.append(f"{number(known['num_images'], 0)} images")
    if "seeds" in known:
        seeds = [known["seeds"]] if np.isscalar(known["seeds"]) else list(known["seeds"])
        parts.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    if "threshold" in known:
        parts.append(f"threshold: {known['threshold']}")
    parts += [str(known[key]) for key in ("device", "date") if key in known]
    parts += [f"{key} {known[key]}" for key in ("commit", "profile") if key in known]
    return "Measured on " + " · ".join(parts) if parts else ""


def measured_on(**known) -> dict:
    """A provenance dict with today's date and the checkout's commit filled in."""
    try:
        command = ["git", "-C", str(paths.root()), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = None
    filled = {"date": date.today().isoformat(), "commit": commit} | known
    badge(filled)  # refuses unknown keys where they are written, not where they are shown
    return filled


def table(
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
    return Table(cells, frame, _caption(caption, provenance), colours)


def _cell(value, decimals: int) -> str:
    if value is None or isinstance(value, (bool, np.bool_)):
        return {None: MISSING, True: "yes", False: "no"}[value if value is None else bool(value)]
    return number(value, decimals) if isinstance(value, (int, float, np.number)) else str(value)


def _caption(caption: str, provenance: Mapping | None) -> str:
    return " ".join(part for part in (caption, badge(provenance) if provenance else "") if part)


def comparison(
    rows: Iterable[Mapping],
    provenance: Mapping | None = None,
    paper_dataset: str | None = None,
    caption: str = "",
    decimals: int = 1,
) -> Table:
    """Paper, ours and their difference, side by side.

    rows: mappings with ``row`` (label), ``paper`` (float or None), ``ours`` (float, one value a seed, None
        for "not run here", or a text that says why there is none, "needs weights: CLIP") and, for tables with
        several metrics, ``column``.
    provenance: see ``PROVENANCE``; becomes the caption line.
    paper_dataset: the data set of the paper's numbers. When ours come from other data the difference would
        compare two data sets, so it is left out and the caption says so.
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
    return Table(cells.fillna(MISSING), numbers, _caption(caption.strip(), provenance),
                 asides=frozenset({NOT_RUN, MISSING} | reasons))  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """A claim, whether it holds (None: cannot be decided here), the evidence, perhaps a sharper word."""

    claim: str
    holds: bool | None
    evidence: str
    word: str = ""

    @property
    def label(self) -> str:
        return self.word or _LABELS[self.holds][0]

    def _repr_html_(self) -> str:
        return verdicts([self])._repr_html_()

    def _repr_markdown_(self) -> str:
        return f"**{self.label}**: {self.claim} ({self.evidence})"


def verdict(claim: str, holds: bool | None, evidence: str, word: str = "") -> Verdict:
    """Say "holds", "does not hold" or "cannot be decided here", and why; ``word`` replaces that label."""
    return Verdict(claim, None if holds is None else bool(holds), evidence, word)


def verdicts(found: Iterable[Verdict], caption: str = "") -> Table:
    """Several verdicts as one table: claim, verdict, evidence."""
    found = list(found)
    frame = pd.DataFrame(
        {"verdict": [item.label for item in found], "evidence": [item.evidence for item in found]},
        index=pd.Index([item.claim for item in found], name="claim"),
    )
    return Table(frame, frame, caption, {item.label: _LABELS[item.holds][1] for item in found})
