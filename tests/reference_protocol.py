"""The benchmark's box metrics spelled out, threshold by threshold and contour by contour: slow, and plain to check.

Shares no code with ``tedloc``: what both say must come from the protocol alone. Tests and
``benchmarks/evaluation.py`` compare ``tedloc.metrics.meter`` with it.
"""

import cv2
import numpy as np


def grid_boxes(boxes, size, grid=224):
    """Ground-truth boxes in original pixels -> integer boxes on the grid; fractions are cut off."""
    width, height = float(size[0]), float(size[1])
    return [
        (int(x0 * grid / width), int(y0 * grid / height), int(x1 * grid / width), int(y1 * grid / height))
        for x0, y0, x1, y1 in np.asarray(boxes, dtype=float)
    ]


def grid_map(score_map, grid=224):
    """Resize bicubically and stretch to [0, 1]; a constant map becomes zeros."""
    resized = cv2.resize(np.asarray(score_map, dtype=np.float64), (grid, grid), interpolation=cv2.INTER_CUBIC)
    if np.isnan(resized).any() or resized.min() == resized.max():
        return np.zeros((grid, grid))
    resized = resized - resized.min()
    return resized / resized.max()


def contour_boxes(score_map, threshold, multiple):
    """Boxes at one threshold: of the largest contour, or of every contour."""
    height, width = score_map.shape
    gray = (score_map * 255).astype(np.uint8)
    level = int(threshold * np.max(gray))
    _, binary = cv2.threshold(gray, level, 255, cv2.THRESH_BINARY)
    contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) == 0:
        return [(0, 0, 0, 0)]
    if not multiple:
        contours = [max(contours, key=cv2.contourArea)]
    boxes = []
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        boxes.append((x, y, min(x + w, width - 1), min(y + h, height - 1)))
    return boxes


def box_iou(a, b):
    """IoU of two boxes whose ends both count."""
    w = min(a[2], b[2]) - max(a[0], b[0]) + 1
    h = min(a[3], b[3]) - max(a[1], b[1]) + 1
    both = max(w, 0) * max(h, 0)
    area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return both / (area_a + area_b - both)


def best_ious(score_map, targets, thresholds, multiple):
    """(T,) for one map: the best IoU of any box at each threshold with any of the targets."""
    return np.array(
        [
            max(box_iou(box, target) for box in contour_boxes(score_map, tau, multiple) for target in targets)
            for tau in thresholds
        ]
    )


def accuracies(score_maps, targets, step=0.001, ious=(0.3, 0.5, 0.7), multiple=False):
    """(len(ious), T) mean correctness over the data set at each threshold. Maps and targets are on the grid."""
    thresholds = np.arange(0, 1, step)
    found = np.array([best_ious(m, t, thresholds, multiple) for m, t in zip(score_maps, targets, strict=True)])
    return np.array([(found >= iou).mean(axis=0) for iou in ious])


def evaluate(score_maps, targets, step=0.001):
    """The data set's metrics, in percent: the threshold is the best one for the data set, not for each image."""
    single = accuracies(score_maps, targets, step) * 100
    multiple = accuracies(score_maps, targets, step, multiple=True) * 100
    return {
        "MaxBoxAcc@0.3": single[0].max(),
        "MaxBoxAcc@0.5": single[1].max(),
        "MaxBoxAcc@0.7": single[2].max(),
        "MaxBoxAccV2": multiple.max(axis=1).mean(),
        "threshold@0.5": np.arange(0, 1, step)[single[1].argmax()],
    }


def pixel_average_precision(score_maps, masks, step=0.001):
    """PxAP in percent. masks: 1 object, 0 background, 255 ignored, on the grid; all pixels pooled."""
    scores = np.concatenate([np.asarray(m)[k != 255] for m, k in zip(score_maps, masks, strict=True)])
    positive = np.concatenate([k[k != 255] for k in masks]) == 1
    area, recall_before = 0.0, 0.0
    for edge in reversed([*np.arange(0, 1, step), 1.0]):
        above = scores >= edge
        if above.any():
            precision, recall = (above & positive).sum() / above.sum(), (above & positive).sum() / positive.sum()
            area += precision * (recall - recall_before)
            recall_before = recall
    return 100 * area
