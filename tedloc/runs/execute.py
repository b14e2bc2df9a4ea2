"""Compute one run: train a method, score validation and test, write the folder (:mod:`tedloc.runs.run`)."""

import json
import time
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from tedloc import paths
from tedloc.cost.complexity import count_parameters
from tedloc.data import open_data
from tedloc.errors import choose
from tedloc.methods import Method
from tedloc.metrics import baselines
from tedloc.metrics import boxes as mapping
from tedloc.metrics.meter import LocalizationMeter
from tedloc.runs.run import Request, Run, provenance, status
from tedloc.settings import DataSettings, EvaluationSettings
from tedloc.training import devices, distributed, engine


class Scored(NamedTuple):
    """A split scored route by route: meters; the maps kept for figures with their ``index``; every route's name;
    highest, (N, 2) of each image its highest class score and its map's highest value, by the headline, in no order."""

    meters: dict[str, LocalizationMeter]
    maps: dict[str, np.ndarray]
    offered: list[str]
    highest: np.ndarray


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
    highest = np.concatenate([part.highest for part in parts])
    return Scored(merged.meters, {name: array[order] for name, array in maps.items()}, offered, highest)


def _evaluate_part(
    method: Method, data: DataSettings, split: str, settings: EvaluationSettings, routes: Collection[str]
) -> Scored:
    images = open_data(data, split)
    kept = np.unique(np.linspace(0, len(images) - 1, min(settings.keep_maps, len(images))).round().astype(int))
    meters: dict[str, LocalizationMeter] = {}
    maps: dict[str, list[np.ndarray]] = {"index": [kept[:0]]}
    offered: list[str] = []
    highest = [np.zeros((0, 2))]
    for prediction in method.predict(split, (distributed.rank(), distributed.world())):
        index, offered = prediction.index, list(prediction.routes)
        headline = prediction.routes[offered[0]]
        highest.append(np.stack([each.float().flatten(1).amax(1).cpu().numpy() for each in headline[1::-1]], axis=1))
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
    kept_maps = {name: np.concatenate(parts) for name, parts in maps.items()}
    return Scored(meters, kept_maps, offered, np.concatenate(highest))


def familiar(highest: np.ndarray) -> dict[str, list[float]]:
    """What tells how usual an answer is among those for validation images: percentiles of the best class score, of the
    map's highest value, and of the lower of an image's two ranks. highest: (N, 2), see :class:`Scored`"""
    ranks = (highest.argsort(0).argsort(0) / max(1, len(highest) - 1)).min(axis=1)
    values = {"score": highest[:, 0], "map": highest[:, 1], "both": ranks}
    return {name: np.percentile(each, range(101)).round(6).tolist() for name, each in values.items()}


def centre_box(data: DataSettings, settings: EvaluationSettings) -> dict[str, float]:
    """The best centred box of one size, chosen on validation: what knowing nothing scores. {} without boxes."""
    val, test = open_data(data, "val"), open_data(data, "test")
    if not (val.boxed and test.boxed):
        return {}
    size = baselines.centre_box(val.boxes, val.sizes, grid=settings.grid)
    return baselines.score(baselines.place(size, test.sizes), test, grid=settings.grid)


def execute(request: Request, teacher: Run | None = None) -> None:
    """Train, evaluate and write one run's folder (see tedloc.runs.run); ``metrics.json`` comes last.

    teacher: the finished run of the method that teaches this one

    A finished run that lacks some of the routes asked for is not trained again, they are only scored. Under torchrun
    rank 0 prepares and then has the other processes execute the same request: they train and score their share.
    """
    started, profile, folder = time.monotonic(), request.profile, request.folder
    earlier = Run(folder) if status(folder) == "finished" else None
    wanted = request.routes or tuple(earlier.metrics["all routes"] if earlier else ())
    wanted = tuple(name for name in wanted if earlier is None or name not in earlier.metrics["routes"])
    method = request.made(teacher)
    if distributed.rank() == 0:
        method.share()
        distributed.broadcast((request, teacher))
    with devices.threads(profile.optimiser.threads if request.device == "cpu" else None):
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
        "class names": images.class_names,
        "familiar": familiar(val.highest),
        "parameters": count_parameters(*method.modules().values()),
        "provenance": earlier.metrics["provenance"]
        if earlier
        else provenance()
        | {
            "profile": profile.name,
            "method": request.method,
            "seed": request.seed,
            "dataset": profile.data.name,
            "split": "test",
            "num_images": len(images),
            "synthetic": profile.synthetic,
            "data": images.fingerprint()[:16],
            "device": devices.name(request.device),
            "processes": distributed.world(),
            "seconds": {"fit": fitted - begun, "test": tested - before_test, "all": time.monotonic() - started},
        },
    }
    if teacher:
        metrics["teacher"] = teacher.route(request.teacher().routes[0])
    with paths.replacing(folder / "metrics.json") as scratch:
        scratch.write_text(json.dumps(metrics, indent=1))
