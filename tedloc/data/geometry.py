"""What a size and a box may be: one rule for split files, image sets and meters.

A size is width and height in whole pixels. A box is x0, y0, x1, y1 in pixels of the image, both ends included: within
0 to width - 1 and 0 to height - 1. None of the benchmark's 111,797 published boxes breaks the rule.
"""

import numpy as np

LARGEST = 1_000_000  # pixels a side; more is no image
FEW = 6  # different boxes that say nothing together


def size_fault(sizes: np.ndarray) -> tuple[int, str] | None:
    """The first row of sizes (N, 2) that is none, with what is wrong with it; None if all are well."""
    sizes = np.asarray(sizes, np.float64).reshape(-1, 2)
    well = (np.isfinite(sizes) & (sizes >= 1) & (sizes <= LARGEST) & (sizes == np.floor(sizes))).all(1)
    if well.all():
        return None
    row = int(well.argmin())
    return row, f"has no size: {_text(sizes[row])} are not width and height in whole pixels"


def box_fault(boxes: np.ndarray, sizes: np.ndarray) -> tuple[int, str] | None:
    """The first of boxes (N, 4) that cannot lie in its image, with what is wrong with it; None if all can.

    sizes: (N, 2) width and height of each box's image, zeros where they are not known
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    sizes = np.asarray(sizes, np.float64).reshape(-1, 2)
    low, high = boxes[:, :2], boxes[:, 2:]
    outside = ((low < 0) | ((high > sizes - 1) & (sizes > 0))).any(1)
    well = np.isfinite(boxes).all(1) & (boxes.max(1) > 1) & (low <= high).all(1) & ~outside
    if well.all():
        return None
    row = int(well.argmin())
    return row, _why(boxes[row], sizes[row])


def doubt(boxes: np.ndarray, sizes: np.ndarray) -> str | None:
    """A word about boxes (N, 4) that are well one by one, but together look like x, y, width, height; None if not.

    Of those x + width never exceeds the image's width, nor y + height its height. Of corners that holds for all boxes
    only where every centre lies in the upper left quarter, which a quarter of photos' objects do: of six, one in 4096.
    """
    boxes, sizes = np.asarray(boxes).reshape(-1, 4), np.asarray(sizes).reshape(-1, 2)
    if len(np.unique(boxes, axis=0)) < FEW or (boxes[:, :2] + boxes[:, 2:] > sizes).any():
        return None
    return (
        f"all {len(boxes)} boxes have their centre in the upper left quarter of their image; were they given as x, y, "
        "width, height instead of x0, y0, x1, y1? Then every figure here is wrong"
    )


def _why(box: np.ndarray, size: np.ndarray) -> str:
    said = f"box {_text(box)}"
    if not np.isfinite(box).all():
        return f"{said} holds a number that is not finite; correct or delete it"
    if not box.any():
        return f"{said} marks no object; leave an image without an object out of all files"
    if box.max() <= 1 and box.min() >= 0:
        return f"{said} is not in pixels; multiply shares of the image by its width and height"
    if (box[:2] > box[2:]).any():
        return f"{said} is turned over (x1 < x0 or y1 < y0); give x0, y0, x1, y1, not x, y, width, height"
    if box.min() < 0:
        return f"{said} begins outside its image; cut it at 0"
    width, height = size
    said = f"{said} leaves its image of {width:g} x {height:g} pixels"
    if (box[2:] <= size[::-1] - 1).all():
        return f"{said}; are width and height swapped?"
    if (box[2:] <= size).all():
        return f"{said}: both ends are included, so the last ones are {width - 1:g} and {height - 1:g}; subtract 1"
    if (box[[3, 2]] <= size - 1).all():
        return f"{said}; are x and y swapped?"
    return f"{said}; is it of another copy of the image, or in other units?"


def _text(numbers: np.ndarray) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
