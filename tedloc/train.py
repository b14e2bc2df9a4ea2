"""Train a method and evaluate it on the test split.

    python -m tedloc.train --profile aviary --seed 0                      # 1 minute on a laptop core
    python -m tedloc.train --profile aviary --seed 0 --json metrics.json --loss.kd 0 --optimiser.epochs 5
    python -m tedloc.train --profile imagenette-small --method head-cam   # a compared method

    torchrun --nproc-per-node 8 -m tedloc.train --profile ilsvrc          # 8 GPUs: see tedloc.training.distributed

Everything after the named options is a setting of the profile. A finished run is read, not computed again; a
killed one goes on from its last checkpoint.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from tedloc import paths, profiles, runs
from tedloc.errors import command
from tedloc.runs.execute import execute
from tedloc.training import devices, distributed

HEADLINE = ("MaxBoxAcc@0.5", "Top-1 Loc", "Top-5 Loc", "Top-1 CL")


def routes_table(metrics: dict[str, Any]) -> str:
    """The headline figures of a run, its teacher and the centre box, as text."""
    rows = [("", *HEADLINE)]
    for name, part in (
        ("this run", metrics),
        ("teacher", metrics.get("teacher")),
        ("centre box", metrics["centre box"]),
    ):
        if part:
            rows.append((name, *(f"{part[key]:.1f}" if part.get(key) is not None else "-" for key in HEADLINE)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
    unscored = {"test": "localization is not scored", "val": "no threshold is carried over, no centre box chosen"}
    lines += [f"no boxes in {split}: {unscored[split]}" for split in reversed(metrics.get("without boxes", ()))]
    return "\n".join(lines)


@command
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tedloc.train",
        description=__doc__.split("\n")[0],
        epilog="Further options are settings of the profile, e.g. --loss.kd 0.5",
    )
    parser.add_argument("--profile", required=True, help=", ".join(profiles.PROFILES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="tedloc")
    parser.add_argument("--device", default=devices.default(), help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--json", type=Path, help="write the metrics here")
    known, rest = parser.parse_known_args(arguments)
    profile = profiles.from_command_line(profiles.get(known.profile), rest)
    devices.checked(known.device)
    paths.writable_file(known.json, "--json")
    with distributed.processes(known.device):
        if distributed.rank() > 0:
            while asked := distributed.broadcast():
                execute(*asked)
            return
        run = runs.ensure(runs.Request(profile.in_world(known.seed), known.method, known.seed, known.device))
        distributed.broadcast(None)
    if known.json:
        with paths.replacing(known.json) as scratch:
            scratch.write_text((run.folder / "metrics.json").read_text())
    print(routes_table(run.metrics), f"\n{run.folder}", file=sys.stdout)


if __name__ == "__main__":
    main()
