"""How long a book still takes: at the paper's scale hours, most of them inside one chapter."""

import json
from collections.abc import Mapping

from tedloc import paths

NEWS = 60.0  # seconds between two looks at what a running chapter is at


def duration(seconds: float) -> str:
    """In the unit that fits: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Left:
    """Chapters that are not done yet, by name.

    earlier: seconds that a chapter took before (``chapters.earlier_seconds``), None where that is not known; such a one
    is taken for as long as the mean of the others
    """

    def __init__(self, earlier: Mapping[str, float | None]):
        self.earlier, self.took = dict(earlier), {}

    def done(self, name: str, seconds: float) -> None:
        self.took[name] = seconds

    def skip(self, name: str) -> None:
        """It is current already, or left out."""
        self.earlier.pop(name, None)

    def _known(self) -> list[float]:
        """Seconds of the chapters that are done or have been executed before."""
        found = {name: seconds for name, seconds in self.earlier.items() if seconds is not None} | self.took
        return list(found.values())

    def expected(self, name: str) -> float:
        """Seconds that a chapter is taken for; 0 where nothing at all is known."""
        earlier, known = self.earlier[name], self._known()
        return sum(known) / max(len(known), 1) if earlier is None else earlier

    def words(self, places: int = 1) -> str:
        """How many of how many are done, and what the others will take, so many at a time."""
        open_ = [name for name in self.earlier if name not in self.took]
        count = f"{len(self.took)} of {len(self.earlier)} chapters"
        if not open_ or not self._known():
            return count
        seconds = sum(map(self.expected, open_))
        return f"{count}, about {duration(seconds / min(places, len(open_)))} left"


def news(since: float) -> str | None:
    """What the run that wrote to its log last is at, if one did since then (seconds of the clock): its folder, epoch,
    loss and, where it says so, the time that it still needs."""
    times = {log: log.stat().st_mtime for name in ("log", "progress") for log in paths.runs().rglob(f"{name}.jsonl")}
    recent = [log for log, time in times.items() if time >= since]
    if not recent:
        return None
    log = max(recent, key=times.get)
    try:
        line = json.loads(log.read_text().splitlines()[-1])
    except (OSError, ValueError, IndexError):  # it ended just now, or is written at this moment
        return None
    left = f", {duration(line['seconds_left'])} left" if "seconds_left" in line else ""
    return f"{log.parent.relative_to(paths.runs())}: epoch {line['epoch']}, loss {line['loss']:.3f}{left}"
