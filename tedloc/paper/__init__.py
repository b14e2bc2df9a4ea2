"""What the paper and the compared methods' own publications print, as data.

``tables.csv``     every number of Tables 1 to 6 of the paper (arXiv 2501.12632v1), digit for digit
``published.csv``  what each compared method's own publication or repository reports
``claims.csv``     the claims that the book tests, each with the sentence it comes from and what would decide it
``stated.csv``     numbers that the paper's running text states, each with the words around it
``quotes.csv``     statements that hold no number, word for word
``backbones.csv``  the two backbone columns of Table 1, and what each method's own table says
``thresholds.csv`` how each method's released code chooses the threshold that turns a map into a box
``elsewhere.csv``  facts from other public sources that the paper's numbers are held against

Values are kept as text, because "70.0" and "70" differ in what they say about rounding; ``value`` and
``published`` give floats. Methods carry their field names ("GenPromp" where the paper prints "GenPrompt").
"""

import csv
from dataclasses import dataclass
from functools import cache

import pandas as pd

from tedloc import paths
from tedloc.errors import UserError, choose

METRICS = ("MaxBoxAcc", "Top-1 Loc", "Top-5 Loc")
DATASETS = ("CUB", "ILSVRC")
OWN = "not in the paper"  # the source of a claim that is a control of ours


@cache
def _records(name: str) -> list[dict[str, str]]:
    with open(paths.PAPER / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _read(name: str) -> pd.DataFrame:
    return pd.DataFrame(_records(name))


def printed() -> pd.DataFrame:
    """Every number of the paper's tables, in the paper's order, as text.

    Columns: table, row, printed (the row's label as the paper prints it), column, dataset, value, unit, note.
    """
    return _read("tables")


def stated() -> pd.DataFrame:
    """Numbers stated in the running text: section, row, column, dataset, value, unit, quote."""
    return _read("stated")


@dataclass(frozen=True)
class Claim:
    """A claim that the book tests, as it was fixed before any result of the present evidence.

    chapter: the notebook that tests it; source: where the paper makes it, or ``OWN`` for a control of ours
    text: the claim in our words; sentence: what the paper says; metric: by what it is decided; speaks_for,
    speaks_against: what would; images: False for arithmetic and clocks, which no data set can decide
    """

    id: str
    chapter: str
    source: str
    text: str
    sentence: str
    metric: str
    speaks_for: str
    speaks_against: str
    images: bool

    @property
    def own(self) -> bool:
        """Whether it is a control of ours."""
        return self.source == OWN


CLAIM_COLUMNS = ("id", "chapter", "source", "claim", "sentence", "metric", "for", "against")  # in the fields' order


@cache
def claims() -> dict[str, Claim]:
    """Every claim by its id, in the chapters' order."""
    return {
        row["id"]: Claim(*(row[name] for name in CLAIM_COLUMNS), images=row["images"] == "yes")
        for row in _records("claims")
    }


def claim(name: str) -> Claim:
    """One claim by its id. Raises ``UserError`` for an unknown one."""
    choose("claim", name, set(claims()))
    return claims()[name]


def own_value(method: str, column: str, dataset: str) -> float | None:
    """What a method itself reports in one column, a journal before a conference version; None if nothing."""
    rows = [
        entry
        for entry in _records("published")
        if (entry["method"], entry["column"], entry["dataset"]) == (method, column, dataset)
    ]
    rows.sort(key=lambda entry: entry["kind"] == "conference")
    return float(rows[0]["value"]) if rows else None


def quotes(topic: str) -> list[str]:
    """What the paper says on a topic, word for word."""
    everything = _read("quotes")
    choose("topic", topic, set(everything["topic"]))
    return list(everything.loc[everything["topic"] == topic, "quote"])


def thresholds() -> pd.DataFrame:
    """How released code picks the box threshold: method, rule, cub, ilsvrc, source."""
    return _read("thresholds")


def elsewhere(topic: str) -> pd.DataFrame:
    """Facts from other public sources: row, column, dataset, value (float), unit, source, note."""
    everything = _read("elsewhere")
    choose("topic", topic, set(everything["topic"]))
    rows = everything[everything["topic"] == topic].drop(columns="topic")
    return rows.assign(value=pd.to_numeric(rows["value"])).reset_index(drop=True)


def claimed(row: str, column: str, dataset: str = "") -> float:
    """One number of the running text: ``claimed("TeD-Loc", "CL", "CUB")`` is 93.0."""
    everything = _read("stated")
    wanted = (everything["row"] == row) & (everything["column"] == column) & (everything["dataset"] == dataset)
    if wanted.sum() != 1:
        raise UserError(f"the paper's text states no single number for {row}, {column}, {dataset or 'no data set'}")
    return float(everything.loc[wanted, "value"].iloc[0])


def backbones() -> pd.DataFrame:
    """Table 1's backbone headers: method, classifier, localizer (printed) and the same two as published."""
    return _read("backbones")


def printed_table(number: int) -> pd.DataFrame:
    """One table of the paper, one row a number: row, column, dataset, value (float, NaN for a dash), unit."""
    everything = _read("tables")
    choose("table of the paper", str(number), set(everything["table"]))
    rows = everything[everything["table"] == str(number)].drop(columns=["table", "printed", "note"])
    return rows.assign(value=pd.to_numeric(rows["value"])).reset_index(drop=True)


def value(table: int, row: str, column: str, dataset: str = "") -> float:
    """One number of the paper: ``value(table=1, row="TeD-Loc", column="MaxBoxAcc", dataset="CUB")`` is 98.7.

    NaN where the paper prints a dash. Raises ``UserError`` when the paper has no such entry.
    """
    entries = _records("tables")
    where = {"table": str(table), "row": row, "column": column, "dataset": dataset}
    for name, wanted in where.items():
        choose(f"{name} (Table {table}, {row}, {column})", wanted, {entry[name] for entry in entries})
        entries = [entry for entry in entries if entry[name] == wanted]
    return float(entries[0]["value"] or "nan")


def quoted(number: int, row: str | None, column: str, dataset: str) -> float | None:
    """What the paper prints of a row, to stand beside a number of ours: its table's number or, where the table has no
    such column (the classification accuracies of Table 1's rows), that of the running text. None where it prints none.

    column: as the book has it, "Top-1 CL" for the paper's "CL"; row: None for a row that is not the paper's
    """
    column = "CL" if column == "Top-1 CL" else column
    for entry in [e for e in _records("tables") if e["table"] == str(number)] + _records("stated"):
        if (entry["row"], entry["column"], entry["dataset"]) == (row, column, dataset):
            return float(entry["value"]) if entry["value"] else None
    return None


def published(method: str, kind: str | None = None) -> pd.DataFrame:
    """What a compared method reports itself: column, dataset, value (float), kind, source, note.

    kind: which version where there are several ("journal", "conference", ...); by default all of them.
    """
    everything = _read("published")
    choose("published method", method, set(everything["method"]))
    rows = everything[everything["method"] == method]
    if kind is not None:
        choose(f"version of {method}", kind, set(rows["kind"]))
        rows = rows[rows["kind"] == kind]
    rows = rows.drop(columns="method")
    return rows.assign(value=pd.to_numeric(rows["value"])).reset_index(drop=True)
