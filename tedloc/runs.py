"""Runs: one method, trained and evaluated under one profile and seed, kept in one folder.

A run's folder is named by a fingerprint of its settings, its data and the code it runs on, so a finished run is
never computed twice and a stale one is never shown. Inside it:

    settings.json        everything that the fingerprint covers
    log.jsonl            one line an epoch
    checkpoint.safetensors   what was trained
    val-ROUTE.npz, test-ROUTE.npz   per-image correctness over thresholds (tedloc.metrics)
    per-image-ROUTE.csv.gz   one line a test image
    maps.npz             score maps of a few test images, for figures
    metrics.json         written last: its presence says that the run is finished
    failed.txt           why the run failed, if it did

Folders are made aside and finished in place; ``unfinished`` ones resume.
"""

import ast
import dataclasses
import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd

from tedloc import devices, paths
from tedloc.data import DATASETS, SPLITS
from tedloc.errors import UserError
from tedloc.metrics import LocalizationMeter
from tedloc.settings import DataSettings, Profile, override

# modules that say where and whether something runs or what it costs, not what it computes
PLUMBING = {
    "tedloc.complexity",
    "tedloc.devices",
    "tedloc.errors",
    "tedloc.methods.registry",
    "tedloc.paths",
    "tedloc.profiles",
    "tedloc.runs",
}


@functools.cache
def code_fingerprint(*modules: str) -> str:
    """sha256 over the modules and all of ``tedloc`` that they import, at any depth.

    Comments, docstrings and layout do not count: what is hashed is the syntax tree. Nor does plumbing.
    """
    seen: dict[str, str] = {}

    def visit(module: str) -> None:
        base = paths.PACKAGE.parent / Path(*module.split("."))
        source = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if module in seen or module in PLUMBING or not source.exists():
            return
        tree = ast.parse(source.read_text())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if (
                isinstance(body, list)
                and body
                and isinstance(body[0], ast.Expr)
                and isinstance(getattr(body[0], "value", None), ast.Constant)
            ):
                body[0].value.value = ""
        seen[module] = ast.dump(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                if name.split(".")[0] == "tedloc":
                    visit(name)

    for module in modules:
        visit(module)
    return digest(sorted(seen.items()))


def environment_fingerprint(*modules: str, data: str) -> str:
    """Code of the modules and of a data set, and the weights that ship with the package."""
    records = [file.read_text() for file in sorted(paths.WEIGHTS.glob("*.json"))]
    return digest([code_fingerprint(*modules, DATASETS[data]), records])


@functools.cache
def data_fingerprint(settings: DataSettings) -> str:
    """The images of all three splits."""
    from tedloc.features import open_data

    return digest([open_data(settings, split).fingerprint() for split in SPLITS])


def default_device() -> str:
    """``TEDLOC_DEVICE``, or a GPU when there is one."""
    if name := os.environ.get("TEDLOC_DEVICE"):
        return devices.checked(name)
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def digest(thing: Any) -> str:
    """sha256 of a thing's JSON."""
    return hashlib.sha256(json.dumps(thing, sort_keys=True, default=str).encode()).hexdigest()


def provenance() -> dict[str, Any]:
    """Commit, versions, machine and date: what a reader needs to judge where a number comes from."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(paths.PACKAGE), *arguments], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    if git("status", "--porcelain", "--", "."):
        commit += "+changes"
    packages = ("tedloc", "torch", "timm", "open_clip_torch", "numpy", "opencv-python")
    return {
        "commit": commit,
        "date": datetime.date.today().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in packages}
        | {"python": platform.python_version()},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


@dataclass(frozen=True)
class Request:
    """A run somebody wants. routes: those that must be scored; () for all that the method offers."""

    profile: Profile
    method: str = "tedloc"
    seed: int = 0
    device: str = field(default_factory=default_device)
    routes: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """What the fingerprint covers: of the profile only the parts that the method depends on, so that variants of
        TeD-Loc that share a teacher share the teacher's run."""
        from tedloc.methods import create, module_of

        method = create(self.method, self.profile)
        used = {"data", "evaluation", *method.uses}
        return {
            "method": self.method,
            "seed": self.seed,
            "profile": {part: dataclasses.asdict(getattr(self.profile, part)) for part in sorted(used)},
            "own": method.own_settings(),
            "device": self.device,
            "data": data_fingerprint(self.profile.data),
            "code": environment_fingerprint(module_of(self.method), "tedloc.train", data=self.profile.data.name),
        }

    @property
    def folder(self) -> Path:
        name = f"{self.method.replace(':', '-')}-seed{self.seed}-{digest(self.settings())[:16]}"
        return paths.runs() / self.profile.name / name

    def is_finished(self) -> bool:
        """Whether the run is finished and holds the routes asked for."""
        if status(self.folder) != "finished":
            return False
        metrics = Run(self.folder).metrics
        return set(self.routes or metrics["all routes"]) <= metrics["routes"].keys()


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


def ensure(request: Request) -> Run:
    """The finished run for a request: read if it is there, otherwise computed (or resumed)."""
    from tedloc.train import execute

    folder = request.folder
    if not request.is_finished():
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock"):
            if not request.is_finished():
                (folder / "failed.txt").unlink(missing_ok=True)
                with paths.replacing(folder / "settings.json") as scratch:
                    scratch.write_text(json.dumps(request.settings(), indent=1, default=str))
                try:
                    execute(request)
                except UserError:
                    raise
                except Exception:
                    (folder / "failed.txt").write_text(traceback.format_exc())
                    raise
    return Run(folder)


def collect(requests: Sequence[Request], jobs: int | None = None) -> list[Run]:
    """Finished runs for all requests, in order; those that are missing are computed side by side.

    jobs: processes; default: one a CPU core, or one on a GPU; as many compute at a time on this machine, whatever
    other notebooks ask for. What runs share (features, pseudo-labels) is prepared first, once.
    """
    missing: dict[Path, Request] = {}
    for request in requests:
        if not request.is_finished():
            same = missing.get(request.folder, request)
            both = () if () in (same.routes, request.routes) else tuple(dict.fromkeys(same.routes + request.routes))
            missing[request.folder] = dataclasses.replace(request, routes=both)
    if missing:
        from joblib import Parallel, delayed
        from tqdm.auto import tqdm

        from tedloc.train import prepare

        jobs = jobs or (1 if any(r.device != "cpu" for r in missing.values()) else os.cpu_count() or 1)
        places, jobs = jobs, min(jobs, len(missing))
        alike = {digest([r.settings()["profile"], r.device, r.method]): r for r in missing.values()}  # but for the seed
        Parallel(n_jobs=jobs)(delayed(_in_place)(places, prepare, r) for r in alike.values())
        work = Parallel(n_jobs=jobs, return_as="generator_unordered")(
            delayed(_in_place)(places, ensure, r) for r in missing.values()
        )
        for _ in tqdm(work, total=len(missing), desc="runs", unit="run"):
            pass
    return [ensure(request) for request in requests]


def _in_place(places: int, work: Callable[[Request], Any], request: Request) -> None:
    """Do the work once one of so many places on its device is free: more processes than cores hinder each other."""
    paths.runs().mkdir(parents=True, exist_ok=True)
    locks = [filelock.FileLock(paths.runs() / f".{request.device}-{n}.lock", blocking=False) for n in range(places)]
    while (lock := next(filter(_taken, locks), None)) is None:
        time.sleep(0.1)
    try:
        work(request)
    finally:
        lock.release()


def _taken(lock: filelock.FileLock) -> bool:
    try:
        lock.acquire()
        return True
    except filelock.Timeout:
        return False


def collect_named(requests: Mapping[str, Sequence[Request]], jobs: int | None = None) -> dict[str, list[Run]]:
    """As :func:`collect`, for requests by name: ``{"TeD-Loc": grid(P), "CAM": grid(P, method="cam")}``."""
    finished = iter(collect([request for group in requests.values() for request in group], jobs))
    return {name: [next(finished) for _ in group] for name, group in requests.items()}


def grid(
    profile: Profile,
    *,
    method: str = "tedloc",
    seeds: Sequence[int] | None = None,
    routes: tuple[str, ...] = (),
    **changes: Any,
) -> list[Request]:
    """Requests for one variant over seeds (default: the profile's); dots in names are written ``__``."""
    changed = override(profile, {name.replace("__", "."): value for name, value in changes.items()})
    return [Request(changed, method, seed, routes=routes) for seed in (seeds or profile.seeds)]
