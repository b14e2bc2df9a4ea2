"""From a score map to boxes, at every threshold at once, bit for bit as the WSOL benchmark does it.

The benchmark (Choe et al., CVPR 2020) truncates 255 * map to integers, keeps the pixels *above* a level, asks
OpenCV for the contours, and draws an upright box around the contour with the largest polygon area (MaxBoxAcc) or
around every contour (MaxBoxAccV2). A thousand thresholds mean at most 255 different binary images, and these are
nested: the components of one level are merged into those of the next lower one. So :func:`boxes_by_level` adds the
pixels from the brightest down and keeps, with union-find, each component's box and polygon area; holes are the
components of the rest, from the darkest up. One pass each, instead of a thousand contour searches.

Coordinates: x to the right, y down, a box is x0, y0, x1, y1. The benchmark's boxes are one pixel too large to the
right and below (x + w instead of x + w - 1, cut at the map's edge), and its IoU counts both ends; see
:func:`contour_box` and :func:`iou`.
"""

import cv2
import numpy as np

from tedloc.metrics.compiled import compiled

LEVELS = 255  # "pixel > level" for level 0 to 254; a map in [0, 1] has no pixel above 255


def to_grid(score_map: np.ndarray, grid: int) -> np.ndarray:
    """(grid, grid) float64 map in [0, 1]: resized bicubically, then min-max normalised; the benchmark's treatment.

    score_map: (h, w) of any real type. A map that is constant or holds a value that is not finite gives zeros. (It is
    looked at before it is resized: the rounding of a resized constant would be stretched to a map of noise.)
    """
    score_map = np.asarray(score_map, dtype=np.float64)
    low, high = score_map.min(), score_map.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low == high:
        return np.zeros((grid, grid))
    peak = max(abs(low), abs(high))
    if peak > 1e300:  # the arithmetic below would leave float64's range, and here its precision
        score_map = score_map / peak
    elif high - low < 1e-290:
        score_map = (score_map - low) / (high - low)
    if score_map.shape != (grid, grid):
        score_map = cv2.resize(score_map, (grid, grid), interpolation=cv2.INTER_CUBIC)
    score_map = score_map - score_map.min()
    return score_map / score_map.max()


def to_bytes(score_map: np.ndarray) -> np.ndarray:
    """uint8 map: 255 * map with the fraction cut off, as the benchmark does before it thresholds."""
    return (score_map * 255).astype(np.uint8)


def level_of(thresholds: np.ndarray | float, top: np.ndarray | int) -> np.ndarray:
    """int(threshold * brightest pixel): the level above which pixels count. ``top``: largest byte of the map."""
    return (np.asarray(thresholds, dtype=np.float64) * np.asarray(top, dtype=np.float64)).astype(np.int64)


def scale_boxes(boxes: np.ndarray, size: np.ndarray, grid: int) -> np.ndarray:
    """(n, 4) int64 boxes on the grid: x * grid / width, y * grid / height, fractions cut off.

    boxes: (n, 4) x0, y0, x1, y1 in pixels of the original image; size: its width and height.
    """
    scaled = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * grid / np.tile(np.asarray(size, np.float64), 2)
    return scaled.astype(np.int64)


def shares_on_grid(shares: np.ndarray, grid: int) -> np.ndarray:
    """(..., 4) int64 boxes on the grid from x0, y0, x1, y1 as shares of width and height; cut at the edges."""
    pixels = (np.clip(np.asarray(shares, np.float64), 0, 1) * grid).round(6).astype(np.int64)
    return np.minimum(pixels, grid - 1)


def unscale_boxes(boxes: np.ndarray, sizes: np.ndarray, grid: int) -> np.ndarray:
    """Boxes (..., 4) on the grid in pixels of the original images; sizes (..., 2) width, height."""
    return np.asarray(boxes, dtype=np.float64) * np.concatenate([sizes, sizes], axis=-1) / grid


def contour_box(contour: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The benchmark's box of an OpenCV contour: right and bottom lie one pixel outside it, cut at the edge."""
    x, y, w, h = cv2.boundingRect(contour)
    return x, y, min(x + w, width - 1), min(y + h, height - 1)


def contours(levels: np.ndarray, level: int) -> list[np.ndarray]:
    """OpenCV's contours, outer and of holes, of the pixels above ``level``."""
    binary = (levels > level).astype(np.uint8)
    return list(cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0])


def largest_box(levels: np.ndarray, level: int) -> tuple[int, int, int, int]:
    """Box of the contour of largest polygon area, OpenCV's first one among equals; (0, 0, 0, 0) without contours."""
    found = contours(levels, level)
    height, width = levels.shape
    return contour_box(max(found, key=cv2.contourArea), width, height) if found else (0, 0, 0, 0)


def iou(boxes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """IoU of boxes (..., 4) and targets (..., 4), broadcast; both ends of a side count (the benchmark's "+1")."""
    boxes, targets = np.asarray(boxes, np.int64), np.asarray(targets, np.int64)
    low = np.maximum(boxes[..., :2], targets[..., :2])
    high = np.minimum(boxes[..., 2:], targets[..., 2:])
    both = np.maximum(high - low + 1, 0).prod(axis=-1)
    area, target_area = ((b[..., 2:] - b[..., :2] + 1).prod(axis=-1) for b in (boxes, targets))
    return both / (area + target_area - both)


def boxes_by_level(levels: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Everything that the benchmark's box metrics need of one map.

    levels:  (H, W) uint8 map, see :func:`to_bytes`
    targets: (n, 4) int64 ground-truth boxes on the same grid

    Returns ``largest`` (255, 4) int64, the box of the largest contour of the pixels above each level, and ``best``
    (255,) float64, the highest IoU that any contour's box reaches with any target there. Levels that the map's
    brightest pixel does not pass hold the benchmark's empty box (0, 0, 0, 0).
    """
    height, width = levels.shape
    targets = np.ascontiguousarray(targets, dtype=np.int64).reshape(-1, 4)
    largest = np.zeros((LEVELS, 4), np.int64)
    best = np.zeros(LEVELS)
    top = int(levels.max())
    if len(targets):
        best[top:] = iou(np.zeros(4), targets).max()
    if top > 0:
        order, starts, box, area = _sorted(np.ascontiguousarray(levels))
        room = np.zeros(LEVELS, np.int64)
        _holes(order, starts, box.copy(), area, width, top, targets, best, room)
        doubtful = np.zeros(LEVELS, np.bool_)
        _components(order, starts, box, area, width, top, targets, largest, best, room, doubtful)
        for level in np.flatnonzero(doubtful):
            same = level  # no pixel has the value `same`: one level down, the binary image is the same
            while same > 0 and starts[same] == starts[same + 1]:
                same -= 1
            largest[same : level + 1] = largest_box(levels, int(level))
    return largest, best


# Below, a pixel is a node: its index in the map with a frame of one pixel around it, so that every node has eight
# neighbours. ``parent`` is -1 where a pixel is not yet added. A root's row of ``box`` holds the tight box of its
# component (x0, y0, x1, y1, inclusive), its entry of ``area`` twice the area that :func:`_components` explains.


@compiled
def _sorted(levels):
    """Nodes from dark to bright, where each value starts among them, and each node as a component of its own."""
    height, width = levels.shape
    stride = width + 2
    starts = np.zeros(257, np.int64)
    box = np.zeros((stride * (height + 2), 4), np.int16)
    area = np.zeros(len(box), np.int32)
    for y in range(height):
        for x in range(width):
            starts[levels[y, x] + 1] += 1
            node = (y + 1) * stride + x + 1
            box[node, 0] = box[node, 2] = x
            box[node, 1] = box[node, 3] = y
    for value in range(256):
        starts[value + 1] += starts[value]
    order = np.empty(height * width, np.int32)
    free = starts.copy()
    for y in range(height):
        for x in range(width):
            value = levels[y, x]
            order[free[value]] = (y + 1) * stride + x + 1
            free[value] += 1
    return order, starts, box, area


@compiled
def _join(parent, box, area, root, other):
    """Merge the component of node ``other`` into that of ``root``; returns the root of both."""
    while parent[other] != other:
        parent[other] = parent[parent[other]]
        other = parent[other]
    if other == root:
        return root
    if root != 0:  # the older one stays, which keeps paths short; the outside of the hole pass (node 0) always does
        root, other = other, root
    parent[other] = root
    box[root, 0] = min(box[root, 0], box[other, 0])
    box[root, 1] = min(box[root, 1], box[other, 1])
    box[root, 2] = max(box[root, 2], box[other, 2])
    box[root, 3] = max(box[root, 3], box[other, 3])
    area[root] += area[other]
    return root


@compiled
def _roots(parent, added, alive, count):
    """Append the roots among the nodes just added to ``alive`` and drop what is no root any more."""
    kept = 0
    for k in range(count):
        if parent[alive[k]] == alive[k]:
            alive[kept] = alive[k]
            kept += 1
    for node in added:
        if parent[node] == node:
            alive[kept] = node
            kept += 1
    return kept


@compiled
def _best_iou(x0, y0, x1, y1, targets):
    best = 0.0
    for n in range(targets.shape[0]):
        w = min(x1, targets[n, 2]) - max(x0, targets[n, 0]) + 1
        h = min(y1, targets[n, 3]) - max(y0, targets[n, 1]) + 1
        if w > 0 and h > 0:
            target = (targets[n, 2] - targets[n, 0] + 1) * (targets[n, 3] - targets[n, 1] + 1)
            best = max(best, w * h / ((x1 - x0 + 1) * (y1 - y0 + 1) + target - w * h))
    return best


@compiled
def _holes(order, starts, box, area, width, top, targets, best, room):
    """Raise ``best`` by the boxes of hole contours, and tell in ``room`` how much area holes may add at a level.

    Holes are 4-connected components of the pixels *not* above a level that the outside does not reach. Their contour
    runs through the surrounding pixels, so its box is one pixel larger than the hole on every side.
    """
    stride, size = width + 2, len(box)
    height = size // stride - 2
    parent = np.full(size, -1, np.int32)
    for x in range(stride):  # the frame is the outside: node 0 and its children
        parent[x] = parent[size - 1 - x] = 0
    for y in range(height + 2):
        parent[y * stride] = parent[y * stride + width + 1] = 0
    alive = np.empty(height * width, np.int32)
    count = 0
    for level in range(top):
        added = order[starts[level] : starts[level + 1]]
        for node in added:
            parent[node] = root = node
            up, down = parent[node - stride] >= 0, parent[node + stride] >= 0
            # A side neighbour that hangs together with the one above or below, round a corner, needs no join.
            if up:
                root = _join(parent, box, area, root, node - stride)
            if down:
                root = _join(parent, box, area, root, node + stride)
            for side in (-1, 1):
                if parent[node + side] >= 0:
                    if not ((up and parent[node - stride + side] >= 0) or (down and parent[node + stride + side] >= 0)):
                        root = _join(parent, box, area, root, node + side)
        count = _roots(parent, added, alive, count)
        for node in alive[:count]:
            x0, y0, x1, y1 = box[node, 0] - 1, box[node, 1] - 1, box[node, 2] + 1, box[node, 3] + 1
            room[level] += (x1 - x0) * (y1 - y0)
            found = _best_iou(x0, y0, min(x1 + 1, width - 1), min(y1 + 1, height - 1), targets)
            best[level] = max(best[level], found)


@compiled
def _components(order, starts, box, area, width, top, targets, largest, best, room, doubtful):
    """Fill ``largest`` and raise ``best`` by the boxes of outer contours, from the brightest level down.

    A component is 8-connected. Its polygon runs through pixel centres, so of every square of four neighbouring
    pixels it covers one half if three of them belong to the component, all of it if four do, and nothing
    otherwise; on top of that comes what its holes enclose. That last part is not followed up: ``room`` bounds it.
    Where the bound leaves open which polygon is largest, or several are equal, the level is marked ``doubtful``.
    """
    stride, size = width + 2, len(box)
    height = size // stride - 2
    parent = np.full(size, -1, np.int32)
    alive = np.empty(height * width, np.int32)
    count = 0
    for level in range(top - 1, -1, -1):
        added = order[starts[level + 1] : starts[level + 2]]
        if len(added) == 0:  # the same pixels as one level up; at the top level there are some
            largest[level] = largest[level + 1]
            best[level] = max(best[level], best[level + 1])
            continue
        for node in added:
            parent[node] = root = node
            n, s = parent[node - stride] >= 0, parent[node + stride] >= 0
            w, e = parent[node - 1] >= 0, parent[node + 1] >= 0
            nw, ne = parent[node - stride - 1] >= 0, parent[node - stride + 1] >= 0
            sw, se = parent[node + stride - 1] >= 0, parent[node + stride + 1] >= 0
            # Two neighbours next to each other on the ring, or two sides next to each other, hang together already.
            if n:
                root = _join(parent, box, area, root, node - stride)
            if s:
                root = _join(parent, box, area, root, node + stride)
            if w and not (n or s):
                root = _join(parent, box, area, root, node - 1)
            if e and not (n or s):
                root = _join(parent, box, area, root, node + 1)
            if nw and not (n or w):
                root = _join(parent, box, area, root, node - stride - 1)
            if ne and not (n or e):
                root = _join(parent, box, area, root, node - stride + 1)
            if sw and not (s or w):
                root = _join(parent, box, area, root, node + stride - 1)
            if se and not (s or e):
                root = _join(parent, box, area, root, node + stride + 1)
            area[root] += (n + w + nw >= 2) + (n + e + ne >= 2) + (s + w + sw >= 2) + (s + e + se >= 2)
        count = _roots(parent, added, alive, count)
        winner, most, bound_of_winner, rival = -1, -1, -1, -1
        for node in alive[:count]:
            x0, y0, x1, y1 = box[node, 0], box[node, 1], box[node, 2], box[node, 3]
            halves = area[node]
            found = _best_iou(x0, y0, min(x1 + 1, width - 1), min(y1 + 1, height - 1), targets)
            best[level] = max(best[level], found)
            bound = min(2 * (x1 - x0) * (y1 - y0), halves + 2 * room[level])
            if halves > most:
                rival = max(rival, bound_of_winner)
                winner, most, bound_of_winner = node, halves, bound
            else:
                rival = max(rival, bound)
        x0, y0, x1, y1 = box[winner, 0], box[winner, 1], box[winner, 2], box[winner, 3]
        largest[level, 0], largest[level, 1] = x0, y0
        largest[level, 2], largest[level, 3] = min(x1 + 1, width - 1), min(y1 + 1, height - 1)
        alone = count == 1 and room[level] == 0
        doubtful[level] = not alone and (most == 0 or rival >= most)
