"""The metrics of weakly supervised object localization, as the field's benchmark defines them.

    meter = LocalizationMeter()
    meter.update(ids, maps, boxes, sizes, labels, scores)      # batch by batch, in any order, on any process
    meter.merge(other)                                         # the same as one meter that saw everything
    meter.compute(val=meter_of_the_validation_split)
    meter.reset()                                              # before the next epoch

Source of every convention: J. Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right",
CVPR 2020, and its evaluator (clovaai/wsolevaluation). A threshold is chosen for the whole data set, never for an
image. Who chooses it is part of a metric's name:

    MaxBoxAcc@0.5                      oracle: the best threshold on the evaluated split itself (the benchmark's rule)
    MaxBoxAcc@0.5 (val threshold)      the best threshold on the validation split, carried over
    MaxBoxAcc@0.5 (fixed threshold)    a given one
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tedloc.data import geometry
from tedloc.data.arrays import array, check_labels, check_scores, map_fault, numbers, paired, truth_mask
from tedloc.errors import UserError, choose, remark
from tedloc.metrics import boxes as mapping
from tedloc.metrics import pxap
from tedloc.metrics.records import CONTOURS, Records

V2_IOUS = (0.3, 0.5, 0.7)
LARGEST_GRID = 4096
SMALLEST_STEP = 1e-5  # far below 1/255, which separates any two thresholds of a map


class LocalizationMeter:
    """Collects per-image results batch by batch and turns them into metrics; its size: :mod:`tedloc.metrics.records`.

    grid: side of the square grid that maps and boxes are compared on: 224 in the protocol, 256 in TeD-Loc's text
    step: distance of neighbouring thresholds in [0, 1)
    ious: a box is correct from this overlap on
    """

    def __init__(self, *, grid: int = 224, step: float = 0.001, ious: Sequence[float] = V2_IOUS):
        if not 2 <= grid <= LARGEST_GRID:
            raise UserError(
                f"the evaluation grid is {grid}; give the side of a grid of at least 2 and at most {LARGEST_GRID} (the "
                "protocol: 224)"
            )
        if not SMALLEST_STEP <= step < 1:
            raise UserError(
                f"the threshold step is {step}; give one below 1 and of at least {SMALLEST_STEP} (the protocol: 0.001)"
            )
        self.grid, self.step, self.ious = int(grid), float(step), tuple(float(iou) for iou in ious)
        self.thresholds = np.arange(0, 1, self.step)
        self._edges = pxap.bin_edges(self.step)
        self._parts: list[Records] = []

    def __len__(self) -> int:
        return len(self.records) if self._parts else 0

    @property
    def records(self) -> Records:
        """Everything collected so far, each image once, sorted by id."""
        if not self._parts:
            raise UserError("nothing was evaluated: no image reached the meter; check the split and its size")
        if len(self._parts) > 1 or not getattr(self, "_joined", False):
            self._parts = [Records.join(self._parts)]
            self._joined = True
        return self._parts[0]

    @property
    def images(self) -> str:
        """Names the evaluated images with their sizes and boxes: equal for results on the same images alone."""
        records = self.records
        known = (records.size, records.counts, records.targets)
        content = [repr(records.ids.tolist()).encode(), *(array.astype(np.int64).tobytes() for array in known)]
        return hashlib.sha256(b"|".join(content)).hexdigest()[:16]

    def update(
        self,
        ids: Sequence[str],
        maps: Any,
        boxes: Sequence[np.ndarray] | None,
        sizes: Any,
        labels: Any = None,
        scores: Any = None,
        masks: Any = None,
        *,
        as_is: bool = False,
    ) -> None:
        """Add a batch of B images.

        maps:   (B, h, w) array or tensor of any size: resized bicubically to the grid and min-max normalised
        boxes:  for each image (n, 4) x0, y0, x1, y1 in pixels of the original image; the best-matching one counts.
                None where the data set has masks only
        sizes:  (B, 2) width, height of the original images; zeros will do where there are no boxes
        labels: (B,) true classes; scores: (B, K) class scores, higher is better; together or not at all
        masks:  for each image (H, W) bool, or numbers: 1 object, 0 background, 255 ignored
        as_is:  maps and masks are on the grid already, the maps within [0, 1]; use them untouched

        All of them may be tensors. Raises ``UserError`` for arrays that do not fit together or to their image, an image
        without a box and a score that is not finite.
        """
        ids = list(ids)
        maps = numbers(maps, "score maps", (len(ids), None, None), "images, height, width")
        targets, sizes = self._targets(ids, boxes, sizes)
        for name, score_map, size in zip(ids, maps, sizes, strict=True):
            if fault := map_fault(score_map, size):
                raise UserError(f"the score map of {name!r} {fault}")
        if masks is not None:
            masks = [array(mask) if as_is else truth_mask(name, mask) for name, mask in paired(ids, masks, "masks")]
        largest = np.zeros((len(ids), mapping.LEVELS, 4), np.int64)
        best = np.zeros((len(ids), mapping.LEVELS))
        top = np.zeros(len(ids), np.uint8)
        pixels = np.zeros((len(ids), 2, 0 if masks is None else len(self._edges) - 1), np.uint32)
        for n, score_map in enumerate(maps):
            if not as_is:
                score_map = mapping.to_grid(score_map, self.grid)
            elif score_map.shape != (self.grid, self.grid) or not 0 <= score_map.min() <= score_map.max() <= 1:
                raise UserError(f"the map of {ids[n]!r} is not a {self.grid}x{self.grid} map within [0, 1]")
            levels = mapping.to_bytes(np.asarray(score_map, np.float64))
            largest[n], best[n] = mapping.boxes_by_level(levels, targets[n])
            top[n] = levels.max()
            if masks is not None:
                pixels[n] = pxap.histogram(score_map, pxap.to_grid(masks[n], self.grid), self._edges)
        self._add(ids, targets, sizes, labels, scores, largest, best, top, pixels)

    def update_boxes(
        self,
        ids: Sequence[str],
        predicted: np.ndarray,
        boxes: Sequence[np.ndarray],
        sizes: Any,
        labels: Any = None,
        scores: Any = None,
        *,
        top: int = 0,
    ) -> None:
        """Add a batch of images for which boxes on the grid were predicted instead of maps.

        predicted: (B, 4) x0, y0, x1, y1; or (B, 255, 4), one box a level of a map whose brightest byte is ``top``.
        """
        ids, predicted = list(ids), array(predicted)
        shape = (len(ids), 4) if predicted.ndim == 2 else (len(ids), mapping.LEVELS, 4)
        predicted = numbers(predicted, "predicted boxes", shape, "x0, y0, x1, y1 on the grid for each image")
        well = ((predicted >= 0) & (predicted < self.grid)).all(-1) & (predicted[..., :2] <= predicted[..., 2:]).all(-1)
        if not well.all():
            row = tuple(np.argwhere(~well)[0])
            edges = ", ".join(f"{edge:g}" for edge in predicted[row])
            raise UserError(
                f"the box predicted for {ids[row[0]]!r}, {edges}, is none on the grid; give x0 <= x1 and y0 <= y1 from "
                f"0 to {self.grid - 1}"
            )
        predicted = predicted.astype(np.int64).reshape(len(ids), -1, 4)
        targets, sizes = self._targets(ids, boxes, sizes)
        tops, pixels = np.full(len(ids), top, np.uint8), np.zeros((len(ids), 2, 0), np.uint32)
        self._add(ids, targets, sizes, labels, scores, predicted, None, tops, pixels)

    def _targets(self, ids, boxes, sizes) -> tuple[list[np.ndarray], np.ndarray]:
        """Boxes on the grid for each image, and the sizes (B, 2)."""
        sizes = numbers(sizes, "sizes", (len(ids), 2), "width and height of each image")
        unknown = boxes is None and not sizes.any()  # masks need no sizes
        if fault := None if unknown else geometry.size_fault(sizes):
            raise UserError(f"image {ids[fault[0]]!r} {fault[1]}")
        if boxes is None:
            return [np.zeros((0, 4), np.int64)] * len(ids), sizes
        found = []
        for name, box in paired(ids, boxes, "lists of boxes"):
            box = array(box)
            if box.size == 0:
                raise UserError(f"image {name!r} has no box (x0, y0, x1, y1) to be compared with; leave it out")
            box = box[None] if box.ndim == 1 else box
            found.append(numbers(box, f"boxes of image {name!r}", (None, 4), "x0, y0, x1, y1 of each box"))
        owner = np.repeat(np.arange(len(ids)), [len(box) for box in found])
        if fault := geometry.box_fault(np.concatenate(found), sizes[owner]) if found else None:
            raise UserError(f"image {ids[owner[fault[0]]]!r}: {fault[1]}")
        scaled = mapping.scale_boxes(np.concatenate(found) if found else np.zeros((0, 4)), sizes[owner], self.grid)
        return np.split(scaled, np.cumsum([len(box) for box in found])[:-1]), sizes

    def _add(self, ids, targets, sizes, labels, scores, largest, best, top, pixels) -> None:
        if len(ids) == 0:
            return
        count = len(ids)
        label, predicted, rank = np.full(count, -1), np.full(count, -1), np.zeros(count, int)
        if labels is not None:
            label = check_labels(ids, labels)
        if scores is not None:
            if labels is None:
                raise UserError("class scores come without labels; give both, or neither")
            scores = numbers(scores, "class scores", (count, None), "images, classes")
            predicted, rank = _ranks(ids, label, check_scores(ids, scores, "the batch"))
        overlap = np.zeros((count, 2, 1, mapping.LEVELS))  # of the largest contour's box, of the best box of all
        counts = np.array([len(target) for target in targets])
        if counts.any():
            every = mapping.iou(np.repeat(largest, counts, axis=0), np.concatenate(targets)[:, None])
            starts = (counts.cumsum() - counts)[counts > 0]
            overlap[counts > 0] = np.maximum.reduceat(every, starts, axis=0)[:, None, None]
        if best is not None:
            overlap[:, 1, 0] = best
        hits = np.packbits(overlap >= np.array(self.ious)[:, None], axis=-1)
        self._parts.append(
            Records(
                ids=np.array(ids, dtype=np.str_),
                label=label.astype(np.int32),
                predicted=predicted.astype(np.int32),
                rank=rank.astype(np.int32),
                size=sizes.astype(np.int32),
                top=top,
                largest=np.broadcast_to(
                    largest.astype(np.uint8 if self.grid <= 256 else np.uint16), (count, mapping.LEVELS, 4)
                ),
                hits=hits,
                counts=counts.astype(np.int32),
                targets=np.concatenate(targets).astype(np.int32),
                pixels=pixels,
            )
        )
        self._joined = False

    def reset(self) -> None:
        """Forget all images, as before the next epoch; the settings stay."""
        self._parts, self._joined = [], False

    def merge(self, other: "LocalizationMeter") -> "LocalizationMeter":
        """Take over another meter's images; an image that both hold counts once. Returns this meter."""
        if (self.grid, self.step, self.ious) != (other.grid, other.step, other.ious):
            raise UserError("two meters with different grid, step or IoUs cannot be merged; evaluate both alike")
        self._parts = self._parts + other._parts
        self._joined = False
        return self

    def state_dict(self) -> dict[str, np.ndarray]:
        """The meter as plain arrays, for another process or an ``.npz`` file."""
        settings = np.array([self.grid, self.step, *self.ious], np.float64)
        return {"settings": settings} | (dict(vars(self.records)) if self._parts else {})

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Replace the meter's settings and images by those that :meth:`state_dict` gave."""
        state = {name: np.asarray(array) for name, array in state.items()}
        grid, step, *ious = state.pop("settings").tolist()
        self.__init__(grid=int(grid), step=step, ious=ious)
        if state:
            self._parts = [Records(**state)]

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> "LocalizationMeter":
        """A meter from what :meth:`state_dict` gave."""
        meter = cls()
        meter.load_state_dict(state)
        return meter

    def compute(
        self, *, val: "LocalizationMeter | None" = None, fixed: float | None = None, contours: str = "largest"
    ) -> dict[str, float]:
        """All metrics that the data allows, in percent (``mean IoU`` too; thresholds are in [0, 1)).

        val:      meter of the validation split; adds every localization metric with its thresholds, " (val threshold)"
        fixed:    a threshold; adds them " (fixed threshold)"
        contours: which boxes ``MaxBoxAcc@...`` and Top-k Loc count: of the ``largest`` contour (the protocol) or of
                  ``all``. MaxBoxAccV2, the mean over IoU 0.3, 0.5 and 0.7, always counts all

        Top-1 and Top-5 Loc (class among the k best and box correct at IoU 0.5) use the threshold of MaxBoxAcc@0.5;
        "(own threshold)" maximises each on its own. Equally good thresholds: the lowest counts. Class scores that
        are equal are ranked by class index.
        """
        choose("kind of contours", contours, CONTOURS)
        if fixed is not None and not 0 <= fixed < 1:
            raise UserError(f"the fixed threshold is {fixed}; give one from 0 up to, but not including, 1")
        records, result = self.records, {}
        if records.has_boxes:
            if doubt := geometry.doubt(records.targets, np.full((len(records.targets), 2), self.grid)):
                remark(doubt)
            result |= self._localization(contours, self.best_threshold, own=records.has_scores)
            if val is not None and val.records.has_boxes:
                own = records.has_scores and val.records.has_scores
                result |= _named("val", self._localization(contours, val.best_threshold, own))
            if fixed is not None:
                result |= _named("fixed", self._localization(contours, lambda *_: fixed, own=False))
        if records.has_scores:
            for k in (1, 5):
                result[f"Top-{k} CL"] = 100 * float(records.ranked_within(k).mean())
        if records.has_masks:
            result["PxAP"] = float(pxap.average_precision(records.pixels.sum(axis=0, dtype=np.int64)))
            if np.isnan(result["PxAP"]):
                raise UserError("no mask has an object, so there is no PxAP; a pixel of an object is 1, 255 is ignored")
        return result | {"num_images": len(records)}

    def _localization(self, contours: str, threshold: Callable[..., float], own: bool) -> dict[str, float]:
        records = self.records

        def accuracy(kind: str, j: int, tau: float, top_k: int | None = None) -> float:
            return 100 * float(records.hit_rate(kind, j, np.array([tau]), top_k)[0])

        numbers = range(len(self.ious))
        result = {f"MaxBoxAcc@{self.ious[j]:g}": accuracy(contours, j, threshold(contours, j)) for j in numbers}
        if self.ious == V2_IOUS:
            result["MaxBoxAccV2"] = float(np.mean([accuracy("all", j, threshold("all", j)) for j in numbers]))
        if 0.5 in self.ious:
            half = self.ious.index(0.5)
            tau = threshold(contours, half)
            if records.has_maps:
                result["threshold@0.5"] = tau
            for k in (1, 5) if records.has_scores else ():
                result[f"Top-{k} Loc"] = accuracy(contours, half, tau, k)
                if own and records.has_maps:
                    result[f"Top-{k} Loc (own threshold)"] = accuracy(contours, half, threshold(contours, half, k), k)
            if records.has_predictions:
                result["mean IoU"] = 100 * float(records.iou_at(tau).mean())
        return result

    def best_threshold(self, contours: str = "largest", j: int = 1, top_k: int | None = None) -> float:
        """The (lowest) threshold with the most correct images, at IoU number ``j``; with ``top_k``, for Top-k Loc."""
        return float(self.thresholds[self.records.hit_rate(contours, j, self.thresholds, top_k).argmax()])

    def curve(self, contours: str = "largest") -> dict[str, np.ndarray]:
        """``thresholds`` and, for each IoU, the box accuracy in percent at each of them (``BoxAcc@0.5``, ...)."""
        curves = {
            f"BoxAcc@{iou:g}": 100 * self.records.hit_rate(contours, j, self.thresholds)
            for j, iou in enumerate(self.ious)
        }
        return {"thresholds": self.thresholds.copy()} | curves

    def per_image(self, threshold: float | None = None) -> pd.DataFrame:
        """One row an image, sorted by id, at ``threshold`` (default: the oracle threshold of MaxBoxAcc@0.5).

        Columns: id; label, predicted and rank (1 = the true class scored highest) where known; iou of the largest
        contour's box; that box on the grid (grid_x0 ...) and in pixels of the original image (x0 ...); correct@IoU;
        Top-1 Loc and Top-5 Loc. Without ground truth and threshold there is no box.
        """
        records = self.records
        if threshold is None and records.has_boxes:
            threshold = self.best_threshold(j=self.ious.index(0.5) if 0.5 in self.ious else 0)
        table = {"id": records.ids}
        if (records.label >= 0).any():
            table["label"] = records.label
        if records.has_scores:
            table |= {"predicted": records.predicted, "rank": records.rank}
        if threshold is None:
            return pd.DataFrame(table)
        box = records.boxes_at(threshold)
        if records.has_boxes:
            table["iou"] = records.iou_at(threshold)
        table |= {f"grid_{name}": box[:, i] for i, name in enumerate(("x0", "y0", "x1", "y1"))}
        pixels = mapping.unscale_boxes(box, records.size, self.grid)
        table |= {name: pixels[:, i] for i, name in enumerate(("x0", "y0", "x1", "y1"))}
        if records.has_boxes:
            for iou in self.ious:
                table[f"correct@{iou:g}"] = table["iou"] >= iou
            if records.has_scores and 0.5 in self.ious:
                for k in (1, 5):
                    table[f"Top-{k} Loc"] = table["correct@0.5"] & records.ranked_within(k)
        return pd.DataFrame(table)


def _named(rule: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{name} ({rule} threshold)": value for name, value in metrics.items()}


def _ranks(ids: Sequence[str], label: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B,) predicted class and rank of the true class; equal scores are ordered by class index."""
    wrong = (label < 0) | (label >= scores.shape[1])
    if wrong.any():
        n = int(wrong.argmax())
        raise UserError(f"image {ids[n]!r} has the class {label[n]}, but scores are given for {scores.shape[1]}")
    own = scores[np.arange(len(label)), label][:, None]
    before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < label[:, None]))
    return scores.argmax(axis=1), 1 + before.sum(axis=1)
