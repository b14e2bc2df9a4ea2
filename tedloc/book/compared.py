"""All compared methods under one profile: the rows of Table 1, and the runs behind them."""

from collections.abc import Sequence
from dataclasses import dataclass

from tedloc import runs
from tedloc.errors import UserError
from tedloc.methods import create
from tedloc.methods.registry import METHODS
from tedloc.settings import Profile

# Methods of every kind that map the true class: from CLIP, from a classifier on the frozen encoder, without training,
# trained to localise, fine-tuned.
TEACHERS = ("clip-es", "head-cam", "cam", "grad-cam", "ddt", "c2am", "bas", "ts-cam")


@dataclass(frozen=True)
class Row:
    """A row of a table of results.

    label: as shown; method: its name in the registry; route: None for the method's headline
    backbone: the network that looks at the images; paper_row: its row in the paper's Table 1, if any
    lacks: what this machine lacks to run it under the profile, or None; seeded: whether seeds change its result
    """

    label: str
    method: str
    route: str | None
    backbone: str
    paper_row: str | None
    lacks: str | None
    seeded: bool

    def requests(self, profile: Profile, seeds: Sequence[int]) -> list[runs.Request]:
        """The runs it needs: one a seed, or a single one for a method without chance; none when it lacks something."""
        if self.lacks:
            return []
        routes = (self.route,) if self.route else ()
        return runs.grid(profile, method=self.method, seeds=seeds if self.seeded else seeds[:1], routes=routes)


def teacher(profile: Profile, found: Sequence[Row]) -> tuple[Row, Row]:
    """The rows of TeD-Loc's teacher: its map of the true class and of the predicted one.

    Raises ``UserError`` when the teacher's weights are not on this machine: without them there is no TeD-Loc.
    """
    own = [row for row in found if row.method == profile.pseudo_labels.teacher]
    if not own or own[0].lacks:
        what = own[0].lacks if own else "a data set that it applies to"
        raise UserError(
            f"TeD-Loc's teacher {profile.pseudo_labels.teacher!r} needs {what}; bring data and weights with "
            f"`python data_scripts/prefetch.py fetch --profile {profile.name}`, or choose another teacher"
        )
    return own[0], own[-1]


def rows(profile: Profile) -> list[Row]:
    """Every method that applies, in the registry's order; methods that show two routes stand in two rows."""
    found = []
    for name in METHODS:
        method = create(name, profile)
        if not method.applies():
            continue
        for label, route in method.rows().items():
            found.append(Row(label, name, route, method.backbone_name, method.paper_row, method.lacks(), method.seeded))
    return found


def teachers(profile: Profile) -> list[str]:
    """Teachers to compare, as ``pseudo_labels.teacher`` names them: those of ``TEACHERS`` that apply and whose weights
    are on this machine, and TeD-Loc that the profile's own teacher taught."""
    made = {name: create(name, profile) for name in TEACHERS}
    able = [name for name, method in made.items() if method.applies() and not method.lacks()]
    return [*able, f"tedloc:{profile.pseudo_labels.teacher}"]
