"""Results that are kept with the package: what verdicts need of every run behind them, some kilobytes each.

A book that is built in minutes cannot train every method in six worlds. ``make evidence`` does, in hours, and keeps of
each run its metrics and whether each image's box is right at every threshold (:mod:`tedloc.metrics.compact`) in
``tedloc/results/evidence/PROFILE/``. A file is named by the run's settings, not by its code: at which commit and on
which machine it was computed stands in it, and the book compares what it computes itself with it.

A profile with ``live`` methods is read so: they alone, with the profile's own settings and in its first world, are
computed; all else is read, and computed only in the first world and where nothing is kept.
"""

import functools
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tedloc import paths, profiles
from tedloc.errors import UserError
from tedloc.fingerprints import digest
from tedloc.metrics import compact
from tedloc.metrics.meter import LocalizationMeter
from tedloc.runs.run import Request, Run
from tedloc.settings import dotted

MAKING = "TEDLOC_EVIDENCE"  # set to "make" by `python -m tedloc.book evidence`: compute everything, keep it
LEFT_OUT = ("familiar",)  # of a run's metrics: long, and of use to its checkpoint alone


@dataclass(frozen=True)
class Kept(Run):
    """A run of which only metrics and per-image correctness are at hand; ``folder`` is its file."""

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        return json.loads(self._member("metrics.json"))

    @functools.cached_property
    def _meters(self) -> dict[str, LocalizationMeter]:
        return compact.unpack(self._member("meters.xz"))

    def _member(self, name: str, optional: bool = False) -> bytes | None:
        try:
            with zipfile.ZipFile(self.folder) as stored:
                return None if optional and name not in stored.namelist() else stored.read(name)
        except (zipfile.BadZipFile, KeyError) as error:
            raise UserError(f"{self.folder} is damaged; restore it, or make it anew with `make evidence`") from error

    @property
    def changes(self) -> dict[str, Any] | None:
        """See :func:`changes`; None where it was not kept."""
        found = self._member("changes.json", optional=True)
        return None if found is None else json.loads(found)

    def meter(self, route: str | None = None, split: str = "test") -> LocalizationMeter:
        return self._meters[f"{split}-{route or self.routes[0]}"]

    def per_image(self, route: str | None = None) -> pd.DataFrame:
        raise self._lacks("boxes")

    def maps(self) -> dict[str, np.ndarray]:
        raise self._lacks("maps")

    def log(self) -> pd.DataFrame:
        if (found := self._member("log.jsonl", optional=True)) is None:
            raise self._lacks("log")
        return pd.read_json(io.BytesIO(found), lines=True)

    def _lacks(self, what: str) -> UserError:
        return UserError(f"{self.folder.name} is kept without its {what}; compute the run to see them")


def opened(folder: Path) -> Run:
    """The run in a folder, or what is kept of one in a file."""
    return Kept(folder) if folder.suffix == ".zip" else Run(folder)


def making() -> bool:
    """Whether this process computes what is to be kept."""
    return os.environ.get(MAKING) == "make"


def file(request: Request) -> Path:
    """Where a run's results are kept, whether they are or not."""
    settings = request.depends_on()
    key = digest([request.method, request.seed, settings["profile"], settings["own"]])[:12]
    name = f"{request.method.replace(':', '-')}-{request.seed}-{key}.zip"
    return paths.EVIDENCE / request.profile.name / name


def changes(request: Request) -> dict[str, Any]:
    """The settings that a run depends on and that are not its profile's own in that world, by their dotted names."""

    def named(each: Request) -> dict[str, Any]:
        settings = each.depends_on()
        return dict(dotted(settings["profile"] | {"methods": settings["own"]}))

    own = profiles.get(request.profile.name).in_world(request.seed)
    usual, here = named(replace(request, profile=own)), named(request)
    return {name: here.get(name) for name in sorted({*here, *usual}) if here.get(name) != usual.get(name)}


def keep(request: Request, run: Run) -> Path:
    """Keep a finished run's results, all routes that it holds; what is kept with more of them stays as it is."""
    place = file(request)
    if place.exists() and set(run.routes) < set(Kept(place).routes):
        return place
    meters = {f"{split}-{route}": run.meter(route, split) for route in run.routes for split in ("val", "test")}
    metrics = {name: value for name, value in run.metrics.items() if name not in LEFT_OUT}
    with paths.replacing(place) as scratch, zipfile.ZipFile(scratch, "w") as stored:
        stored.writestr(zipfile.ZipInfo("metrics.json"), json.dumps(metrics), zipfile.ZIP_DEFLATED)
        stored.writestr(zipfile.ZipInfo("changes.json"), json.dumps(changes(request)), zipfile.ZIP_DEFLATED)
        stored.writestr(zipfile.ZipInfo("meters.xz"), compact.pack(meters))
        if (log := run.folder / "log.jsonl").exists():
            stored.writestr(zipfile.ZipInfo("log.jsonl"), log.read_bytes(), zipfile.ZIP_DEFLATED)
    return place


def holds(request: Request) -> bool:
    """Whether the run's results are kept, with the routes asked for."""
    place = file(request)
    return place.exists() and Kept(place).scored(request.routes)


def of(request: Request) -> Kept | None:
    """What is kept of a run, whether or not it is to be read."""
    return Kept(file(request)) if holds(request) else None


def is_live(request: Request) -> bool:
    """Whether the book computes the run even if its results are kept."""
    live = request.profile.live
    if live is None or making():
        return True
    own = profiles.PROFILES.get(request.profile.name)
    return own is not None and request.method in live and request.profile == own() and request.seed == own().seeds[0]


def read(request: Request) -> Kept | None:
    """The kept results of a run that need not be computed; None where it has to be."""
    return None if is_live(request) else of(request)


def common(groups: Mapping[str, Sequence[Request]]) -> dict[str, list[Request]]:
    """The requests that can be had without hours of training: all in the first world; in the others those of worlds in
    which every group is kept that is kept in any. A group that is kept in none stands with the first world alone.

    All of them for a profile without live methods, and while evidence is made.
    """
    if making() or all(request.profile.live is None for group in groups.values() for request in group):
        return {name: list(group) for name, group in groups.items()}
    there = {
        name: {request.seed for request in group if request.seed != request.profile.seeds[0] and holds(request)}
        for name, group in groups.items()
    }
    worlds = set.intersection(*filter(None, there.values())) if any(there.values()) else set()
    return {
        name: [r for r in group if r.seed == r.profile.seeds[0] or r.seed in worlds & there[name]]
        for name, group in groups.items()
    }
