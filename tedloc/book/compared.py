"""All compared methods under one profile: the rows of Table 1, the runs behind them, and what the paper and the
methods' own publications print beside them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tedloc import paper, paths, runs
from tedloc.backbones import towers
from tedloc.book import evidence, report
from tedloc.book.evidence import HALF
from tedloc.data import at_hand, open_data
from tedloc.errors import UserError
from tedloc.methods import create
from tedloc.methods.registry import METHODS
from tedloc.metrics import baselines, compact
from tedloc.metrics.meter import LocalizationMeter
from tedloc.runs import kept
from tedloc.settings import Profile, as_record, dotted

# Methods of every kind that map the true class: from CLIP, from a classifier on the frozen encoder, without training,
# trained to localise, fine-tuned.
TEACHERS = ("clip-es", "head-cam", "cam", "grad-cam", "ddt", "c2am", "bas", "ts-cam")

# Settings of how a method is computed, which change no result beyond rounding.
EXECUTION = ("threads", "precision", "compile", "checkpoint_minutes", "keep_latents", "images")


@dataclass(frozen=True)
class Row:
    """A row of a table of results.

    label: as shown; method: its name in the registry; route: None for the method's headline
    backbone: the network that looks at the images; paper_row: its row in the paper's Table 1, if any
    lacks: what this machine lacks to run it under the profile, or None; seeded: whether seeds change its result
    leads: whether it is the first of its method's rows, beside which the paper's one row stands
    """

    label: str
    method: str
    route: str | None
    backbone: str
    paper_row: str | None
    lacks: str | None
    seeded: bool
    leads: bool = True

    @property
    def state(self) -> str:
        """``runs``, or what the machine lacks: ``needs weights: ...``."""
        return f"needs weights: {self.lacks}" if self.lacks else "runs"

    def requests(self, profile: Profile, seeds: Sequence[int]) -> list[runs.Request]:
        """The runs it needs, one a seed, also of a method without chance, since a seed is a world with its own images;
        none where it lacks something, be it in one world alone."""
        if self.lacks:
            return []
        routes = (self.route,) if self.route else ()
        asked = runs.grid(profile, method=self.method, seeds=seeds, routes=routes)
        return [request for request in asked if not request.made().lacks()]

    def route_of(self, run: runs.Run) -> str:
        """The route by which a run of its method is this row's."""
        return self.route or run.routes[0]

    def measured(self, found: Sequence[runs.Run], metric: str) -> list[float] | str:
        """The metric of its runs, one value a seed; for a row that was not run, what is lacking."""
        return self.state if self.lacks else [run.route(self.route_of(run))[metric] for run in found]

    def printed(self, column: str, dataset: str) -> float | None:
        """The paper's number beside it (``paper.quoted``); None for a method's other rows, since the paper has one."""
        return paper.quoted(1, self.paper_row, column, dataset) if self.leads else None


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
            leads = method.paper_row not in {row.paper_row for row in found}
            known = (method.backbone_name, method.paper_row, method.lacks(), method.seeded, leads)
            found.append(Row(label, name, route, *known))
    return found


def teachers(profile: Profile) -> list[str]:
    """Teachers to compare, as ``pseudo_labels.teacher`` names them: those of ``TEACHERS`` that apply and whose weights
    are on this machine, and TeD-Loc that the profile's own teacher taught."""
    made = {name: create(name, profile) for name in TEACHERS}
    able = [name for name, method in made.items() if method.applies() and not method.lacks()]
    return [*able, f"tedloc:{profile.pseudo_labels.teacher}"]


def unsearched(profile: Profile) -> dict[str, dict[str, Any]]:
    """What decides a method's result and no search chose, by method and by the setting's name within it: published, or
    set by hand. How it is computed (threads, precision, caches) is left out."""
    found = {}
    for name in METHODS:
        method = create(name, profile)
        if ":" in name or not (method.applies() and method.search()):
            continue
        if method.own is not None:
            parts = {f"methods.{method.base_name}": method.own}
        else:
            parts = {"pseudo_labels.clip_es": profile.pseudo_labels.clip_es}
            if name == "tedloc":
                parts = {part: getattr(profile, part) for part in ("decoder", "sampler", "loss", "optimiser")}
        every = dict(dotted({part: as_record(settings) for part, settings in parts.items()}))
        left = {key: value for key, value in every.items() if key not in method.search() and value is not None}
        short = {key.removeprefix(f"methods.{method.base_name}."): value for key, value in left.items()}
        found[name] = {key: value for key, value in short.items() if key.rpartition(".")[2] not in EXECUTION}
    return found


def unseeing(
    profile: Profile, names: tuple[str, str, str]
) -> dict[str, tuple[LocalizationMeter, LocalizationMeter | None]]:
    """What knows nothing of the image, by the names given, on test and validation: the best centred box, its size
    chosen on validation, the full-image box (test alone), and a centred Gaussian. Where the photos are not on the
    machine it is read from what is kept of it, and kept while evidence is made."""
    file = paths.EVIDENCE / profile.name / "unseeing.xz"
    if not at_hand(profile.data) and file.exists():
        stored = compact.unpack(file.read_bytes())
        return {name: (stored[f"test-{n}"], stored.get(f"val-{n}")) for n, name in enumerate(names)}
    grid, step = profile.evaluation.grid, profile.evaluation.step
    val, test = (open_data(profile.data, split) for split in ("val", "test"))
    size = baselines.centre_box(val.boxes, val.sizes, grid)
    centre = evidence.box_meter(size, test, grid), evidence.box_meter(size, val, grid)
    full = evidence.box_meter(baselines.FULL_IMAGE, test, grid), None
    gaussian = tuple(baselines.gaussian_meter(split, grid, step) for split in (test, val))
    found = dict(zip(names, (centre, full, gaussian), strict=True))
    if kept.making() and not profile.synthetic:
        meters = {
            f"{split}-{n}": meter
            for n, pair in enumerate(found.values())
            for split, meter in zip(("test", "val"), pair, strict=True)
            if meter is not None
        }
        with paths.replacing(file) as scratch:
            scratch.write_bytes(compact.pack(meters))
    return found


def read(found: Sequence[runs.Run]) -> bool:
    """Whether the first of a variant's runs is read from the results kept with the package, and not computed here."""
    return isinstance(found[0], kept.Kept)


def departures(
    requests: Mapping[str, Sequence[runs.Request]], found: Mapping[str, Sequence[runs.Run]], metric: str = HALF
) -> dict[str, tuple[float, float, float]]:
    """Where a run computed here leaves what was kept of the same run, by name: (value here, low, high), the last two
    the 95 % interval of the kept one over its images."""
    gone = {}
    for name, asked in requests.items():
        if asked and not read(found[name]) and (stored := kept.of(asked[0])):
            run = found[name][0]
            low, high = evidence.interval({0: stored.meter()}, metric)
            value = run.route(stored.routes[0])[metric]
            if not low <= value <= high:
                gone[name] = value, low, high
    return gone


def origin(profile: Profile, found: Mapping[str, Sequence[runs.Run]]) -> str:
    """Where a chapter's numbers come from, in words: the worlds, how many rows were computed here, which were read."""
    worlds = sorted({run.metrics["provenance"]["seed"] for some in found.values() for run in some})
    if not profile.synthetic:
        return f"Seeds {', '.join(map(str, worlds))}, on the same photos."
    settled = [name for name, some in found.items() if some and read(some)]
    here = [name for name, some in found.items() if some and not read(some)]
    later = [world for world in worlds if world in profile.judged]
    text = (
        f"A seed is a *world*: it draws other images, takes other towers and starts from other weights. Settings were "
        f"chosen in world {profile.seeds[0]}; "
    )
    text += (
        f"means and verdicts come from {report.plural(len(later), 'world')} ({', '.join(map(str, later))})"
        if later
        else "no other world is at hand, so there are no verdicts"
    )
    text += f". In world {profile.seeds[0]}, {len(here)} of {len(here) + len(settled)} rows were computed here"
    return text + (f", and read from the results kept with the package: {', '.join(settled)}." if settled else ".")


def hard_clip(profile: Profile) -> dict[str, str]:
    """Changes (of ``runs.grid``) to texts and pseudo-labels of the aviary's second CLIP, in whose space the names of a
    family nearly coincide; none for other images, and where not both are of the first."""
    name = "aviary/clip-hard"
    if profile.data.name != "aviary" or not profile.anchors.text == profile.pseudo_labels.clip == "aviary/clip":
        return {}
    return {"anchors__text": name, "pseudo_labels__clip": name}


def with_towers(requests: Iterable[runs.Request]) -> list[runs.Request]:
    """The requests that can be had: for worlds whose aviary towers ship with the package, or whose results are kept.
    Not every world has a hard CLIP."""
    shipped = {f"aviary/{name}" for name in towers.records()}

    def named(profile: Profile) -> set[str]:
        every = (profile.encoder.name, profile.anchors.text, profile.pseudo_labels.clip)
        return {name for name in every if name.startswith("aviary/")}

    return [request for request in requests if named(request.profile) <= shipped or kept.holds(request)]


def over_worlds(
    profile: Profile, found: Sequence[runs.Run], title: str, value: Callable[[runs.Run], float]
) -> dict[tuple[str, str], str]:
    """Cells of a table's row: a value's mean ± sd over the worlds that decide and, where worlds are drawn, beside it
    the first world's. found: all runs of one variant, the first world's first"""
    (decided,) = evidence.decisive(profile, {title: found}).values()
    cells = {(title, "mean ± sd"): report.measured([value(run) for run in decided])}
    if profile.synthetic:
        cells[title, f"world {profile.seeds[0]}"] = report.number(value(found[0]))
    return cells


def beside_own(methods: Iterable[str]) -> pd.DataFrame:
    """Rows of Table 1, each number of the "paper" beside "its own", what the method itself reports: columns (metric and
    data set, source)."""
    lines = {
        method: {
            (f"{column}, {dataset}", source): value
            for dataset in paper.DATASETS
            for column in paper.METRICS
            for source, value in (
                ("paper", paper.value(1, method, column, dataset)),
                ("its own", paper.own_value(method, column, dataset)),
            )
        }
        for method in methods
    }
    return pd.DataFrame.from_dict(lines, orient="index").astype(float)


def published(method: str) -> report.Table:
    """What a method's own publication or repository reports, beside the paper's Table 1."""
    beside = beside_own([method])
    lines = {
        words: beside.xs(source, axis=1, level=1).loc[method]
        for words, source in (("its own", "its own"), ("in the paper's Table 1", "paper"))
    }
    sources = "; ".join(dict.fromkeys(paper.published(method)["source"]))
    return report.plain_table(
        pd.DataFrame(lines).T.rename_axis("source of the numbers"),
        f"Published numbers of {method} (%), quoted. Its own: {sources}.",
    )


def taken(rows: Mapping[str, Row], found: Mapping[str, Sequence[runs.Run]], images: int) -> pd.DataFrame:
    """What each method takes, as text: its backbone, seeds, parameters, seconds of training and of test by its first
    run. rows, found: by label; images: of the test split"""
    lines = {}
    for label, row in rows.items():
        run = found[label][0]
        used = run.metrics["provenance"]["seconds"]
        lines[label] = {
            "backbone": row.backbone,
            "seeds": str(len(found[label])) if row.seeded else report.MISSING,
            # a classifier that comes ready is no part of the run, and is not counted
            "parameters (M)": report.number(count / 1e6, 2) if (count := run.metrics["parameters"]) else report.MISSING,
            "training (s)": report.number(used["fit"], 0) if row.seeded else report.MISSING,
            "test (ms an image)": report.number(1000 * used["test"] / images, 1),
        }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("method")
