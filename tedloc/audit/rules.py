"""What the numbers of a localization table must satisfy, whoever measured them.

A check recomputes from ``tedloc.paper`` and returns a ``Finding``: the claim, a verdict in a word, evidence,
and what follows for the paper. ``tedloc.audit.tables`` holds the checks of the localization tables,
``tedloc.audit.setup`` those of cost, data, protocol, anchors and references. The rules are here:

Order   Top-1 Loc <= Top-5 Loc <= MaxBoxAcc, at every threshold and so for each one's best threshold.
Bounds  An image counts for Top-1 Loc if it is localised and classified. Of two shares a and b, at least
        a + b - 100 % and at most min(a, b) of the images have both (Frechet's bounds). The lower one needs
        one map and one class score behind all three numbers.
Counts  A percentage is n / N: over N images, not every two-decimal number can occur.
"""

import math
from dataclasses import dataclass

import pandas as pd

from tedloc import paper
from tedloc.paper import DATASETS, METRICS

CONSISTENT, PERMUTED, MISLABELLED = "consistent", "permuted columns", "mislabelled"
IMPOSSIBLE, UNDECIDED = "impossible", "cannot be decided"
REFUTED, IN_PART = "does not hold", "holds in part"
CUB_TEST_IMAGES = 5794
SLACK = 0.1  # the paper prints one decimal, cut off: a printed 71.3 may stand for anything in [71.3, 71.4)


@dataclass(frozen=True)
class Finding:
    """What the paper says, the verdict in a word, the numbers behind it, and what follows for the paper."""

    claim: str
    word: str
    evidence: str
    follows: str

    @property
    def holds(self) -> bool | None:
        """True where everything agrees, None where it cannot be decided or holds in part, else False."""
        return True if self.word == CONSISTENT else None if self.word in (UNDECIDED, IN_PART) else False


def localization(number: int) -> pd.DataFrame:
    """A localization table, one line a row and data set: row, dataset, the metrics (Table 5: and CL)."""
    wide = paper.printed_table(number).pivot(index=["row", "dataset"], columns="column", values="value")
    return wide.reset_index().rename_axis(columns=None)


def mended() -> pd.DataFrame:
    """Table 1 with every permuted row replaced by its columns in the right order."""
    table = localization(1)
    for row, dataset in permuted_rows():
        where = (table["row"] == row) & (table["dataset"] == dataset)
        table.loc[where, list(METRICS)] = [paper.own_value(row, metric, dataset) for metric in METRICS]
    return table


def broken_order(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Rows in which Top-1 Loc <= Top-5 Loc <= MaxBoxAcc fails by more than printing can explain."""
    top1, top5, box = (table[name] for name in ("Top-1 Loc", "Top-5 Loc", "MaxBoxAcc"))
    wrong = (top1 > top5 + SLACK) | (top5 > box + SLACK) | (top1 > box + SLACK)
    return list(table.loc[wrong, ["row", "dataset"]].itertuples(index=False, name=None))


def permuted_rows() -> list[tuple[str, str]]:
    """Rows of Table 1 that hold the published numbers in another order."""
    found = []
    for method in compared_methods():
        for dataset in DATASETS:
            theirs = [paper.own_value(method, metric, dataset) for metric in METRICS]
            ours = [paper.value(1, method, metric, dataset) for metric in METRICS]
            if None not in theirs and sorted(theirs) == sorted(ours) and theirs != ours:
                found.append((method, dataset))
    return found


def compared_methods() -> list[str]:
    """Rows of Table 1 that quote somebody else's numbers, in its order."""
    return [row for row in dict.fromkeys(paper.printed_table(1)["row"]) if row not in ("CLIP-ES", "TeD-Loc")]


def against_published() -> pd.DataFrame:
    """Every number of Table 1 beside the method's own; columns method to published, kind, and reading.

    reading: "same", "rounded", "cut off" (decimals dropped), "permuted", or "differs".
    """
    permuted, lines = set(permuted_rows()), []
    for method in compared_methods():
        for theirs in paper.published(method).itertuples():
            printed = paper.value(1, method, theirs.column, theirs.dataset)
            if (method, theirs.dataset) in permuted:
                reading = "permuted"
            else:
                reading = _reading(printed, theirs.value)
            lines.append((method, theirs.dataset, theirs.column, theirs.kind, printed, theirs.value, reading))
    return pd.DataFrame(lines, columns=["method", "dataset", "column", "kind", "printed", "published", "reading"])


def _reading(printed: float, published: float) -> str:
    if printed == published:
        return "same"
    if printed == round(published, 1):
        return "rounded"
    return "cut off" if printed == _cut(published, 1) else "differs"


def _cut(value: float, decimals: int) -> float:
    return math.floor(value * 10**decimals + 1e-9) / 10**decimals


def bounds(box: float, accuracy: float) -> tuple[float, float]:
    """Least and largest Top-1 Loc that MaxBoxAcc and classification accuracy (both in %) leave."""
    return max(0.0, box + accuracy - 100), min(box, accuracy)


def accuracy_bounds(box: float, top1: float) -> tuple[float, float]:
    """Least and largest classification accuracy that MaxBoxAcc and Top-1 Loc leave."""
    return top1, 100 - box + top1


def with_accuracy() -> pd.DataFrame:
    """Every row whose classification accuracy is stated, with the bounds low and high of its Top-1 Loc."""
    lines = []
    for row in ("TeD-Loc", "CLIP-ES"):
        for dataset in DATASETS:
            box, top1 = (paper.value(1, row, metric, dataset) for metric in METRICS[:2])
            lines.append((row, dataset, box, paper.claimed(row, "CL", dataset), top1))
    for row in ("without orthogonalization", "with orthogonalization"):
        numbers = (paper.value(5, row, name, "CUB") for name in ("MaxBoxAcc", "CL", "Top-1 Loc"))
        lines.append((f"Table 5, {row}", "CUB", *numbers))
    table = pd.DataFrame(lines, columns=["row", "dataset", "MaxBoxAcc", "CL", "Top-1 Loc"])
    table["low"], table["high"] = zip(*map(bounds, table["MaxBoxAcc"], table["CL"]), strict=True)
    return table


def gains(table: pd.DataFrame) -> dict[str, tuple[float, str]]:
    """By data set, TeD-Loc's lead in Top-1 Loc over the best other row, and whose that is."""
    found = {}
    for dataset in DATASETS:
        rows = table[table["dataset"] == dataset].set_index("row")["Top-1 Loc"]
        best = rows.drop("TeD-Loc").idxmax()
        found[dataset] = (round(rows["TeD-Loc"] - rows[best], 1), best)
    return found


def attainable(percent: str, images: int) -> tuple[bool, bool]:
    """Whether a printed percentage can be n / images rounded, and whether it can be that cut off."""
    decimals = len(percent.partition(".")[2])
    value, near = float(percent), round(float(percent) * images / 100)
    shares = [100 * n / images for n in range(near - 2, near + 3)]
    rounded = any(abs(round(share, decimals) - value) < 1e-9 for share in shares)
    return rounded, any(abs(_cut(share, decimals) - value) < 1e-9 for share in shares)


def number_text(value: int) -> str:
    return f"{value:,}".replace(",", " ")
