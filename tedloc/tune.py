"""Choose a method's settings on the validation split, by a search of a stated size. No test image is looked at.

    python -m tedloc.tune --profile aviary --method ts-cam                  # the small profiles' budget
    python -m tedloc.tune --profile cub --method tedloc --trials 40         # the paper's search

Small profiles: every method has the same budget, 8 trials and 5 minutes of one core, whichever ends first: no trial is
begun after that. Each trains for half the method's epochs at a point of its own grid (``SEARCH`` of its class), drawn
by seed; the record of all trials ships with the package (``tedloc/tuning/``). A best value at an edge of its grid is
said: then the grid is to be widened. TeD-Loc is searched as the paper describes, each λ in (0, 1], learning rate,
momentum and weight decay; at the paper's scale the rate within the paper's 1e-6 to 1e-2. In small profiles of photos
its decoder's width and the sampler's n+ and n- are drawn with them.

A trial is a folder, made once. Several processes or machines that share ``TEDLOC_RUNS`` may run the same command:
each takes trials that nobody else has, and a killed one is taken up again from its last checkpoint.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Mapping
from typing import Any

import filelock
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from tedloc import paths, profiles, runs
from tedloc.data import open_data
from tedloc.errors import UserError, command
from tedloc.methods import create
from tedloc.runs.execute import evaluate
from tedloc.settings import Profile, override
from tedloc.training import devices

TRIALS = 8  # of every method in the small profiles, at most
MINUTES = 5.0  # of one core, after which no trial of a method is begun
RATES = {True: (3e-3, 1e-1), False: (1e-6, 1e-2)}  # TeD-Loc's learning rates by ``small``; the second is the paper's
DECAYS, MOMENTA = (1e-5, 1e-3), (0.8, 0.9, 0.95)  # tuned in the paper, which gives no ranges
EPOCHS = 0.5  # share of a method's epochs that a trial trains
LAMBDAS = ("loss.kd", "loss.patch", "loss.image")
CRITERION = ("MaxBoxAcc@0.5", "Top-1 Loc")  # their mean on validation, at the threshold found there, decides


def space(profile: Profile, method: str) -> dict[str, tuple]:
    """Values to try by the setting's full name. Raises ``UserError`` for a method with nothing to choose."""
    made = create(method, profile)
    if not made.search():
        raise UserError(f"method {method!r} has no settings to search; it is used as it is")
    return made.search()


def points(profile: Profile, method: str, trials: int, seed: int = 0) -> list[dict[str, Any]]:
    """The settings of each trial, the same for the same seed: points of the grid, or draws from the paper's ranges, the
    first of them with all λ = 1."""
    rng, values = np.random.default_rng(seed), space(profile, method)
    if method == "tedloc":  # section 4.1: ranges; how many points were tried is not said

        def log_uniform(low: float, high: float) -> float:
            return float(f"{np.exp(rng.uniform(*np.log([low, high]))):.2g}")

        return [
            {name: 1.0 if n == 0 else round(1 - 0.99 * rng.random(), 2) for name in LAMBDAS}
            | {
                "optimiser.learning_rate": log_uniform(*RATES[profile.small]),
                "optimiser.momentum": float(rng.choice(MOMENTA)),
                "optimiser.weight_decay": log_uniform(*DECAYS),
            }
            | {name: rng.choice(each).item() for name, each in values.items() if each}
            for n in range(trials)
        ]
    every = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    return [every[i] for i in rng.permutation(len(every))[:trials]]


def shortened(profile: Profile, method: str, share: float) -> Profile:
    """The profile in which every stage of the method trains for a share of its epochs or steps, at least one."""
    changes = {}
    for name, each in create(method, profile).stages().items():
        kind = "epochs" if each.steps is None else "steps"
        changes[f"{name}.{kind}"] = max(1, round(share * getattr(each, kind)))
    return override(profile, changes)


def trial(request: runs.Request, changes: Mapping[str, Any], wait: bool = True) -> dict[str, Any] | None:
    """Train under changed settings and score the validation split; read where it was done before.

    While another process is at it: its result in the end, or None at once without ``wait``.
    """
    changed = runs.Request(override(request.profile, dict(changes)), request.method, request.seed, request.device)
    folder = changed.folder.parent / "tuning" / changed.folder.name
    file = folder / "trial.json"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = filelock.FileLock(folder / ".lock").acquire(timeout=-1 if wait else 0)
    except filelock.Timeout:
        return None
    with held:
        if not file.exists():
            method, started = runs.ready(changed), time.process_time()
            with devices.threads(request.profile.optimiser.threads if request.device == "cpu" else None):
                method.fit(folder)
                scored = evaluate(method, changed.profile.data, "val", changed.profile.evaluation)
            metrics = next(iter(scored.meters.values())).compute()
            result = {name: metrics[name] for name in (*CRITERION, "Top-1 CL")}
            with paths.replacing(file) as scratch:
                scratch.write_text(json.dumps(result | {"seconds": time.process_time() - started}))
    return {"method": request.method, "settings": json.dumps(dict(changes)), **json.loads(file.read_text())}


def search(
    profile: Profile,
    method: str,
    trials: int = TRIALS,
    seed: int = 0,
    device: str | None = None,
    share: float = EPOCHS,
    jobs: int = 1,
    minutes: float | None = None,
) -> pd.DataFrame:
    """The trials, one row each, the best first.

    jobs: processes on this machine; minutes: of a core, after which none is begun: ``MINUTES`` in a small profile, as
    many as it takes at the paper's scale
    """
    if not open_data(profile.data, "val").boxed:
        raise UserError("the validation split has no boxes, so nothing says which settings are better; draw some")
    if minutes is None:
        minutes = MINUTES if profile.small else math.inf
    request = runs.Request(shortened(profile, method, share), method, seed, device or devices.default())
    runs.ready(request).share()
    asked = points(profile, method, trials, seed)
    spread = Parallel(n_jobs=min(jobs, len(asked)), return_as="generator")
    rows, used = [], 0.0
    with tqdm(total=len(asked), desc=f"trials of {method}", unit="trial") as bar:
        while len(rows) < len(asked) and used < 60 * minutes:
            some = asked[len(rows) : len(rows) + jobs]
            mine = spread(delayed(trial)(request, point, False) for point in some)
            rows += [row or trial(request, point) for row, point in zip(mine, some, strict=True)]
            used = sum(row["seconds"] for row in rows)
            bar.update(len(some))
    found = pd.DataFrame(rows)
    found["criterion"] = found[list(CRITERION)].mean(axis=1)
    return found.sort_values("criterion", ascending=False, kind="stable").reset_index(drop=True)


def on_edge(profile: Profile, method: str, best: Mapping[str, Any]) -> list[str]:
    """Settings whose best value is the smallest or largest of its grid, so that a better one may lie beyond it."""
    grids = space(profile, method)
    return [name for name, each in grids.items() if len(each) > 2 and best.get(name) in (min(each), max(each))]


def edges(profile: Profile) -> dict[str, list[str]]:
    """:func:`on_edge` of the best recorded trial of every method that has trials on record."""
    trials = pd.read_csv(paths.TUNING / f"{profile.name}.csv")
    best = trials.sort_values("criterion", ascending=False, kind="stable").drop_duplicates("method").sort_index()
    found = zip(best["method"], best["settings"], strict=True)
    return {method: on_edge(profile, method, json.loads(settings)) for method, settings in found}


def record(profile: Profile, method: str, found: pd.DataFrame) -> None:
    """Keep the trials of a method in the package's record of the profile."""
    file = paths.TUNING / f"{profile.name}.csv"
    file.parent.mkdir(exist_ok=True)
    with filelock.FileLock(paths.cache() / "tuning.lock"):
        known = pd.read_csv(file) if file.exists() else pd.DataFrame({"method": []})
        every = pd.concat([known[known["method"] != method], found]).sort_values("method", kind="stable")
        with paths.replacing(file) as scratch:
            every.round(3).to_csv(scratch, index=False)


def is_recorded(profile: str) -> bool:
    """Whether trials of a profile ship with the package."""
    return (paths.TUNING / f"{profile}.csv").exists()


def recorded(profile: str) -> pd.DataFrame:
    """The package's record of trials under a small profile, to be read: settings in words, and which were chosen."""
    trials = pd.read_csv(paths.TUNING / f"{profile}.csv")
    best = trials.groupby("method")["criterion"].transform("max")
    return trials.assign(settings=trials["settings"].map(_words), chosen=trials["criterion"] == best)


def _words(settings: str) -> str:
    """``area 2.0, threshold none`` of the JSON of a trial's settings by full name."""
    short = {name.rpartition(".")[2]: value for name, value in json.loads(settings).items()}
    return ", ".join(f"{name} {'none' if value is None else value}" for name, value in short.items())


@command
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tedloc.tune",
        description=__doc__.split("\n")[0],
        epilog="Further options are settings of the profile, e.g. --data.root photos",
    )
    parser.add_argument("--profile", required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=EPOCHS, help="share of the epochs that a trial trains")
    parser.add_argument("--device", default=devices.default())
    parser.add_argument("--jobs", type=int, default=1, help="processes on this machine")
    parser.add_argument("--record", action="store_true", help="keep the trials in the package (tedloc/tuning/)")
    given, rest = parser.parse_known_args(arguments)
    if given.record and rest:
        raise UserError(f"--record keeps the trials of a profile as it is; drop {' '.join(rest)}")
    profile = profiles.from_command_line(profiles.get(given.profile), rest)
    devices.checked(given.device)
    found = search(profile, given.method, given.trials, given.seed, given.device, given.epochs, given.jobs)
    if given.record:
        record(profile, given.method, found)
    print(found.round(2).to_string(index=False))
    for name in on_edge(profile, given.method, json.loads(found["settings"].iloc[0])):
        print(f"the best {name} is at the edge of its grid; widen the grid and search again")


if __name__ == "__main__":
    main()
