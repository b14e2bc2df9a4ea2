"""What the page *Explore* hands to a reader's browser: finished results as JSON, and nothing left to compute.

Two pieces: the localization explorer (image, method and threshold give a box, its IoU and the accuracy over all test
images) and the anchors explorer (cosines of class pairs before and after orthogonalization). The scripts
``book/_static/explorer.js`` and ``anchors.js`` draw what stands here. Boxes are those of
:func:`tedloc.metrics.boxes.boxes_by_level`, one for each level a byte map can be cut at, so the page can show no box
that the protocol would not give.

A map travels as the run stored it: small, in half precision. ``book/_static/try-it-core.js`` enlarges it to the very
bytes of :func:`tedloc.metrics.boxes.to_grid`, rounding as OpenCV does. So outline and box come from one byte map. (The
run itself scored single precision: :func:`agreement` says how seldom that moves a box.)

Each piece is one element. What it shows at the moment stands in its attributes, for tests and for other scripts:

    .tedloc-explorer   data-image      id of the image             data-method     name of the method
                       data-step       number of the threshold     data-threshold  step * data-step, in [0, 1)
                       data-level      pixels above it count       data-box        x0,y0,x1,y1 on the grid
                       data-iou        best with any true box      data-correct    true or false (IoU >= 0.5)
                       data-accuracy   %, over all test images     data-map-sum    sum of the byte map
    .tedloc-anchors    data-text, data-kind   names of text encoder and orthogonaliser
                       data-first, data-second   names of the two classes
                       data-before, data-after   their cosine

For a method that gives boxes without a map, step, threshold, level and map-sum are empty. :func:`state` gives the
same values from the JSON, which :func:`payload` finds in a page; :func:`tedloc.book.anchors_explorer.pair` those of the
second piece, whose data :mod:`tedloc.book.anchors_explorer` prepares.
"""

import base64
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from tedloc import plots
from tedloc.book import embedded, evidence, examples
from tedloc.data import ImageSet
from tedloc.errors import UserError
from tedloc.metrics import boxes
from tedloc.metrics.meter import LocalizationMeter
from tedloc.runs.run import Run

HALF = 0.5  # the IoU from which on a box counts
LIMIT = 1_200_000  # characters of JSON a piece may take: a page stays below 2 MB
LARGEST_SIDE = 320  # pixels of an image on the page


@dataclass(frozen=True)
class Method:
    """A method as explored: its results on all test images, and its maps (n, h, w) of those that were kept.

    val: of the validation split, for the threshold that is carried over; None where there is none
    """

    meter: LocalizationMeter
    val: LocalizationMeter | None
    maps: np.ndarray

    @property
    def has_maps(self) -> bool:
        return self.meter.records.has_maps


@dataclass(frozen=True)
class Explorer:
    """One interactive piece: it shows itself as HTML, which the book's script of its kind brings to life."""

    kind: str  # "explorer" or "anchors": of the element's class and of the script
    payload: dict[str, Any]
    badge: str  # one line: what the numbers were measured on

    def json(self) -> str:
        return embedded.script_json(self.payload)

    def _repr_html_(self) -> str:
        return (
            f'<div class="tedloc-{self.kind}">'
            f'<script type="application/json">{self.json()}</script>'
            "<noscript><p>This piece needs JavaScript. The figure below shows a part of it.</p></noscript>"
            f'<p class="explorer-badge">{html.escape(self.badge)}</p></div>'
        )

    def __repr__(self) -> str:
        return f"{self.kind}: an interactive piece, shown in the book's pages. {self.badge}"


def payload(page: str, kind: str) -> dict[str, Any]:
    """The JSON of a piece in a page's HTML. Raises ``UserError`` when the page has none of that kind."""
    found = re.search(rf'<div class="tedloc-{kind}"><script type="application/json">(.*?)</script>', page, re.DOTALL)
    if not found:
        raise UserError(f"the page holds no piece of the kind {kind!r}; build the chapter explore anew")
    return json.loads(found[1])


def of_run(run: Run, route: str) -> Method:
    """A finished run by one of its routes, as a method to be explored."""
    test, val = (evidence.meter(run, route, split) for split in ("test", "val"))
    return Method(test, val, run.maps()[route])


def localization(
    methods: Mapping[str, Method], images: ImageSet, kept: np.ndarray, leading: str, badge: str = "", count: int = 10
) -> Explorer:
    """The localization explorer.

    methods: by name, in the order of the list; all of one grid and step. kept: (n,) positions of the test images
    whose maps they hold. leading: the method that is shown first and whose IoU ranks the images; ``count`` of them
    are shown, fewer where their maps are large.
    """
    meter = methods[leading].meter
    if any((each.meter.grid, each.meter.step) != (meter.grid, meter.step) for each in methods.values()):
        raise UserError("the methods were scored with different grids or thresholds; evaluate all alike")
    if meter.grid > 256:
        raise UserError(
            f"evaluation.grid is {meter.grid}; the explorer keeps coordinates as bytes, so set it to at most 256"
        )
    iou = evidence.by_image(meter, [images.ids[i] for i in kept])["iou"]
    for shown in range(count, 0, -1):
        chosen = examples.by_rank(iou, shown)
        made = Explorer(
            "explorer",
            {
                "grid": meter.grid,
                "step": meter.step,
                "thresholds": len(meter.thresholds),
                "count": len(meter),
                "leading": list(methods).index(leading),
                "overlay": _overlay(),
                "images": [_image(images, int(kept[n]), meter.grid) for n in chosen],
                "methods": [_method(name, method, images, kept, chosen) for name, method in methods.items()],
            },
            badge,
        )
        if len(made.json()) <= LIMIT:
            return made
    raise UserError(
        f"one image with the maps of {len(methods)} methods takes more than {LIMIT} characters; "
        "explore fewer methods at once"
    )


def _image(images: ImageSet, index: int, grid: int) -> dict[str, Any]:
    """Small pictures exactly, larger ones as photos."""
    picture, file = Image.fromarray(images.image(index)), io.BytesIO()
    width, height = (int(side) for side in images.sizes[index])
    small = max(picture.size) <= 128
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    picture.save(file, "PNG" if small else "JPEG", optimize=True, **({} if small else {"quality": 85}))
    return {
        "id": images.ids[index],
        "name": images.class_names[images.labels[index]],
        "size": [width, height],
        "source": embedded.picture(file.getvalue()),
        "targets": boxes.scale_boxes(images.boxes[index], images.sizes[index], grid).tolist(),
    }


def _method(name: str, method: Method, images: ImageSet, kept: np.ndarray, chosen: Sequence[int]) -> dict[str, Any]:
    """correct: images with a correct box, one number a threshold; a single one where there is no threshold."""
    meter, records = method.meter, method.meter.records
    rows = [int(np.searchsorted(records.ids, images.ids[kept[n]])) for n in chosen]
    guesses = [images.class_names[records.predicted[row]] if records.predicted[row] >= 0 else None for row in rows]
    correct = (records.hit_rate("largest", meter.ious.index(HALF), meter.thresholds) * len(meter)).round()
    made = {"name": name, "correct": correct.astype(int).tolist(), "guesses": guesses}
    if not method.has_maps:
        return made | {"correct": made["correct"][:1], "boxes": records.largest[rows, 0].tolist()}
    val = method.val if method.val is not None and method.val.records.has_maps else None
    return made | {
        "oracle": _position(meter, meter.best_threshold()),
        "val": None if val is None else _position(meter, val.best_threshold()),
        "maps": [_map(method.maps[n], meter.grid) for n in chosen],
    }


def _position(meter: LocalizationMeter, threshold: float) -> int:
    return int(np.abs(meter.thresholds - threshold).argmin())


def _map(score_map: np.ndarray, grid: int) -> dict[str, Any]:
    """half: the map's values; top, sum: of the byte map; boxes: 255 x 4 bytes."""
    stored = np.ascontiguousarray(score_map, "<f2")
    levels = boxes.to_bytes(boxes.to_grid(stored, grid))
    largest, _ = boxes.boxes_by_level(levels, np.zeros((0, 4), np.int64))
    return {
        "shape": list(stored.shape),
        "half": _text(stored.tobytes()) if levels.any() else "",  # a map that the protocol takes for empty has none
        "top": int(levels.max()),
        "boxes": _text(largest.astype(np.uint8).tobytes()),
        "sum": int(levels.sum(dtype=np.int64)),
    }


def _overlay() -> str:
    """256 x 4 bytes RGBA: the colours that the book's figures lay over an image."""
    return _text(plots.OVERLAY(np.arange(256), bytes=True).astype(np.uint8).tobytes())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def box_of(explored: dict[str, Any], method: int, image: int, step: int) -> list[int]:
    """The box on the grid that stands in the JSON for a method, an image and the number of a threshold."""
    made = explored["methods"][method]
    if "maps" not in made:
        return made["boxes"][image]
    packed = made["maps"][image]
    level = boxes.level_of(step * explored["step"], packed["top"])
    return np.frombuffer(base64.b64decode(packed["boxes"]), np.uint8).reshape(-1, 4)[level].tolist()


def state(explored: dict[str, Any], method: int, image: int, step: int) -> dict[str, Any]:
    """What the page must show: the attributes of the localization explorer, by name without ``data-``."""
    made, shown = explored["methods"][method], explored["images"][image]
    box = box_of(explored, method, image, step)
    iou = float(boxes.iou(box, shown["targets"]).max())
    found = {"image": shown["id"], "method": made["name"], "box": box, "iou": iou, "correct": iou >= HALF}
    correct = made["correct"][step if "maps" in made else 0]
    found["accuracy"] = 100 * (correct / explored["count"])
    if "maps" not in made:
        return found | dict.fromkeys(("step", "threshold", "level", "map-sum"))
    packed, threshold = made["maps"][image], step * explored["step"]
    return found | {
        "step": step,
        "threshold": threshold,
        "level": int(boxes.level_of(threshold, packed["top"])),
        "map-sum": packed["sum"],
    }


def agreement(methods: Mapping[str, Method], images: ImageSet, kept: np.ndarray) -> dict[str, tuple[float, float]]:
    """How far boxes of the stored maps are those the run was scored by, for each method with maps.

    Two shares over the kept images: of levels with the very same box, and of images that count alike at the oracle
    threshold.
    """
    found = {}
    for name, method in methods.items():
        if not method.has_maps:
            continue
        same, alike, records = [], [], method.meter.records
        best = method.meter.best_threshold()
        scored = records.iou_at(best) >= HALF
        for score_map, i in zip(method.maps, kept, strict=True):
            row = int(np.searchsorted(records.ids, images.ids[i]))
            levels = boxes.to_bytes(boxes.to_grid(score_map, method.meter.grid))
            target = boxes.scale_boxes(images.boxes[i], images.sizes[i], method.meter.grid)
            largest, _ = boxes.boxes_by_level(levels, target)
            same.append((largest == records.largest[row]).all(axis=1).mean())
            hit = boxes.iou(largest[boxes.level_of(best, levels.max())], target).max() >= HALF
            alike.append(hit == scored[row])
        found[name] = float(np.mean(same)), float(np.mean(alike))
    return found


def static_localization(explored: Explorer, methods: Sequence[str], count: int = 4) -> Figure:
    """The figure for a page without JavaScript: some images under some methods, each at its oracle threshold."""
    data = explored.payload
    numbers = [n for n, made in enumerate(data["methods"]) if made["name"] in methods]
    chosen = examples.evenly(len(data["images"]), count)
    panels, titles = [], []
    for i in chosen:
        shown = data["images"][i]
        encoded = shown["source"].partition(",")[2]
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))
        line = []
        for n in numbers:
            made = data["methods"][n]
            found = state(data, n, i, made.get("oracle", 0))
            size = (picture.shape[1], picture.shape[0])
            line.append(
                {
                    "image": picture,
                    "score_map": _decoded(made["maps"][i], data["grid"]) if "maps" in made else None,
                    "gt_boxes": boxes.unscale_boxes(np.array(shown["targets"]), np.array(size), data["grid"]),
                    "predicted_box": boxes.unscale_boxes(np.array(found["box"]), np.array(size), data["grid"]),
                    "title": f"IoU {found['iou']:.2f}",
                }
            )
        panels.append(line)
        titles.append(f"image {i + 1}")
    return plots.grid_of_localizations(
        panels, [data["methods"][n]["name"].replace(" (", "\n(") for n in numbers], titles
    )


def _decoded(packed: dict[str, Any], grid: int) -> np.ndarray:
    """(grid, grid) float64 map in [0, 1], as the script sees it."""
    if not packed["half"]:
        return np.zeros((grid, grid))
    stored = np.frombuffer(base64.b64decode(packed["half"]), "<f2").reshape(packed["shape"])
    return boxes.to_bytes(boxes.to_grid(stored, grid)) / 255
