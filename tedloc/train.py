"""Train a method and evaluate it on the test split.

    python -m tedloc.train --profile aviary --seed 0                      # 1 minute on a laptop core
    python -m tedloc.train --profile aviary --seed 0 --json metrics.json --loss.kd 0 --optimiser.epochs 5
    python -m tedloc.train --profile tiny-imagenet --method head-cam      # a compared method

    torchrun --nproc-per-node 8 -m tedloc.train --profile ilsvrc          # 8 GPUs: see tedloc.distributed

Everything after the named options is a setting of the profile. A finished run is read, not computed again; a
killed one goes on from its last checkpoint.
"""

import argparse
import dataclasses
import inspect
import json
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tedloc import boxes as mapping
from tedloc import distributed, engine, paths, runs, trivial
from tedloc.complexity import count_parameters
from tedloc.errors import choose, command
from tedloc.features import features, open_data
from tedloc.methods import Method, Prediction, create
from tedloc.metrics import LocalizationMeter
from tedloc.pseudo_labels import pseudo_label_cams, unshuffled
from tedloc.settings import DataSettings, EvaluationSettings

HEADLINE = ("MaxBoxAcc@0.5", "Top-1 Loc", "Top-5 Loc", "Top-1 CL")


def prepare(request: runs.Request) -> None:
    """Compute what runs share (features, pseudo-labels), so that runs side by side only read it."""
    profile, method = request.profile, create(request.method, request.profile)
    if getattr(method, "inputs", None) == "features":
        for split in ("train", "val", "test"):
            features(profile.data, split, profile.encoder, request.device)
    if "pseudo_labels" in method.uses and "optimiser" in method.uses:
        pseudo_label_cams(profile, "train", request.device)


class Scored(NamedTuple):
    """A split scored route by route: meters; the maps kept for figures with their ``index``; every route's name."""

    meters: dict[str, LocalizationMeter]
    maps: dict[str, np.ndarray]
    offered: list[str]


def own_predictions(method: Method, split: str) -> Iterator[Prediction]:
    """This process's part of a split's predictions. What cannot be shared (a training-free method), rank 0 makes."""
    if "part" in inspect.signature(method.predict).parameters:
        yield from method.predict(split, part=(distributed.rank(), distributed.world()))
    elif distributed.rank() == 0:
        yield from method.predict(split)


def evaluate(
    method: Method, data: DataSettings, split: str, settings: EvaluationSettings, routes: Collection[str] = ()
) -> Scored:
    """Score routes of a method on a split, by default all that it offers.

    Under torchrun every process scores its part and rank 0 gets the whole; the others get their own part.
    """
    with engine.memory("evaluation.batch_size", settings.batch_size):
        parts = distributed.gather(_evaluate_part(method, data, split, settings, routes))
    merged = parts[0]
    for part in parts[1:]:
        for name, meter in part.meters.items():
            merged.meters[name] = merged.meters[name].merge(meter) if name in merged.meters else meter
    offered = max((part.offered for part in parts), key=len)
    for name in set(routes) - set(offered):
        choose(f"route of {method.title}", name, offered)
    maps = {
        name: np.concatenate([part.maps[name] for part in parts if name in part.maps])
        for name in ("index", *merged.meters)
    }
    order = maps["index"].argsort()
    return Scored(merged.meters, {name: array[order] for name, array in maps.items()}, offered)


def _evaluate_part(
    method: Method, data: DataSettings, split: str, settings: EvaluationSettings, routes: Collection[str]
) -> Scored:
    images = open_data(data, split)
    kept = np.unique(np.linspace(0, len(images) - 1, min(settings.keep_maps, len(images))).round().astype(int))
    meters: dict[str, LocalizationMeter] = {}
    maps: dict[str, list[np.ndarray]] = {"index": [kept[:0]]}
    offered: list[str] = []
    for prediction in own_predictions(method, split):
        index, offered = prediction.index, list(prediction.routes)
        here = np.flatnonzero(np.isin(index, kept))
        maps["index"].append(index[here])
        ids, sizes = [images.ids[i] for i in index], images.sizes[index]
        boxes = [images.boxes[i] for i in index] if images.boxed else None
        for name, route in prediction.routes.items():
            if routes and name not in routes:
                continue
            meter = meters.setdefault(name, LocalizationMeter(grid=settings.grid, step=settings.step))
            score_maps, scores = route.maps.float().cpu().numpy(), route.scores.float().cpu().numpy()
            if route.boxes is None:
                masks = [images.mask(i) for i in index]
                masks = None if masks[0] is None else masks
                meter.update(ids, score_maps, boxes, sizes, images.labels[index], scores, masks)
            else:
                predicted = mapping.shares_on_grid(route.boxes.float().cpu().numpy(), settings.grid)
                meter.update_boxes(ids, predicted, boxes, sizes, images.labels[index], scores)
            maps.setdefault(name, []).append(score_maps[here].astype(np.float16))
    return Scored(meters, {name: np.concatenate(parts) for name, parts in maps.items()}, offered)


def centre_box(data: DataSettings, settings: EvaluationSettings) -> dict[str, float]:
    """The best centred box of one size, chosen on validation: what knowing nothing scores. {} without boxes."""
    val, test = open_data(data, "val"), open_data(data, "test")
    if not (val.boxed and test.boxed):
        return {}
    size = trivial.centre_box(val.boxes, val.sizes, grid=settings.grid)
    return trivial.score(trivial.place(size, test.sizes), test, grid=settings.grid)


def execute(request: runs.Request) -> None:
    """Train, evaluate and write one run's folder (see tedloc.runs); ``metrics.json`` comes last.

    A finished run that lacks some of the routes asked for is not trained again, they are only scored. Under torchrun
    rank 0 prepares and then has the other processes execute the same request: they train and score their share.
    """
    started, profile, folder = time.monotonic(), request.profile, request.folder
    earlier = runs.Run(folder) if runs.status(folder) == "finished" else None
    wanted = request.routes or tuple(earlier.metrics["all routes"] if earlier else ())
    wanted = tuple(name for name in wanted if earlier is None or name not in earlier.metrics["routes"])
    if distributed.rank() == 0:
        prepare(request)
        distributed.broadcast(request)
    if request.device == "cpu":
        torch.set_num_threads(profile.optimiser.threads)
    method = create(request.method, profile, request.seed, request.device)
    begun = time.monotonic()
    method.fit(folder)
    fitted = time.monotonic()
    val = evaluate(method, profile.data, "val", profile.evaluation, wanted)
    before_test = time.monotonic()
    test = evaluate(method, profile.data, "test", profile.evaluation, wanted)
    tested = time.monotonic()
    if distributed.rank() > 0:
        return
    for split, scored in (("val", val), ("test", test)):
        for name, meter in scored.meters.items():
            with paths.replacing(folder / f"{split}-{name}.npz") as scratch:
                np.savez_compressed(scratch, **meter.state_dict())
    for name, meter in test.meters.items():
        with paths.replacing(folder / f"per-image-{name}.csv.gz") as scratch:
            meter.per_image().to_csv(scratch, index=False)
    with paths.replacing(folder / "maps.npz") as scratch:
        np.savez_compressed(scratch, **((earlier.maps() if earlier else {}) | test.maps))
    found = {name: meter.compute(val=val.meters[name]) for name, meter in test.meters.items()}
    on_val = {name: meter.compute() for name, meter in val.meters.items()}
    if earlier:
        found, on_val = earlier.metrics["routes"] | found, earlier.metrics["val routes"] | on_val
    routes = {name: found[name] for name in test.offered if name in found}
    images = open_data(profile.data, "test")
    metrics: dict[str, Any] = {
        **next(iter(routes.values())),
        "routes": routes,
        "val routes": on_val,
        "all routes": test.offered,
        "centre box": centre_box(profile.data, profile.evaluation),
        "without boxes": [split for split in ("val", "test") if not open_data(profile.data, split).boxed],
        "parameters": count_parameters(*method.modules().values()),
        "provenance": earlier.metrics["provenance"]
        if earlier
        else runs.provenance()
        | {
            "profile": profile.name,
            "method": request.method,
            "seed": request.seed,
            "dataset": profile.data.name,
            "split": "test",
            "num_images": len(images),
            "synthetic": profile.synthetic,
            "data": images.fingerprint()[:16],
            "device": device_name(request.device),
            "processes": distributed.world(),
            "seconds": {"fit": fitted - begun, "test": tested - before_test, "all": time.monotonic() - started},
        },
    }
    teacher = profile.pseudo_labels.teacher
    if request.method == "tedloc" and teacher != "centre-prior":
        asked = dataclasses.replace(request, profile=unshuffled(profile), method=teacher, seed=0, routes=("true",))
        metrics["teacher"] = runs.ensure(asked).route("true")
    with paths.replacing(folder / "metrics.json") as scratch:
        scratch.write_text(json.dumps(metrics, indent=1))


def device_name(device: str) -> str:
    """``cpu``, or the GPU's name."""
    return "cpu" if device == "cpu" else torch.cuda.get_device_name(device)


def table(metrics: dict[str, Any]) -> str:
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
    from tedloc import profiles

    parser = argparse.ArgumentParser(
        prog="python -m tedloc.train",
        description=__doc__.split("\n")[0],
        epilog="Further options are settings of the profile, e.g. --loss.kd 0.5",
    )
    parser.add_argument("--profile", required=True, help=", ".join(profiles.PROFILES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="tedloc")
    parser.add_argument("--device", default=runs.default_device(), help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--json", type=Path, help="write the metrics here")
    known, rest = parser.parse_known_args(arguments)
    profile = profiles.from_command_line(profiles.get(known.profile), rest)
    with distributed.processes(known.device):
        if distributed.rank() > 0:
            while request := distributed.broadcast():
                execute(request)
            return
        run = runs.ensure(runs.Request(profile, known.method, known.seed, known.device))
        distributed.broadcast(None)
    if known.json:
        with paths.replacing(known.json) as scratch:
            scratch.write_text((run.folder / "metrics.json").read_text())
    print(table(run.metrics), f"\n{run.folder}", file=sys.stdout)


if __name__ == "__main__":
    main()
