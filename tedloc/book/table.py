"""A table as readers meet it: HTML with badges of provenance and a CSV to take away, Markdown, plain text.

``tedloc.book.report`` makes the tables; here is how one shows itself. The HTML stands by itself (in Jupyter, say); in
the book ``_static/tables.css`` gives it its look and ``_static/tables.js`` lets readers sort it.
"""

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from tedloc.errors import UserError

NOT_RUN = "not run here"
MISSING = "–"
PROVENANCE = (
    "profile",
    "dataset",
    "split",
    "num_images",
    "seeds",
    "device",
    "date",
    "commit",
    "synthetic",
    "threshold",
)
LARGEST_CSV = 24_000  # bytes; a page carries the CSV of every table that is not larger

_STYLES = [
    {"selector": "", "props": "border-collapse: collapse; margin: 0; font-size: 0.9em; width: auto;"},
    {"selector": "th, td", "props": "padding: 0.3em 0.5em; vertical-align: top;"},
    {
        "selector": "td",
        "props": "text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap;",
    },
    {
        "selector": "th.row_heading, th.index_name, th.blank",
        "props": "text-align: left; font-weight: 500; min-width: 7em;",
    },
    {"selector": "th.col_heading", "props": "text-align: right; vertical-align: bottom;"},
    {"selector": "td.aside", "props": "font-style: italic;"},
]
_GROUND = "color-mix(in srgb, var(--tedloc-trained, #0b84c4) 13%, var(--pst-color-background, #fff))"
_MARKS = {  # how rows of a kind stand out
    "ours": f"background-color: {_GROUND};",
    "apart": "color: var(--pst-color-text-muted, #666);",
    "first apart": "border-top: 2px solid var(--pst-color-text-muted, #666);",
}
_SPREAD = re.compile(r"([+−]?[\d\u2009 .]+) (± .+|\(.+\))")  # a number, and what stands smaller below it
_EM, _BESIDE = 0.53, 54  # a character's width, and that of the text column, in ems of a table's type
_PILL = "display: inline-block; margin: 0 0.3em 0.25em 0; padding: 0 0.5em; border: 1px solid; border-radius: 1em;"


def number(value: float | None, decimals: int = 1, signed: bool = False) -> str:
    """Fixed decimals with a true minus sign and thin thousands; a dash for None and NaN."""
    if value is None or not np.isfinite(value):
        return MISSING
    value = round(value, decimals) + 0.0  # no sign on what shows as zero
    text = f"{value:{'+' if signed and value else ''},.{decimals}f}"
    return text.replace(",", " ").replace("-", "−")


def badges(provenance: Mapping | None) -> list[tuple[str, str]]:
    """What numbers were measured on, as pairs of what is said and its words: ``("seeds", "seeds 0, 1")``.

    Raises ``UserError`` for a key that is not in ``PROVENANCE``.
    """
    provenance = provenance or {}
    unknown = set(provenance) - set(PROVENANCE)
    if unknown:
        raise UserError(f"provenance has unknown keys {sorted(unknown)}; known are {', '.join(PROVENANCE)}")
    known = {key: value for key, value in provenance.items() if value not in (None, "")}
    parts = []
    if "dataset" in known:
        parts.append(("dataset", known["dataset"] + (f", {known['split']} split" if "split" in known else "")))
        if known.get("synthetic"):
            parts.append(("synthetic", "synthetic images"))
    if "num_images" in known:
        parts.append(("num_images", f"{number(known['num_images'], 0)} images"))
    if "seeds" in known:
        seeds = [known["seeds"]] if np.isscalar(known["seeds"]) else list(known["seeds"])
        parts.append(("seeds", f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"))
    if "threshold" in known:
        parts.append(("threshold", f"threshold: {known['threshold']}"))
    parts += [(key, str(known[key])) for key in ("device", "date") if key in known]
    return parts + [(key, f"{key} {known[key]}") for key in ("commit", "profile") if key in known]


def badge(provenance: Mapping | None) -> str:
    """The badges as one line of text; empty when there are none."""
    parts = [words for _, words in badges(provenance)]
    return "Measured on " + " · ".join(parts) if parts else ""


@dataclass(frozen=True, eq=False)
class Table:
    """A finished table: ``cells`` as shown (text), ``numbers`` behind them, words below, where they come from.

    cells: text; lines after the first are a smaller note below it
    colours: text of a cell (of its first line) -> CSS colour; asides: texts that stand where a number is not
    marks: label of a row -> "ours", or "apart" for one that is no method; best: (row, column) of cells that stand out
    data: name -> JSON, for programs that read the executed notebook (``tedloc.book.findings``); it goes into the
        output's metadata, since Sphinx warns of MIME types that it cannot show
    """

    cells: pd.DataFrame
    numbers: pd.DataFrame
    words: str = ""
    colours: Mapping[str, str] | None = None
    asides: frozenset[str] = frozenset({NOT_RUN, MISSING})
    provenance: Mapping | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    best: frozenset[tuple[int, int]] = frozenset()

    @property
    def caption(self) -> str:
        """Words and badges as one line of text."""
        return " ".join(part for part in (self.words, badge(self.provenance)) if part)

    def styler(self) -> Styler:
        """The pandas Styler behind the HTML, for those who want to restyle it."""
        styles = list(_STYLES)
        for position, width in enumerate(map(self._text_width, self._columns())):
            if width:
                props = f"text-align: left; white-space: normal; min-width: {self._least(width, position):.0f}em;"
                styles.append({"selector": f"td.col{position}, th.col_heading.col{position}", "props": props})
        if max(map(len, map(str, self.cells.index)), default=0) > 40:
            styles.append({"selector": "th.row_heading", "props": "min-width: 11em; white-space: normal;"})
        for position, label in enumerate(self.cells.index):
            if kind := self.marks.get(label):
                first = kind == "apart" and self.marks.get(self.cells.index[max(position - 1, 0)]) != kind
                look = _MARKS[kind] + (_MARKS["first apart"] if first else "")
                styles.append({"selector": f"th.row{position}, td.row{position}", "props": look})
        styles += [{"selector": f"td.row{row}.col{column}", "props": "font-weight: 700;"} for row, column in self.best]
        if self.cells.columns.nlevels > 1:
            styles.append({"selector": "th.col_heading.level0", "props": "text-align: center;"})
        cells = self.cells
        if cells.columns.nlevels == 1:  # the index's name moves into the corner instead of a line of its own
            cells = cells.rename_axis(index=None, columns=cells.index.name)
        if not cells.index.is_unique:
            cells = cells.set_axis(_grouped(cells.index), axis=0)
        styler = cells.style.format(_html).set_table_attributes('class="dataframe"')
        if all(isinstance(label, str) for label in cells.index):
            styler = styler.format_index(_html)
        styler = styler.set_table_styles(styles, overwrite=False)
        styler = styler.set_td_classes(cells.map(self._class_of))
        for cell, colour in (self.colours or {}).items():
            styler = styler.map(
                lambda shown, cell=cell, colour=colour: (
                    f"color: {colour}; font-weight: 600" if shown.partition("\n")[0] == cell else ""
                )
            )
        return styler

    def _class_of(self, cell: str) -> str:
        if cell not in self.asides:
            return ""
        return "aside" if cell == MISSING else "aside not-run"

    def _text_width(self, cells: Sequence[str]) -> int:
        """0 for a column of numbers, which stands on the right; else the length of its longest text."""
        words = (cell for cell in cells if cell not in self.asides)
        return max((len(cell) for cell in words if cell.lstrip("+−")[:1] not in "0123456789"), default=0)

    def _least(self, width: int, position: int) -> float:
        """The least width of a column of text, in ems."""
        noted = any("\n" in cell for cell in self.cells.iloc[:, position])
        return min(width / 2.5, 11 if noted else 18)

    @property
    def classes(self) -> str:
        """Those of its HTML: ``words`` where a column is text, ``full-width`` where it needs more than the text's."""
        total, words = min(max((len(str(label)) for label in self.cells.index), default=0) * _EM, 11), False
        for position, cells in enumerate(self._columns()):
            if width := self._text_width(cells):
                words, need = True, self._least(width, position)
            else:
                parts = (part for cell in cells for part in _parts(cell.partition("\n")[0]))
                need = max((len(part) * _EM for part in parts), default=0)
            name = self.cells.columns[position]
            heads = (word for part in (name if isinstance(name, tuple) else (name,)) for word in str(part).split())
            total += max(need, max((len(word) * _EM + 1 for word in heads), default=0)) + 1
        return "tedloc-table" + " words" * words + " full-width" * (total > _BESIDE)

    def _columns(self) -> list[list[str]]:
        return [list(self.cells.iloc[:, position]) for position in range(self.cells.shape[1])]

    def csv(self) -> str:
        """The numbers behind the cells at full precision, below comment lines (#) that say what they are.

        A dash becomes an empty field; a word that stands where a number is not stays.
        """
        rows = pd.DataFrame(self.cells.to_numpy(dtype=object), dtype=object)
        for position in range(rows.shape[1]):
            exact = self.numbers.iloc[:, position]
            rows[position] = [_exact(shown, value) for shown, value in zip(rows[position], exact, strict=True)]
        rows.columns = [_flat(name) for name in self.cells.columns]
        rows.insert(0, _flat(self.cells.index.name or "row"), [_flat(name) for name in self.cells.index], True)
        rows = rows.map(lambda cell: cell.replace("\n", ": ") if isinstance(cell, str) else cell)
        about = [line for line in (self.words, badge(self.provenance)) if line]
        return "".join(f"# {line}\n" for line in about) + rows.to_csv(index=False)

    def _repr_html_(self) -> str:
        pills = "".join(
            f'<span role="listitem" class="tedloc-badge tedloc-{kind}" style="{_PILL}">{html.escape(words)}</span>'
            for kind, words in badges(self.provenance)
        )
        about = f'<div class="tedloc-words">{html.escape(self.words)}</div>' if self.words else ""
        about += f'<div class="tedloc-badges" role="list" aria-label="Measured on">{pills}</div>' if pills else ""
        return (
            f'<div class="{self.classes}" style="margin: 0.8em 0">'
            f'<div class="tedloc-scroll" style="overflow-x: auto">{self.styler().to_html()}</div>'
            f'<div class="tedloc-about" style="font-size: 0.85em; margin-top: 0.3em">{about}{self._download()}</div>'
            "</div>"
        )

    def _download(self) -> str:
        content = self.csv().encode()
        if len(content) > LARGEST_CSV or len(self.cells) < 2:
            return ""
        name = re.sub(r"[^a-z0-9]+", "-", self.words.lower())[:40].strip("-") or "table"
        data = base64.b64encode(content).decode()
        return (
            f'<a class="tedloc-csv" download="{name}.csv" href="data:text/csv;charset=utf-8;base64,{data}" '
            f'aria-label="Download this table as CSV">CSV</a>'
        )

    def to_markdown(self) -> str:
        """A pipe table with the caption line below."""
        header = [_flat(self.cells.index.name or "")] + [_flat(name) for name in self.cells.columns]
        rows = [
            [_flat(name), *map(str, cells)] for name, cells in zip(self.cells.index, self.cells.values, strict=True)
        ]
        aligned = [":--"] + [":--" if self._text_width(cells) else "--:" for cells in self._columns()]
        lines = [
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", ": ") for cell in row) + " |"
            for row in [header, aligned, *rows]
        ]
        return "\n".join(lines) + (f"\n\n*{self.caption}*" if self.caption else "")

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        return {}, dict(self.data)  # HTML, Markdown and text IPython asks for by their own names

    def __repr__(self) -> str:
        return self.cells.to_string() + (f"\n{self.caption}" if self.caption else "")


def _html(cell: str) -> str:
    first, *notes = cell.split("\n")
    value, *spread = _parts(first)
    style = "display: block; font-weight: 400; font-size: 0.9em;"
    below = [("spread", part) for part in spread] + [("note", note) for note in notes]
    shown = "".join(f'<span class="tedloc-{kind}" style="{style}">{html.escape(text)}</span>' for kind, text in below)
    return html.escape(value) + (" " * bool(spread)) + shown


def _parts(text: str) -> tuple[str, ...]:
    """A number and its spread, interval or remark, which stand below each other; or the text as it is."""
    found = _SPREAD.fullmatch(text)
    return found.groups() if found else (text,)


def _exact(shown: str, value: Any) -> Any:
    if shown == MISSING:
        return ""
    if isinstance(value, (float, np.floating)):
        return repr(float(value)) if np.isfinite(value) else shown
    return shown if value is None else value


def _flat(name) -> str:
    return " ".join(str(part) for part in name if part != "") if isinstance(name, tuple) else str(name)


def _grouped(labels: Iterable) -> list[str]:
    """Blank a label that repeats the one above; zero-width spaces keep all apart, as the Styler needs."""
    shown, above = [], None
    for position, label in enumerate(labels):
        shown.append(("" if label == above else str(label)) + "\u200b" * position)
        above = label
    return shown
