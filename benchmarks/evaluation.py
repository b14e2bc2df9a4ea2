"""How much faster than the protocol spelled out, and is it the same? Prints milliseconds a map and the ratio.

    python benchmarks/evaluation.py            # a minute on one core

The reference (tests/reference_protocol.py) does what the benchmark does: 1000 thresholds one by one, OpenCV's contours
at each, MaxBoxAcc and MaxBoxAccV2. CPU time of one thread is counted, so other load on the machine matters little;
the best of three is taken for both.
"""

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import reference_protocol as reference  # noqa: E402

from tedloc.metrics import boxes  # noqa: E402

GRID, STEP = 224, 0.001
TARGETS = np.array([[50, 40, 160, 170], [20, 150, 80, 200]])


def smooth(rng: np.random.Generator) -> np.ndarray:
    """A few bumps of different size and height on a faint, uneven ground."""
    y, x = np.mgrid[:GRID, :GRID]
    total = 0.03 * cv2.resize(rng.standard_normal((14, 14)), (GRID, GRID), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(2, 6)):
        (cx, cy), (sx, sy) = rng.uniform(30, 194, 2), rng.uniform(12, 45, 2)
        total += rng.uniform(0.3, 1) * np.exp(-(((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2) / 2)
    return stretched(total)


def patches(rng: np.random.Generator, interpolation: int) -> np.ndarray:
    """A 14x14 map of a vision transformer, brought to the grid."""
    small = cv2.GaussianBlur(rng.random((14, 14)), (0, 0), 1.2)
    return stretched(cv2.resize(small, (GRID, GRID), interpolation=interpolation))


def stretched(score_map: np.ndarray) -> np.ndarray:
    return (score_map - score_map.min()) / (score_map.max() - score_map.min())


KINDS = {
    "smooth, several modes": smooth,
    "14x14 nearest": lambda rng: patches(rng, cv2.INTER_NEAREST),
    "14x14 bicubic": lambda rng: patches(rng, cv2.INTER_CUBIC),
}


def ours(score_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per threshold: the best IoU of the largest contour's box and of any contour's."""
    levels = boxes.to_bytes(score_map)
    largest, best = boxes.boxes_by_level(levels, TARGETS)
    at = boxes.level_of(np.arange(0, 1, STEP), levels.max())
    return boxes.iou(largest[:, None], TARGETS[None]).max(axis=1)[at], best[at]


def plain(score_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    thresholds = np.arange(0, 1, STEP)
    return tuple(reference.best_ious(score_map, TARGETS.tolist(), thresholds, multiple) for multiple in (False, True))


def plain_largest_only(score_map: np.ndarray) -> np.ndarray:
    return reference.best_ious(score_map, TARGETS.tolist(), np.arange(0, 1, STEP), multiple=False)


def milliseconds(function, maps: list[np.ndarray], repeats: int = 3) -> float:
    """CPU time a map, the best of a few passes."""
    passes = []
    for _ in range(repeats):
        begun = time.process_time()
        for score_map in maps:
            function(score_map)
        passes.append(time.process_time() - begun)
    return 1000 * min(passes) / len(maps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--maps", type=int, default=8, help="maps of each kind; default: 8")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    ours(smooth(np.random.default_rng(0)))  # compiles, or loads what was compiled before
    print(
        f"{'ms a map, one core':24}{'V1 plain':>10}{'V1+V2 plain':>13}{'V1+V2 ours':>12}{'ratio to V1':>13}"
        f"{'to V1+V2':>10}"
    )
    for name, make in KINDS.items():
        rng = np.random.default_rng(1)
        maps = [make(rng) for _ in range(options.maps)]
        for score_map in maps[:2]:
            for a, b in zip(ours(score_map), plain(score_map), strict=True):
                np.testing.assert_array_equal(a, b)
        one, both = milliseconds(plain_largest_only, maps, 1), milliseconds(plain, maps, 1)
        fast = milliseconds(ours, maps)
        print(f"{name:24}{one:10.1f}{both:13.1f}{fast:12.2f}{one / fast:13.1f}{both / fast:10.1f}")
    print("The plain results and ours were compared and are equal.")


if __name__ == "__main__":
    main()
