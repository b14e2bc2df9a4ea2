"""The chapter on photos of one's own: what it runs on, its tables, and what to try next."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd

from tedloc import paths, profiles
from tedloc.book import evidence, examples, report
from tedloc.book.localized import Localized
from tedloc.data import SPLITS, ImageSet, example, open_data
from tedloc.metrics import baselines, boxes
from tedloc.metrics.meter import LocalizationMeter
from tedloc.runs.localizer import ROUTE, Localizer
from tedloc.runs.run import Run
from tedloc.settings import Profile, override

FEW = 50  # boxes of val below which a threshold is said to rest on few
SAMPLE = 200  # test photos at most that are looked at anew
HALF = "MaxBoxAcc@0.5"
CARRIED = f"{HALF} (val threshold)"
OURS, TEACHER = "TeD-Loc", "its teacher"
CENTRED = "centred box"
BRIEF = {  # what proves in seconds that everything runs, with weights that ship with the package
    "encoder.name": "aviary/cnn",
    "encoder.image_size": None,
    "anchors.text": "aviary/clip",
    "optimiser.steps": 3,
    "methods.cam.optimiser.steps": 3,
    "evaluation.step": 0.01,
    "evaluation.keep_maps": 12,
}


def profile(name: str, data_root: str = "", settings: Mapping[str, Any] | None = None) -> Profile:
    """The profile ``photos`` on a folder.

    Without a folder it gets one of drawn birds, made for it in the cache. name: of the book's profile; ``smoke`` takes
    a few pictures and steps, and means nothing
    """
    found = profiles.get("photos")
    if data_root:
        found = override(found, {"data.root": str(data_root)})
    elif name == "smoke":
        found = override(found, BRIEF | {"data.root": str(_example(6))})
        found = dataclasses.replace(found, name=name, synthetic=True)
    else:
        found = dataclasses.replace(override(found, {"data.root": str(_example(60))}), synthetic=True)
    return override(found, dict(settings or {}))


def _example(per_class: int) -> Path:
    folder = paths.cache() / f"example-{per_class}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            example.write(folder, per_class)
    return folder


def scores(run: Run, teacher: Run, profile: Profile) -> pd.DataFrame:
    """What the run, its teacher and boxes that look at no photo score on test (%); without boxes, of classes only."""
    columns = {
        "MaxBoxAcc": HALF,
        "threshold from val": CARRIED,
        "mean IoU": "mean IoU",
        "Top-1 Loc": "Top-1 Loc",
        "Top-1 CL": "Top-1 CL",
    }
    rows = {OURS: run.metrics, TEACHER: teacher.metrics}
    test, val = (open_data(profile.data, split) for split in ("test", "val"))
    if test.boxed:
        rows |= baselines.baselines(test, val if val.boxed else None, profile.evaluation.grid)
    table = pd.DataFrame(
        {name: {title: row.get(key) for title, key in columns.items()} for name, row in rows.items()}
    ).T
    table = table.astype(float).rename_axis("box from")
    if not test.boxed:
        return table[["Top-1 CL"]]
    found = {OURS: run.meter(), TEACHER: teacher.meter()}
    intervals = {name: evidence.interval({0: meter}) for name, meter in found.items()}
    spread = [f"{low:.1f} to {high:.1f}" for low, high in intervals.values()]
    table.insert(1, "95 % interval", [*spread, *[report.MISSING] * (len(table) - 2)])
    return table


def by_class(meter: LocalizationMeter, class_names: Sequence[str]) -> pd.DataFrame:
    """One row a class, those with the fewest right answers first: photos of test, right classes and boxes, and the name
    that wrong ones get most often."""
    table = meter.per_image()
    rows = {}
    for label, photos in table.groupby("label"):
        wrong = photos.loc[photos["predicted"] != label, "predicted"]
        rows[class_names[label]] = {
            "test photos": len(photos),
            "class right (%)": 100 * float((photos["predicted"] == label).mean()),
            "taken for": class_names[wrong.mode()[0]] if len(wrong) else report.MISSING,
        }
        if "iou" in photos:
            rows[class_names[label]] |= {
                "box right (%)": 100 * float(photos["correct@0.5"].mean()),
                "mean IoU (%)": 100 * float(photos["iou"].mean()),
            }
    found = pd.DataFrame(rows).T.rename_axis("class").infer_objects()
    return found.sort_values(["class right (%)", *(["box right (%)"] if "box right (%)" in found else [])])


def refusals(localizer: Localizer, images: ImageSet, empty: Sequence[np.ndarray] = ()) -> pd.DataFrame:
    """Share that ``--min-score`` refuses at some values: of test photos, and of pictures without an object."""
    test = (images.image(i) for i in examples.evenly(len(images), SAMPLE))
    groups = {"test photos": test} | ({"no object": empty} if len(empty) else {})
    familiar = {
        name: np.array([localizer.familiarity(localizer(picture)) for picture in pictures])
        for name, pictures in groups.items()
    }
    shares = {
        f"{bound:g}": {f"{name} refused (%)": 100 * float((found < bound).mean()) for name, found in familiar.items()}
        for bound in (0.01, 0.05, 0.1, 0.2)
    }
    return pd.DataFrame(shares).T.rename_axis("--min-score")


def examples_by_rule(
    run: Run, teacher: Run, images: ImageSet, localizer: Localizer, count: int = 5
) -> tuple[list[int], list[list[dict[str, Any]]]]:
    """Positions and panels, one row a test photo: of those whose maps were kept, at even ranks of IoU, from the best to
    the worst, TeD-Loc's map beside its teacher's; without boxes evenly spaced photos, TeD-Loc's alone."""
    if images.boxed:
        both = [Localized(each, each.routes[0], images, localizer.size) for each in (run, teacher)]
        chosen = both[0].by_iou(count).tolist()
        return chosen, [[each.panel(i) for each in both] for i in chosen]
    chosen = examples.evenly(len(images), count).tolist()
    return chosen, [[answer(localizer, images, i)] for i in chosen]


def worst(run: Run, images: ImageSet, localizer: Localizer, count: int = 8) -> list[dict[str, Any]]:
    """Panels of the test photos with the least overlap; without boxes, of those whose best class scores lowest."""
    if images.boxed:
        chosen = evidence.by_image(run.meter(), images.ids)["iou"].argsort(kind="stable")[:count]
    else:
        best = {i: localizer(images.image(i)).scores.max() for i in examples.evenly(len(images), SAMPLE).tolist()}
        chosen = sorted(best, key=best.get)[:count]
    return [answer(localizer, images, int(i)) for i in chosen]


def answer(localizer: Localizer, images: ImageSet, index: int) -> dict[str, Any]:
    """What is drawn of a photo: map, box and class as `predict` gives them, and the truth."""
    picture = images.image(index)
    found = localizer(picture)
    said = textwrap.fill(f"“{localizer.class_names[int(found.scores.argmax())]}”", 24)
    return {
        "image": picture,
        "score_map": boxes.to_grid(found.map, localizer.size),
        "gt_boxes": images.boxes[index],
        "predicted_box": found.box,
        "title": f"{said}\nis {textwrap.fill(images.class_names[images.labels[index]], 24)}",
    }


def mean_map(run: Run) -> np.ndarray:
    """(h, w) mean of the kept test photos' maps, each stretched to [0, 1]."""
    kept = run.maps()[ROUTE].astype(np.float32)
    low, high = kept.min((1, 2), keepdims=True), kept.max((1, 2), keepdims=True)
    return ((kept - low) / np.maximum(high - low, 1e-9)).mean(0)


def mean_box(images: ImageSet, grid: int) -> np.ndarray | None:
    """(grid, grid) share of photos whose boxes cover a place; None without boxes."""
    if not images.boxed:
        return None
    covered = np.zeros((grid, grid))
    for found, size in zip(images.boxes, images.sizes):
        inside = np.zeros((grid, grid), bool)
        for x0, y0, x1, y1 in boxes.scale_boxes(found, size, grid):
            inside[y0 : y1 + 1, x0 : x1 + 1] = True
        covered += inside
    return covered / len(images)


def advice(story: Mapping[str, Any], run: Run, profile: Profile) -> list[str]:
    """What to try next, in sentences, the most urgent first. story: as ``tedloc.data.describe.describe`` tells it."""
    said, splits = [], {split: open_data(profile.data, split) for split in SPLITS}
    doubled = [
        pair for pair in (*story["identical"], *story["near-duplicates across splits"]) if len(_splits(pair)) > 1
    ]
    if doubled:
        said.append(
            f"**{len(doubled)} photos of one split are nearly those of another**, so test is easier than new photos: "
            "delete the copies, or put each series of photos into one split (`splits.csv`)."
        )
    if not splits["test"].boxed:
        said.append(
            "**No photo of test has a box**, so nothing here says whether boxes are right. Draw them for some photos "
            "of every class (any tool that exports COCO, VOC, YOLO or CSV): val and test are then taken from those."
        )
    drawn = sum(map(len, splits["val"].boxes))
    if splits["test"].boxed and drawn < FEW:
        said.append(
            f"**The threshold rests on {drawn} boxes of val.** More boxes there, or `--threshold`, are the cheapest "
            "way to better ones."
        )
    small = [name for name, counts in story["classes"].items() if counts["train"] < 10]
    if small:
        said.append(
            f"**{len(small)} class{'es have' if len(small) > 1 else ' has'} fewer than 10 training photos** "
            f"({', '.join(small[:5])}{' ...' if len(small) > 5 else ''}): more of them help the class first."
        )
    if splits["test"].boxed and splits["val"].boxed:
        box = evidence.box_meter(baselines.centre_box(splits["val"].boxes, splits["val"].sizes), splits["test"])
        gap = evidence.difference({0: run.meter()}, {0: box})
        if gap.low <= 0:
            words = "does as well" if gap.mean <= 0 else "is as good, as far as so few boxes of test can tell"
            said.append(
                f"**A box that looks at no photo {words}** ({evidence.brief(gap)} points). Look at the worst cases: "
                "if maps mark a part, try another teacher (`--pseudo-labels.teacher ddt`); if they are coarse, larger "
                "photos (`--encoder.image-size 448`)."
            )
    root = "FOLDER" if profile.synthetic else profile.data.root
    said.append(
        f"Settings are the profile's. `python -m tedloc.tune --profile photos --data.root {root} --method tedloc` "
        "searches on val alone."
    )
    at = run.folder.relative_to(paths.root()) if run.folder.is_relative_to(paths.root()) else run.folder
    said.append(
        f"For other photos: `python -m tedloc.predict PHOTOS --checkpoint {at} --out found`; to take the model "
        f"elsewhere: `python -m tedloc.export --checkpoint {at} model`."
    )
    return said


def _splits(pair: Sequence[str]) -> set[str]:
    return {name.partition(":")[0] for name in pair}
