"""Score the maps that any method, in any framework, wrote to disk; in the benchmark's formats, by its protocol.

    python -m tedloc.evaluate --scoremap-root maps/test --metadata-root metadata --dataset CUB --split test
    python -m tedloc.evaluate --scoremap-root maps/test --val-scoremap-root maps/val --metadata-root metadata \\
        --dataset CUB --split test --scores scores.csv --bootstrap 1000 --workers 8 --json result.json

    python -m tedloc.evaluate --predicted-boxes results.json --boxes instances.json

Score maps: SCOREMAP_ROOT/a/b.npy for the image a/b.jpg, of any size; .npz, .pt and .png too (tedloc.metrics.map_files).
Metadata: the benchmark's folder METADATA_ROOT/DATASET/SPLIT with image_ids.txt, class_labels.txt, image_sizes.txt and
localization.txt; or one file of boxes (tedloc.data.box_split).
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from tedloc import paths
from tedloc.data import box_split
from tedloc.data.benchmark import BenchmarkSplit, number_of_classes, read_split
from tedloc.errors import UserError, command
from tedloc.metrics import baselines, map_files, predicted_boxes, pxap, score_files, uncertainty
from tedloc.metrics.meter import LocalizationMeter
from tedloc.metrics.scoring import Work, score


class Truth(NamedTuple):
    """A split, how many classes its data set has (None: unknown), and image id of a COCO file -> image."""

    split: BenchmarkSplit
    classes: int | None
    names: dict[int | str, str]


def truth(options: argparse.Namespace, split_name: str, boxes_file: Path | None, labelled: bool = False) -> Truth:
    """What is known of a split's images, from the benchmark's lists or from a file of boxes."""
    if boxes_file is not None:
        return Truth(*box_split.read(boxes_file, labelled))
    split = read_split(options.metadata_root, options.dataset, split_name, with_boxes=options.mask_root is None)
    return Truth(split, number_of_classes(options.metadata_root, options.dataset) if labelled else None, {})


def prepare(options: argparse.Namespace, known: Truth, split_name: str, root: Path, scores_file: Path | None) -> Work:
    """The images of a split, with a map or without."""
    ids = known.split.ids
    beside = [p for p in (options.scoremap_root, options.val_scoremap_root) if p and p != root and root in p.parents]
    leave_out = [*beside, *filter(None, (scores_file, options.boxes, options.val_boxes))]
    found = score_files.find_maps(root, ids, leave_out, options.suffix)
    masks = None
    if options.mask_root is not None:
        masks = score_files.read_mask_list(options.metadata_root, options.dataset, split_name, ids)
    return Work(
        split=known.split,
        files=[found.get(name) for name in ids],
        grid=options.grid,
        step=options.step,
        allow_constant=options.allow_constant,
        scale=options.scale,
        scores=read_scores(scores_file, known),
        mask_root=options.mask_root,
        masks=masks,
    )


def read_scores(file: Path | None, known: Truth) -> np.ndarray | None:
    return score_files.read_scores(file, known.split.ids, known.split.labels, known.classes) if file else None


def present(options: argparse.Namespace, there: np.ndarray, ids: list[str], root: Path, what: str) -> np.ndarray:
    """Indices of the images that something was found of. Raises ``UserError`` where some lack it, unless allowed."""
    missing = np.flatnonzero(~there)
    if len(missing) and not options.allow_missing:
        raise UserError(
            f"{root} lacks the {what} of {len(missing)} of {len(ids)} images, first {ids[missing[0]]!r}; add them, or "
            "pass --allow-missing to evaluate the others"
        )
    return np.flatnonzero(there)


def score_maps(options: argparse.Namespace, work: Work, split_name: str, root: Path):
    """(meter, pixel histogram of a centred Gaussian or None, the images that have a map)."""
    there = np.array([file is not None for file in work.files])
    work = work.take(present(options, there, work.split.ids, root, "score maps"))
    return *score(work, options.workers, f"scoring {split_name}"), work


def evaluate(options: argparse.Namespace) -> tuple[dict[str, Any], LocalizationMeter]:
    """Everything that ``--json`` writes, and the meter it comes from."""
    known = truth(options, options.split, options.boxes, labelled=options.scores is not None)
    val = gaussian = None
    if options.predicted_boxes is not None:
        predicted = predicted_boxes.read(options.predicted_boxes, known.split, known.names)
        there = ~np.isnan(predicted).any(axis=1)
        kept = present(options, there, known.split.ids, options.predicted_boxes, "boxes")
        scores = read_scores(options.scores, known)
        split, scores = known.split.take(kept), None if scores is None else scores[kept]
        meter = baselines.meter_of_boxes(predicted[kept], split, options.grid, scores)
    else:
        work = prepare(options, known, options.split, options.scoremap_root, options.scores)
        if options.val_scoremap_root is not None:
            val_known = truth(options, options.val_split, options.val_boxes)
            val_work = prepare(options, val_known, options.val_split, options.val_scoremap_root, None)
            val, _, _ = score_maps(options, val_work, options.val_split, options.val_scoremap_root)
        meter, gaussian, work = score_maps(options, work, options.split, options.scoremap_root)
        split, scores = work.split, work.scores
    result: dict[str, Any] = meter.compute(val=val, fixed=options.fixed_threshold, contours=options.contours)
    result["num_missing"] = len(known.split.ids) - len(split.ids)
    if options.mask_root is None:
        result["baselines"] = baselines.baselines(split, _val_split(options), options.grid, options.step, scores)
        if options.predicted_boxes is None:
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
    }
    for name in ("scoremap_root", "val_scoremap_root", "scores", "boxes", "val_boxes", "predicted_boxes"):
        place = getattr(options, name)
        result["evaluated"][name] = place and str(place)
    return result, meter


def _val_split(options: argparse.Namespace) -> BenchmarkSplit | None:
    """The validation split, which the centred box is sized on; None (and a word about it) where there is none."""
    if options.boxes is not None:
        if options.val_boxes is None:
            print("no centred box: it is sized on the boxes of the validation split; give --val-boxes")
            return None
        return box_split.read(options.val_boxes).split
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
    add("--scoremap-root", type=Path, help="folder of the score maps")
    add("--suffix", choices=map_files.SUFFIXES, help="of their files, where a folder holds several kinds")
    add("--scale", type=int, choices=(1, 255, 65535), help="what stands for a score of 1, where files leave it open")
    add("--predicted-boxes", type=Path, help="in place of maps: COCO results, or .csv of image,x0,y0,x1,y1,score")
    add("--metadata-root", type=Path, help="the benchmark's metadata folder")
    add("--dataset", help="CUB, ILSVRC, OpenImages, or your own folder below --metadata-root")
    add("--split", default="test", help="default: test")
    add("--boxes", type=Path, help="in place of metadata: COCO .json, or .csv of image,x0,y0,x1,y1,width,height")
    add("--val-boxes", type=Path, help="the same for the validation split")
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


def _check_sources(options: argparse.Namespace) -> None:
    """Raise ``UserError`` unless the options name one source of predictions and one of ground truth."""
    if (options.scoremap_root is None) == (options.predicted_boxes is None):
        raise UserError("give what was predicted: either --scoremap-root or --predicted-boxes")
    lists = options.metadata_root is not None and options.dataset is not None
    if lists == (options.boxes is not None) or (options.metadata_root is None) != (options.dataset is None):
        raise UserError("give where the objects are: either --metadata-root with --dataset, or --boxes")
    idle = {
        "--val-boxes without --boxes": options.val_boxes and not options.boxes,
        "--mask-root with --boxes": options.mask_root and options.boxes,
        "--val-scoremap-root with --boxes and without --val-boxes": options.val_scoremap_root
        and options.boxes
        and not options.val_boxes,
    }
    for name in ("val_scoremap_root", "fixed_threshold", "mask_root", "suffix", "scale"):
        given = getattr(options, name) is not None and options.predicted_boxes
        idle[f"--{name.replace('_', '-')} with --predicted-boxes, which have no threshold"] = given
    if wrong := next((said for said, given in idle.items() if given), None):
        raise UserError(f"{wrong}: these do not go together; leave one away or add what is missing")


@command
def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    for name, least in (("workers", 1), ("bootstrap", 0)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} is {getattr(options, name)}; give a number of at least {least}")
    _check_sources(options)
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
