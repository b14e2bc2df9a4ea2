"""How much faster than the protocol spelled out, and is it the same? How long do the maps of a whole data set take?

    python benchmarks/evaluation.py                                # a minute: milliseconds a map on one core, the ratio
    python benchmarks/evaluation.py --maps 50000 --workers 2       # as many maps as ILSVRC has, read from disk

The reference (tests/reference_protocol.py) does what the benchmark does: 1000 thresholds one by one, OpenCV's contours
at each, MaxBoxAcc and MaxBoxAccV2. CPU time of one thread is counted, so other load on the machine matters little;
the best of three is taken for both.

With ``--maps`` that many maps are generated, 224 x 224 float32 (200 kB each, 10 GB for 50,000), with split files like
ILSVRC's, and ``tedloc.evaluate`` scores them; before, the system is asked to forget the files, so that they are read
from the disk. ``--keep FOLDER`` leaves them there, for the next time.
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import reference_protocol as reference  # noqa: E402

from tedloc import evaluate  # noqa: E402
from tedloc.metrics import boxes  # noqa: E402

GRID, STEP = 224, 0.001
EACH = 8  # maps of each kind
DIFFERENT = 200  # of the maps on disk; there they are repeated
CLASSES, SIZE = 1000, (500, 375)  # ILSVRC's classes, and the size of most of its images
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


def write(folder: Path, count: int) -> None:
    """``count`` test maps and a fifth as many validation boxes, as a stranger would write them for ILSVRC."""
    rng = np.random.default_rng(0)
    maps = [smooth(rng).astype(np.float32) for _ in range(DIFFERENT)]
    for split, images in (("val", count // 5), ("test", count)):
        ids = [f"{split}/ILSVRC2012_{split}_{n:08d}.JPEG" for n in range(images)]
        corner = rng.integers(0, np.array(SIZE) // 2, (images, 2))
        boxes_of = np.concatenate([corner, corner + rng.integers(30, np.array(SIZE) // 2, (images, 2))], axis=1)
        lists = {
            "image_ids": ids,
            "class_labels": [f"{name},{n % CLASSES}" for n, name in enumerate(ids)],
            "image_sizes": [f"{name},{SIZE[0]},{SIZE[1]}" for name in ids],
            "localization": [",".join([name, *map(str, box)]) for name, box in zip(ids, boxes_of)],
        }
        (folder / "metadata" / "ILSVRC" / split).mkdir(parents=True)
        for name, lines in lists.items():
            (folder / "metadata" / "ILSVRC" / split / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (folder / "maps" / "test").mkdir(parents=True)
    for n, name in enumerate(tqdm(ids, desc="writing", unit="map")):
        np.save((folder / "maps" / name).with_suffix(".npy"), maps[n % DIFFERENT])


def forget(folder: Path) -> None:
    """Ask the system to drop what it keeps of these files in memory."""
    if hasattr(os, "posix_fadvise"):
        os.sync()
        for file in folder.rglob("*.npy"):
            opened = os.open(file, os.O_RDONLY)
            os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(opened)


def from_disk(folder: Path, count: int, workers: int) -> None:
    """Write the maps unless they are there, score them, and print what it took."""
    if not (folder / "maps").exists():
        write(folder, count)
    forget(folder / "maps")
    result = folder / "result.json"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime + resource.getrusage(resource.RUSAGE_SELF).ru_stime
    begun = time.monotonic()
    evaluate.main(
        ["--scoremap-root", str(folder / "maps"), "--metadata-root", str(folder / "metadata"), "--dataset", "ILSVRC"]
        + ["--workers", str(workers), "--json", str(result)]
    )
    seconds = time.monotonic() - begun
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    used = own.ru_utime + own.ru_stime - before + others.ru_utime + others.ru_stime
    scored = json.loads(result.read_text())["num_images"]
    print(
        f"{scored} maps from disk, {workers} workers of {multiprocessing.cpu_count()} cores: {seconds:.0f} s, of the "
        f"CPU {used:.0f} s, {1000 * used / scored:.2f} ms a map; memory at most {own.ru_maxrss / 1024:.0f} MB here, "
        f"{others.ru_maxrss / 1024:.0f} MB a worker"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--maps", type=int, help="score so many generated maps from disk, in place of the ratio")
    parser.add_argument("--workers", type=int, default=1, help="processes that score them; default: 1")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write them here and leave them; default: nowhere")
    options = parser.parse_args()
    if options.maps:
        with tempfile.TemporaryDirectory() as scratch:
            from_disk(options.keep or Path(scratch), options.maps, options.workers)
        return
    cv2.setNumThreads(1)
    ours(smooth(np.random.default_rng(0)))  # compiles, or loads what was compiled before
    print(
        f"{'ms a map, one core':24}{'V1 plain':>10}{'V1+V2 plain':>13}{'V1+V2 ours':>12}{'ratio to V1':>13}"
        f"{'to V1+V2':>10}"
    )
    for name, make in KINDS.items():
        rng = np.random.default_rng(1)
        maps = [make(rng) for _ in range(EACH)]
        for score_map in maps[:2]:
            for a, b in zip(ours(score_map), plain(score_map), strict=True):
                np.testing.assert_array_equal(a, b)
        one, both = milliseconds(plain_largest_only, maps, 1), milliseconds(plain, maps, 1)
        fast = milliseconds(ours, maps)
        print(f"{name:24}{one:10.1f}{both:13.1f}{fast:12.2f}{one / fast:13.1f}{both / fast:10.1f}")
    print("The plain results and ours were compared and are equal.")


if __name__ == "__main__":
    main()
