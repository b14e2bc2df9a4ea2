"""What a method leaves on disk to be evaluated: score maps and class scores, and the masks of OpenImages.

Score maps follow the benchmark's convention: the map of image ``a/b.jpg`` is ``SCOREMAP_ROOT/a/b.npy``
(``a/b.jpg.npy`` is understood too). Everything that is wrong with a file raises ``UserError`` naming it.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tedloc.errors import UserError
from tedloc.metrics import boxes as mapping
from tedloc.metrics import pxap


def find_maps(root: Path, ids: Sequence[str], leave_out: Sequence[Path] = ()) -> dict[str, Path]:
    """Image id -> file of its score map, for every id that has one, in the order of ``ids``.

    Raises ``UserError`` for a folder without maps, an image with two maps, a map of two images, and maps of images
    that are not in ``ids``; files below ``leave_out`` are not looked at.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root} with score maps; give the folder that holds the .npy files")
    here = {p for p in root.rglob("*.npy") if not any(p == other or other in p.parents for other in leave_out)}
    found: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for name in ids:
        files = {(root / name).with_suffix(".npy"), root / f"{name}.npy"} & here
        if len(files) > 1:
            raise UserError(f"image {name!r} has two score maps, {' and '.join(sorted(map(str, files)))}; keep one")
        for file in files:
            if file in owners:
                raise UserError(
                    f"{file} would be the map of both {owners[file]!r} and {name!r}; name the maps {name}.npy"
                )
            found[name], owners[file] = file, name
    if extra := sorted(here - set(owners)):
        raise UserError(
            f"{root} holds {len(extra)} score maps of images that are not in this split, first {extra[0]}; "
            "move them away, or check --dataset and --split"
        )
    if not found:
        raise UserError(
            f"{root} holds no score map of this split; the map of {ids[0]!r} belongs at "
            f"{(root / ids[0]).with_suffix('.npy')}"
        )
    return found


def read_map(file: Path, grid: int, allow_constant: bool = False) -> np.ndarray:
    """(grid, grid) float64 map in [0, 1].

    A map that is on the grid and within [0, 1] is used as it is, any other is resized bicubically and min-max
    normalised. Raises ``UserError`` for a file that cannot be read, is not a 2-D array of real numbers, holds a
    number that is not finite or, unless that is allowed, the same number everywhere.
    """
    score_map = _load(file)
    if score_map.ndim != 2 or min(score_map.shape) == 0:
        raise UserError(
            f"the score map {file} has the shape {score_map.shape}; it must have two dimensions, (height, width)"
        )
    if score_map.dtype.kind not in "fiub":
        raise UserError(f"the score map {file} has the type {score_map.dtype}; it must hold real numbers")
    score_map = score_map.astype(np.float64)
    if not np.isfinite(score_map).all():
        kind = "NaN" if np.isnan(score_map).any() else "an infinite value"
        raise UserError(f"the score map {file} holds {kind}; every score must be finite")
    low, high = score_map.min(), score_map.max()
    if low == high and not allow_constant:
        raise UserError(
            f"the score map {file} is constant ({low:g} everywhere) and shows no place; mend it, or pass "
            "--allow-constant to score such maps as the benchmark does, with an empty box"
        )
    if score_map.shape == (grid, grid) and 0 <= low <= high <= 1:
        return score_map
    return mapping.to_grid(score_map, grid)


def read_scores(file: Path, ids: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """(N, K) float64 class scores of all images of a split, in the order of ``ids``.

    ``.npy``: an (N, K) array in the order of ``image_ids.txt``. Anything else is read as CSV: a row an image, its id
    and K numbers, in any order, with or without a header line.
    """
    if not file.is_file():
        raise UserError(f"there is no file {file} with class scores; check --scores")
    scores = _load(file) if file.suffix == ".npy" else _scores_from_csv(file, ids)
    if scores.ndim != 2 or len(scores) != len(ids) or scores.dtype.kind not in "fiu":
        raise UserError(
            f"{file} holds a {scores.dtype} array of the shape {scores.shape}; give ({len(ids)}, classes) "
            "numbers, in the order of image_ids.txt"
        )
    if np.isnan(scores.astype(np.float64)).any():
        row = int(np.isnan(scores.astype(np.float64)).any(axis=1).argmax())
        raise UserError(f"{file} holds NaN among the class scores of image {ids[row]!r}; every score must be a number")
    if labels.max() >= scores.shape[1]:
        raise UserError(
            f"{file} has scores for {scores.shape[1]} classes, but the split has the class {labels.max()}; "
            "give one column a class"
        )
    return scores.astype(np.float64)


def _scores_from_csv(file: Path, ids: Sequence[str]) -> np.ndarray:
    rows: dict[str, list[float]] = {}
    width = None
    try:
        with open(file, newline="", encoding="utf-8") as lines:
            reader = csv.reader(lines)
            for row in filter(None, reader):
                (name, *fields), number = row, reader.line_num
                try:
                    values = [float(field) for field in fields]
                except ValueError:
                    if not rows:  # a header
                        continue
                    raise UserError(f"{file}, line {number}: the scores of {name!r} are not all numbers") from None
                width = len(values) if width is None else width
                if len(values) != width or not values:
                    raise UserError(f"{file}, line {number}: {name!r} has {len(values)} scores, others have {width}")
                if name in rows:
                    raise UserError(f"{file}, line {number}: image {name!r} has a second row; keep one")
                rows[name] = values
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is not a CSV text file ({error}); give image ids and scores") from None
    missing = next((name for name in ids if name not in rows), None)
    if missing is not None:
        raise UserError(f"{file} has no class scores for image {missing!r}; give a row for every image of the split")
    return np.array([rows[name] for name in ids])


def read_mask_list(
    metadata_root: Path,
    dataset: str,
    split: str,
    ids: Sequence[str],
) -> list[tuple[list[str], list[str]]]:
    """For each image its object masks and ignore regions, from ``localization.txt`` with image,mask,ignore lines."""
    file = Path(metadata_root) / dataset / split / "localization.txt"
    if not file.is_file():
        raise UserError(f"split file {file} is missing; it must list image,mask,ignore for --mask-root")
    found: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in ids}
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        fields = line.strip().split(",")
        if fields == [""]:
            continue
        if len(fields) != 3 or not fields[1]:
            raise UserError(f"{file}, line {number}: {line.strip()!r} is not image,mask,ignore; fetch the file again")
        name, mask, ignore = fields
        if name not in found:
            raise UserError(f"{file}, line {number}: image {name!r} is not in image_ids.txt beside it")
        found[name][0].append(mask)
        if ignore:
            found[name][1].append(ignore)
    empty = next((name for name in ids if not found[name][0]), None)
    if empty is not None:
        raise UserError(f"{file} has no mask for image {empty!r}; add its line or leave the image out")
    return [found[name] for name in ids]


def read_mask(root: Path, objects: Sequence[str], ignored: Sequence[str], grid: int) -> np.ndarray:
    """(grid, grid) uint8: 1 object, 0 background, 255 ignored, from mask images resized by nearest neighbour."""

    def read(name: str) -> np.ndarray:
        image = cv2.imread(str(root / name), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise UserError(f"mask {root / name} is missing or no image; check --mask-root")
        return pxap.to_grid(image, grid) > 0

    return pxap.with_ignored([read(name) for name in objects], [read(name) for name in dict.fromkeys(ignored)])


def _load(file: Path) -> np.ndarray:
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file} cannot be read as a NumPy array ({reason}); write it with numpy.save") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"{file} is an archive of arrays; write one array with numpy.save")
    return array
