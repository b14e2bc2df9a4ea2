"""What is wrong with somebody's files, gathered, so that they are told of all of it at once."""

from pathlib import Path
from typing import NoReturn

from tedloc.errors import UserError

SHOWN = 5  # places named of one kind of problem


class Problems:
    """Problems by kind. A kind is what is wrong and what to do; a problem of it is a place (file, line, image)."""

    def __init__(self, where: Path):
        self.where = where
        self.found: dict[str, list[str]] = {}

    def add(self, kind: str, place: str) -> None:
        self.found.setdefault(kind, []).append(place)

    def stop(self) -> NoReturn:
        """Raise a ``UserError`` with one line a kind: how many, and the first places."""
        lines = []
        for kind, places in self.found.items():
            more = f" and {len(places) - SHOWN:,} more" if len(places) > SHOWN else ""
            lines.append(f"  {kind} ({len(places):,}): {', '.join(places[:SHOWN])}{more}")
        total = sum(map(len, self.found.values()))
        raise UserError(f"{total:,} problem{'s' * (total > 1)} in {self.where}:\n" + "\n".join(lines))

    def check(self) -> None:
        """Raise if anything was found."""
        if self.found:
            self.stop()
