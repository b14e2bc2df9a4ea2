"""What is kept of each evaluated image: enough to apply any threshold later, small enough to keep for 50,000 images.

An image takes about 1.3 kB whatever the size of its map: the box of the largest contour at each of the 255 levels
of a uint8 map (one byte a coordinate up to a grid of 256), and one bit a level, IoU and way of counting contours
that says whether a box is correct. 50,000 images need 65 MB. With masks, pixel histograms add 8 kB an image.
"""

from dataclasses import dataclass, fields, replace
from zlib import crc32

import numpy as np

from tedloc.errors import UserError
from tedloc.metrics.boxes import LEVELS, iou, level_of

CONTOURS = ("largest", "all")


@dataclass(frozen=True, eq=False)
class Records:
    """Arrays over N images; J is the number of IoU levels.

    ids:       (N,) str
    label:     (N,) int32, -1 where none was given
    predicted: (N,) int32 class with the highest score, the first one among equals; -1 without scores
    rank:      (N,) int32 place of the true class, 1 = highest score; among equal scores the lower class index
               comes first. 0 without scores
    size:      (N, 2) int32 width, height of the original image
    top:       (N,) uint8 brightest byte of the map; 0 for a constant map and for a box that was given
    largest:   (N, 255, 4) box of the largest contour above each level, on the grid; (N, 0, 4) where boxes were not
               kept (tedloc.metrics.compact)
    hits:      (N, 2, J, 32) uint8: packed bits over levels, for the largest contour and for all of them
    counts:    (N,) int32 number of ground-truth boxes
    targets:   (counts.sum(), 4) int32 ground-truth boxes on the grid, image after image
    pixels:    (N, 2, bins) uint32 histograms of background and object scores, or (N, 2, 0) without masks
    """

    ids: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    rank: np.ndarray
    size: np.ndarray
    top: np.ndarray
    largest: np.ndarray
    hits: np.ndarray
    counts: np.ndarray
    targets: np.ndarray
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def has_boxes(self) -> bool:
        return bool((self.counts > 0).any())

    @property
    def has_scores(self) -> bool:
        return bool((self.rank > 0).any())

    @property
    def has_masks(self) -> bool:
        return self.pixels.shape[-1] > 0

    @property
    def has_predictions(self) -> bool:
        """False where predicted boxes were not kept, only whether they are correct."""
        return self.largest.shape[1] > 0

    @property
    def has_maps(self) -> bool:
        """False when boxes were given instead of maps: then thresholds mean nothing."""
        return bool((self.top > 0).any())

    @classmethod
    def join(cls, parts: list["Records"]) -> "Records":
        """All images of all parts once, sorted by id: the same result whatever the order of the parts.

        Of several records of an image (a distributed sampler pads its last batch) one is kept. Raises ``UserError``
        when only some parts have boxes, scores or masks, and for one id with two sizes, labels, boxes or masks.
        """
        for what in ("boxes", "scores", "masks"):
            if len({getattr(part, f"has_{what}") for part in parts}) > 1:
                raise UserError(f"some images were evaluated with {what} and some without; give them for all or none")
        joined = cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})
        content = [crc32(boxes.tobytes()) for boxes in joined.largest]  # tells apart records of one id that differ
        order = np.lexsort([content, joined.ids])
        first = np.ones(len(order), bool)
        first[1:] = joined.ids[order][1:] != joined.ids[order][:-1]
        for n in np.flatnonzero(~first):
            if joined.truth(order[n]) != joined.truth(order[n - 1]):
                raise UserError(
                    f"image {str(joined.ids[order[n]])!r} came twice, with different boxes, sizes or labels; an id "
                    "must name one image (give its path: file names repeat from folder to folder)"
                )
        return joined.take(order[first])

    def truth(self, n: int) -> tuple[bytes, ...]:
        """What is known of image ``n`` before anything is predicted."""
        start = int(self.counts[:n].sum())
        boxes = self.targets[start : start + self.counts[n]]
        return tuple(each.tobytes() for each in (self.label[n], self.size[n], boxes, self.pixels[n].sum(axis=-1)))

    def take(self, index: np.ndarray) -> "Records":
        """The records at ``index``."""
        starts = np.concatenate([[0], self.counts.cumsum()])
        rows = [np.arange(starts[i], starts[i + 1]) for i in index]
        picked = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "targets"}
        return replace(self, **picked, targets=self.targets[np.concatenate(rows)] if rows else self.targets[:0])

    def hit_rate(self, contours: str, j: int, thresholds: np.ndarray, top_k: int | None = None) -> np.ndarray:
        """(T,) share of images with a correct box at IoU number ``j`` and, with ``top_k``, the class among the k."""
        counted = np.ones(len(self), bool) if top_k is None else self.ranked_within(top_k)
        total = np.zeros(len(thresholds), np.int64)
        for top in np.unique(self.top[counted]):
            packed = self.hits[counted & (self.top == top), CONTOURS.index(contours), j]
            total += np.unpackbits(packed, axis=1).sum(axis=0, dtype=np.int64)[level_of(thresholds, top)]
        return total / len(self)

    def correct(self, contours: str, j: int, thresholds: np.ndarray) -> np.ndarray:
        """(N, T) bool: is the box of image n correct at threshold t?"""
        bits = np.unpackbits(self.hits[:, CONTOURS.index(contours), j], axis=1).astype(bool)
        return np.take_along_axis(bits, level_of(thresholds[None], self.top[:, None]), axis=1)

    def ranked_within(self, k: int) -> np.ndarray:
        """(N,) bool: is the true class among the k best?"""
        return (self.rank > 0) & (self.rank <= k)

    def boxes_at(self, threshold: float) -> np.ndarray:
        """(N, 4) int64 box of the largest contour at a threshold, on the grid.

        Raises ``UserError`` where boxes were not kept.
        """
        if not self.has_predictions:
            raise UserError("these stored results do not hold predicted boxes; compute the run itself to have them")
        return self.largest[np.arange(len(self)), level_of(threshold, self.top)].astype(np.int64)

    def iou_at(self, threshold: float) -> np.ndarray:
        """(N,) best IoU of that box with any ground-truth box."""
        found = iou(np.repeat(self.boxes_at(threshold), self.counts, axis=0), self.targets)
        return np.maximum.reduceat(found, np.concatenate([[0], self.counts.cumsum()[:-1]]))


assert LEVELS == 255, "hits packs 255 levels into 32 bytes"
