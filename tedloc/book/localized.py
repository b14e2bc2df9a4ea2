"""A finished run on a split as pictures show it: its maps, its boxes, and how right they are."""

from pathlib import Path
from typing import Any

import numpy as np

from tedloc.book import evidence, examples
from tedloc.data import ImageSet
from tedloc.metrics import boxes
from tedloc.runs.run import Run

PICTURES = {  # profile -> the picture of it that is kept, below book/; drawn by `python -m tedloc.book picture`
    "aviary": Path("_static", "localizations.jpg"),
    "imagenette-small": Path("_static", "maps-of-photos.jpg"),
}


class Localized:
    """A run's boxes on a split, and its maps of the images whose maps it kept, by one route, for pictures.

    results: one line an image of the split, in its order (``LocalizationMeter.per_image``, at the oracle threshold)
    kept:    (n,) positions of the images whose maps are there
    maps:    (n, h, w)
    """

    def __init__(self, run: Run, route: str, images: ImageSet, grid: int):
        self.images, self.grid = images, grid
        self.results = evidence.by_image(evidence.meter(run, route), images.ids)
        stored = run.maps()
        self.kept, self.maps = stored["index"], stored[route]

    def iou(self, image: int) -> float:
        return float(self.results["iou"].iloc[image])

    def right(self, image: int) -> bool:
        """Whether the class scored highest is the true one."""
        return bool(self.results["rank"].iloc[image] == 1)

    def by_iou(self, count: int) -> np.ndarray:
        """Positions of ``count`` of the kept images at even ranks of IoU, from the best to the worst."""
        return self.kept[examples.by_rank(self.results["iou"].to_numpy()[self.kept], count)]

    def panel(self, image: int, title: str | None = None) -> dict[str, Any]:
        """What ``plots.show_localization`` draws of a kept image. title: default, its IoU"""
        position = int(np.flatnonzero(self.kept == image)[0])
        return {
            "image": self.images.picture(image),
            "score_map": boxes.to_grid(self.maps[position], self.grid),
            "gt_boxes": self.images.boxes[image],
            "predicted_box": self.results[["x0", "y0", "x1", "y1"]].iloc[image],
            "title": f"IoU {self.iou(image):.2f}" if title is None else title,
        }
