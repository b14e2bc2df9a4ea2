"""Score the maps that any method, in any framework, wrote to disk; in the benchmark's formats, by its protocol.

    python -m tedloc.evaluate --scoremap-root maps/test --metadata-root metadata --dataset CUB --split test
    python -m tedloc.evaluate --scoremap-root maps/test --val-scoremap-root maps/val --metadata-root metadata \\
        --dataset CUB --split test --scores scores.csv --bootstrap 1000 --workers 8 --json result.json

Score maps: SCOREMAP_ROOT/a/b.npy for the image a/b.jpg, two-dimensional, of any size. Metadata: the benchmark's
folder METADATA_ROOT/DATASET/SPLIT with image_ids.txt, class_labels.txt, image_sizes.txt and localization.txt.
"""

import argparse
import itertools
import json
import math
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm.auto import tqdm

from tedloc import paths
from tedloc.data.benchmark import BenchmarkSplit, number_of_classes, read_split
from tedloc.errors import UserError, command
from tedloc.metrics import baselines, boxes, pxap, score_files, uncertainty
from tedloc.metrics.meter import LocalizationMeter

CHUNK = 50  # images scored between two steps of the progress bar: bounds the memory, whatever the split's size


@dataclass(frozen=True, eq=False)
class Work:
    """Images to score, with the files of their maps; a split, or a chunk of one that goes to another process."""

    split: BenchmarkSplit
    files: list[Path]
    grid: int
    step: float
    allow_constant: bool
    scores: np.ndarray | None = None
    mask_root: Path | None = None
    masks: list[tuple[list[str], list[str]]] | None = None

    def take(self, index: np.ndarray) -> "Work":
        """The images at ``index``."""

        def pick(rows):
            return rows if rows is None else rows[index] if isinstance(rows, np.ndarray) else [rows[i] for i in index]

        s = self.split
        split = BenchmarkSplit(pick(s.ids), pick(s.labels), pick(s.boxes), pick(s.sizes))
        return replace(self, split=split, files=pick(self.files), scores=pick(self.scores), masks=pick(self.masks))

    def chunks(self) -> Iterator["Work"]:
        order = np.arange(len(self.files))
        return (self.take(order[start : start + CHUNK]) for start in range(0, len(order), CHUNK))


def score_chunk(work: Work) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """State of a meter that saw the images of ``work`` and, with masks, the pixel histogram of a centred Gaussian."""
    meter = LocalizationMeter(grid=work.grid, step=work.step)
    split, masks, gaussian = work.split, None, None
    maps = np.empty((len(work.files), work.grid, work.grid))
    for row, file, size in zip(maps, work.files, split.sizes, strict=True):
        row[:] = score_files.read_map(file, work.grid, work.allow_constant, size)
    if work.masks is not None:
        masks = [
            score_files.read_mask(work.mask_root, *names, work.grid, size)
            for names, size in zip(work.masks, split.sizes, strict=True)
        ]
        centred, edges = baselines.gaussian_map(work.grid), pxap.bin_edges(work.step)
        gaussian = sum(pxap.histogram(centred, mask, edges).astype(np.int64) for mask in masks)
    meter.update(
        split.ids,
        maps,
        split.boxes if masks is None else None,
        split.sizes,
        split.labels,
        work.scores,
        masks,
        as_is=True,
    )
    return meter.state_dict(), gaussian


def score(work: Work, workers: int = 1, title: str = "scoring") -> tuple[LocalizationMeter, np.ndarray | None]:
    """Score all images, on ``workers`` processes, with a progress bar. The result does not depend on ``workers``."""
    meter, gaussian = LocalizationMeter(grid=work.grid, step=work.step), None
    with tqdm(total=len(work.files), desc=title, unit="map") as bar:
        for state, histogram in _results(work.chunks(), workers):
            meter.merge(LocalizationMeter.from_state(state))
            if histogram is not None:
                gaussian = histogram if gaussian is None else gaussian + histogram
            bar.update(len(state["ids"]))
    return meter, gaussian


def _results(chunks: Iterator[Work], workers: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray | None]]:
    """What ``score_chunk`` gives for each chunk, in any order; two chunks a process are on their way at a time."""
    if workers == 1:
        yield from map(score_chunk, chunks)
        return
    boxes.boxes_by_level(np.eye(2, dtype=np.uint8), np.ones((1, 4)))  # compile once, not in every process
    context = multiprocessing.get_context("spawn")  # a forked process would inherit OpenCV's threads half alive
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        try:
            waiting = {pool.submit(score_chunk, chunk) for chunk in itertools.islice(chunks, 2 * workers)}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                waiting |= {pool.submit(score_chunk, chunk) for chunk in itertools.islice(chunks, len(done))}
                yield from (future.result() for future in done)
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    "a process that scored maps was ended from outside, as happens when memory runs out; "
                    "give fewer --workers"
                ) from None
            raise


def prepare(options: argparse.Namespace, split_name: str, root: Path, scores_file: Path | None) -> tuple[Work, int]:
    """The images of a split that have a map, and how many lack one."""
    split = read_split(options.metadata_root, options.dataset, split_name, with_boxes=options.mask_root is None)
    beside = [p for p in (options.scoremap_root, options.val_scoremap_root) if p and p != root and root in p.parents]
    found = score_files.find_maps(root, split.ids, [*beside, *([scores_file] if scores_file else [])])
    missing = [name for name in split.ids if name not in found]
    if missing and not options.allow_missing:
        raise UserError(
            f"{root} lacks the score maps of {len(missing)} of {len(split.ids)} images, first "
            f"{missing[0]!r}; add them, or pass --allow-missing to evaluate the others"
        )
    scores = None
    if scores_file:
        classes = number_of_classes(options.metadata_root, options.dataset)
        scores = score_files.read_scores(scores_file, split.ids, split.labels, classes)
    masks = None
    if options.mask_root is not None:
        masks = score_files.read_mask_list(options.metadata_root, options.dataset, split_name, split.ids)
    files = [found.get(name) for name in split.ids]
    work = Work(split, files, options.grid, options.step, options.allow_constant, scores, options.mask_root, masks)
    return work.take(np.array([i for i, file in enumerate(files) if file is not None])), len(missing)


def evaluate(options: argparse.Namespace) -> tuple[dict[str, Any], LocalizationMeter]:
    """Everything that ``--json`` writes, and the meter it comes from."""
    work, missing = prepare(options, options.split, options.scoremap_root, options.scores)
    val = None
    if options.val_scoremap_root is not None:
        val_work, _ = prepare(options, options.val_split, options.val_scoremap_root, None)
        val, _ = score(val_work, options.workers, f"scoring {options.val_split}")
    meter, gaussian = score(work, options.workers, f"scoring {options.split}")
    result: dict[str, Any] = meter.compute(val=val, fixed=options.fixed_threshold, contours=options.contours)
    result["num_missing"] = missing
    if options.mask_root is None:
        val_split = _val_split(options)
        result["baselines"] = baselines.baselines(work.split, val_split, options.grid, options.step, work.scores)
        result["curve"] = {name: values.tolist() for name, values in meter.curve(options.contours).items()}
    else:
        result["baselines"] = {"centred Gaussian": {"PxAP": float(pxap.average_precision(gaussian))}}
    if options.bootstrap:
        names = [name for name in result if uncertainty.resampled(name)]
        result["intervals"] = {
            name: uncertainty.bootstrap(
                meter,
                name,
                options.seed,
                options.bootstrap,
                val=val,
                fixed=options.fixed_threshold,
                contours=options.contours,
            )
            for name in tqdm(names, desc="resampling", unit="metric")
        }
    result["evaluated"] = {
        "dataset": options.dataset,
        "split": options.split,
        "grid": options.grid,
        "step": options.step,
        "contours": options.contours,
        "scoremap_root": str(options.scoremap_root),
        "val_scoremap_root": options.val_scoremap_root and str(options.val_scoremap_root),
        "scores": options.scores and str(options.scores),
    }
    return result, meter


def _val_split(options: argparse.Namespace) -> BenchmarkSplit | None:
    """The validation split, which the centred box is sized on; None (and a word about it) where there is none."""
    if not (Path(options.metadata_root) / options.dataset / options.val_split).is_dir():
        print(
            f"no centred box: it is sized on {options.dataset}/{options.val_split}, which is not in "
            f"{options.metadata_root}"
        )
        return None
    return read_split(options.metadata_root, options.dataset, options.val_split)


def headline_table(result: dict[str, Any]) -> str:
    """The headline figures as text: one row a threshold rule, then the trivial baselines."""
    columns = [
        name
        for name in (
            "MaxBoxAcc@0.3",
            "MaxBoxAcc@0.5",
            "MaxBoxAcc@0.7",
            "MaxBoxAccV2",
            "threshold@0.5",
            "Top-1 Loc",
            "Top-5 Loc",
            "Top-1 CL",
            "Top-5 CL",
            "mean IoU",
            "PxAP",
        )
        if name in result
    ]
    rows = [("oracle threshold", result, "")]
    for rule in ("val", "fixed"):
        if any(name.endswith(f"({rule} threshold)") for name in result):
            rows.append((f"{rule} threshold", result, f" ({rule} threshold)"))
    rows += [(name, baseline, "") for name, baseline in result["baselines"].items()]
    lines = [["", *columns]]
    for title, values, suffix in rows:
        cells = [values.get(name + suffix) for name in columns]
        lines.append(
            [
                title,
                *(
                    "" if cell is None else f"{cell:.{3 if name == 'threshold@0.5' else 2}f}"
                    for name, cell in zip(columns, cells, strict=True)
                ),
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    images = f"{result['num_images']} images" + (
        f", {result['num_missing']} without a map left out" if result["num_missing"] else ""
    )
    return "\n".join([*text, images])


def _finite(value: Any) -> Any:
    """The same with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tedloc.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--scoremap-root", type=Path, required=True, help="folder of the score maps")
    add("--metadata-root", type=Path, required=True, help="the benchmark's metadata folder")
    add("--dataset", required=True, help="CUB, ILSVRC, OpenImages, or your own folder below --metadata-root")
    add("--split", default="test", help="default: test")
    add("--step", type=float, default=0.001, help="between thresholds; default: 0.001, the protocol's")
    add("--grid", type=int, default=224, help="side of the evaluation grid; default: 224, the protocol's")
    add("--contours", choices=("largest", "all"), default="largest", help="for MaxBoxAcc@...; default: largest")
    add("--val-scoremap-root", type=Path, help="maps of the validation split: adds carried-over thresholds")
    add("--val-split", default="val", help="default: val")
    add("--fixed-threshold", type=float, help="adds every figure at this threshold")
    add("--scores", type=Path, help="adds Top-k: .npy (N, K) in the order of image_ids.txt, or .csv of id and K scores")
    add("--mask-root", type=Path, help="masks named in localization.txt (image,mask,ignore): PxAP instead of boxes")
    add("--allow-missing", action="store_true", help="evaluate the images that have a map")
    add("--allow-constant", action="store_true", help="score a constant map as an empty box, as the benchmark does")
    add("--bootstrap", type=int, default=0, metavar="N", help="95 %% intervals from N resamples of the images")
    add("--seed", type=int, default=0, help="of the resampling")
    add("--workers", type=int, default=1, help="processes; default: 1")
    add("--json", type=Path, help="write every figure, with the accuracy-threshold curve, here")
    add("--per-image", type=Path, help="write one line an image (CSV) here")
    return parser


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise ``UserError`` where the results could not be written, or would replace each other or what is read."""
    taken = {options.scores.resolve(): "--scores"} if options.scores else {}
    for option, file in (("--json", options.json), ("--per-image", options.per_image)):
        paths.writable_file(file, option)
        if file is not None and (other := taken.setdefault(file.resolve(), option)) != option:
            raise UserError(f"{option} {file} is the file of {other} as well; name another")


@command
def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    for name, least in (("workers", 1), ("bootstrap", 0)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} is {getattr(options, name)}; give a number of at least {least}")
    _check_outputs(options)
    result, meter = evaluate(options)
    print(headline_table(result))
    for name, (low, high) in result.get("intervals", {}).items():
        print(f"{name}: {result[name]:.2f}, 95 % interval {low:.2f} to {high:.2f}")
    if options.json is not None:
        with paths.replacing(options.json) as scratch:
            scratch.write_text(json.dumps(_finite(result), indent=1, allow_nan=False))
    if options.per_image is not None:
        with paths.replacing(options.per_image) as scratch:
            meter.per_image().to_csv(scratch, index=False)


if __name__ == "__main__":
    main()
