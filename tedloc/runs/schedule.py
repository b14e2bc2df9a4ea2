"""From requests to finished runs: each computed once, as many side by side as the machine has places.

What runs share (features, pseudo-labels) and the runs that teach others come first.
"""

import dataclasses
import json
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from tedloc import paths
from tedloc.data.processes import sharing
from tedloc.errors import UserError
from tedloc.fingerprints import digest
from tedloc.methods import Method
from tedloc.runs import kept
from tedloc.runs.execute import execute
from tedloc.runs.run import Request, Run
from tedloc.settings import Profile, override


def ensure(request: Request) -> Run:
    """The finished run for a request: read if it is there, otherwise computed (or resumed), its teacher's first."""
    folder = request.folder
    if not request.is_finished():
        teaching = taught_by(request)
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock"):
            if not request.is_finished():
                (folder / "failed.txt").unlink(missing_ok=True)
                with paths.replacing(folder / "settings.json") as scratch:
                    scratch.write_text(json.dumps(request.settings(), indent=1, default=str))
                try:
                    execute(request, teaching)
                    if kept.making():
                        kept.keep(request, Run(folder))
                except UserError:
                    raise
                except Exception:
                    (folder / "failed.txt").write_text(traceback.format_exc())
                    raise
    if kept.making() and not kept.holds(request):
        kept.keep(request, Run(folder))
    return Run(folder)


def collect(requests: Sequence[Request], jobs: int | None = None) -> list[Run]:
    """Finished runs for all requests, in order; those that are missing are computed side by side.

    jobs: processes; default: one a CPU core, or one on a GPU; as many compute at a time on this machine, whatever
    other notebooks ask for. What runs share (features, pseudo-labels) is prepared first, once.
    """
    missing: dict[Path, Request] = {}
    read = {request: found for request in dict.fromkeys(requests) if (found := kept.read(request))}
    for request in sorted(requests, key=lambda request: request.seed):  # whole worlds come first
        if request not in read and not request.is_finished():
            same = missing.get(request.folder, request)
            both = () if () in (same.routes, request.routes) else tuple(dict.fromkeys(same.routes + request.routes))
            missing[request.folder] = dataclasses.replace(request, routes=both)
    if missing:
        jobs = jobs or (1 if any(r.device != "cpu" for r in missing.values()) else os.cpu_count() or 1)
        teachers = {request: request.teacher() for request in missing.values()}
        collect([teacher for teacher in teachers.values() if teacher], jobs)
        places, jobs = jobs, min(jobs, len(missing))
        alike = {  # but for the seed, unless that is the teacher's, too
            digest([r.settings()["profile"], r.device, r.method, teacher and teacher.seed]): r
            for r, teacher in teachers.items()
        }
        Parallel(n_jobs=jobs)(delayed(_in_place)(places, share, r) for r in alike.values())
        work = Parallel(n_jobs=jobs, return_as="generator_unordered")(
            delayed(_in_place)(places, ensure, r) for r in missing.values()
        )
        for _ in tqdm(work, total=len(missing), desc="runs", unit="run"):
            pass
    return [read.get(request) or ensure(request) for request in requests]


def taught_by(request: Request) -> Run | None:
    """The finished run of the method that teaches a request's, if one does."""
    teacher = request.teacher()
    return teacher and ensure(teacher)


def ready(request: Request) -> Method:
    """A request's method, ready to be fitted: the run of its teacher, if it has one, is finished."""
    return request.made(taught_by(request))


def share(request: Request) -> None:
    """Compute what runs like this one share."""
    ready(request).share()


def _in_place(places: int, work: Callable[[Request], Any], request: Request) -> None:
    """Do the work once one of so many places on its device is free: more processes than cores hinder each other."""
    paths.runs().mkdir(parents=True, exist_ok=True)
    locks = [filelock.FileLock(paths.runs() / f".{request.device}-{n}.lock", blocking=False) for n in range(places)]
    while (lock := next(filter(_taken, locks), None)) is None:
        time.sleep(0.1)
    sharing(places)
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
    """As :func:`collect`, for requests by name: ``{"TeD-Loc": grid(P), "CAM": grid(P, method="cam")}``. Worlds that
    are to be read and of which something asked for is not kept are left out (``tedloc.runs.kept.common``)."""
    requests = kept.common(requests)
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
    """Requests for one variant over seeds (default: the profile's), each in its world; dots in names are written
    ``__``."""
    changed = override(profile, {name.replace("__", "."): value for name, value in changes.items()})
    return [Request(changed.in_world(seed), method, seed, routes=routes) for seed in (seeds or profile.seeds)]
