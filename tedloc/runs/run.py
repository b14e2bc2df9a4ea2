"""Runs: one method, trained and evaluated under one profile and seed, kept in one folder.

A run's folder is named by a fingerprint of its settings, its data and the code it runs on, so a finished run is
never computed twice and a stale one is never shown. Inside it:

    settings.json        everything that the fingerprint covers
    log.jsonl            one line an epoch
    checkpoint.safetensors   what was trained
    val-ROUTE.npz, test-ROUTE.npz   per-image correctness over thresholds (tedloc.metrics.meter)
    per-image-ROUTE.csv.gz   one line a test image
    maps.npz             score maps of a few test images, for figures
    metrics.json         written last: its presence says that the run is finished
    failed.txt           why the run failed, if it did

Folders are made aside and finished in place; ``unfinished`` ones resume.
"""

import dataclasses
import datetime
import functools
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from tedloc import __version__, paths
from tedloc.data import SPLITS, open_data
from tedloc.data.registry import DATASETS
from tedloc.fingerprints import EXECUTION, digest, environment
from tedloc.methods import Method, create
from tedloc.metrics.meter import LocalizationMeter
from tedloc.settings import DataSettings, Profile, as_record
from tedloc.training import devices

PACKAGES = ("torch", "timm", "open_clip_torch", "numpy")  # this one may run from its folder, OpenCV has several names


@functools.cache
def data_fingerprint(settings: DataSettings) -> str:
    """The images of all three splits."""
    return digest([open_data(settings, split).fingerprint() for split in SPLITS])


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def provenance() -> dict[str, Any]:
    """Commit, versions, machine and date: what a reader needs to judge where a number comes from."""

    def git(*arguments: str) -> str:
        if paths.checkout() is None:  # the nearest repository would be somebody else's
            return ""
        done = subprocess.run(["git", "-C", str(paths.PACKAGE), *arguments], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    if git("status", "--porcelain", "--", "."):
        commit += "+changes"
    return {
        "commit": commit,
        "date": datetime.date.today().isoformat(),
        "versions": {name: _version(name) for name in PACKAGES}
        | {"tedloc": __version__, "opencv-python": cv2.__version__, "python": platform.python_version()},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


@dataclass(frozen=True)
class Request:
    """A run somebody wants. routes: those that must be scored; () for all that the method offers."""

    profile: Profile
    method: str = "tedloc"
    seed: int = 0
    device: str = field(default_factory=devices.default)
    routes: tuple[str, ...] = ()

    def made(self, teacher: "Run | None" = None) -> Method:
        """Its method, not fitted. teacher: the finished run of the method that teaches it"""
        method = create(self.method, self.profile, self.seed, self.device)
        method.teacher_folder = teacher and teacher.folder
        return method

    def teacher(self) -> "Request | None":
        """The run that its method is taught by, if it is: the route of the true class alone."""
        if (teacher := self.made().teacher()) is None:
            return None
        asked = Request(teacher.profile, teacher.method, teacher.seed, self.device)
        return dataclasses.replace(asked, routes=(asked.made().true_route,))

    def depends_on(self) -> dict[str, Any]:
        """The settings of the profile's parts that the method uses, and the method's own."""
        method = self.made()
        used = sorted({"data", "evaluation", *method.uses})
        return {
            "profile": {part: as_record(getattr(self.profile, part)) for part in used},
            "own": method.own_settings(),
        }

    def settings(self) -> dict[str, Any]:
        """What the fingerprint covers: of the profile only the parts that the method depends on, so that variants of
        TeD-Loc that share a teacher share the teacher's run."""
        return {
            "method": self.method,
            "seed": self.seed,
            **self.depends_on(),
            "device": self.device,
            "data": data_fingerprint(self.profile.data),
            "code": environment(*self.made().code(), EXECUTION, DATASETS[self.profile.data.name]),
        }

    @property
    def folder(self) -> Path:
        name = f"{self.method.replace(':', '-')}-seed{self.seed}-{digest(self.settings())[:16]}"
        return paths.runs() / self.profile.name / name

    def is_finished(self) -> bool:
        """Whether the run is finished and holds the routes asked for."""
        return status(self.folder) == "finished" and Run(self.folder).scored(self.routes)


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        return json.loads((self.folder / "metrics.json").read_text())

    @property
    def routes(self) -> list[str]:
        """The localization routes that the method offers; the first is its headline."""
        return list(self.metrics["routes"])

    def scored(self, routes: Sequence[str] = ()) -> bool:
        """Whether these routes were scored; () for all that the method offers."""
        return set(routes or self.metrics["all routes"]) <= self.metrics["routes"].keys()

    def __getitem__(self, key: str) -> float:
        """A metric of the headline route: ``run["MaxBoxAcc@0.5"]``."""
        return self.metrics[key]

    def route(self, name: str) -> dict[str, float]:
        return self.metrics["routes"][name]

    def meter(self, route: str | None = None, split: str = "test") -> LocalizationMeter:
        with np.load(self.folder / f"{split}-{route or self.routes[0]}.npz", allow_pickle=False) as arrays:
            return LocalizationMeter.from_state(dict(arrays))

    def per_image(self, route: str | None = None) -> pd.DataFrame:
        return pd.read_csv(self.folder / f"per-image-{route or self.routes[0]}.csv.gz")

    def maps(self) -> dict[str, np.ndarray]:
        """``index`` (n,) of the kept test images and one (n, h, w) array a route."""
        with np.load(self.folder / "maps.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    def log(self) -> pd.DataFrame:
        return pd.read_json(self.folder / "log.jsonl", lines=True)


def status(folder: Path) -> str:
    """``finished``, ``failed``, ``unfinished`` or ``absent``."""
    if (folder / "metrics.json").exists():
        return "finished"
    if (folder / "failed.txt").exists():
        return "failed"
    return "unfinished" if folder.exists() else "absent"
