"""What a method leaves on disk to be evaluated: score maps and class scores, and the masks of OpenImages.

Score maps follow the benchmark's convention: the map of image ``a/b.jpg`` is ``SCOREMAP_ROOT/a/b.npy``
(``a/b.jpg.npy`` is understood too), or a file of another kind, see :mod:`tedloc.metrics.map_files`. Everything that is
wrong with a file raises ``UserError`` naming it.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tedloc import paths
from tedloc.data import masks, text_files
from tedloc.data.arrays import check_scores, map_fault
from tedloc.errors import UserError
from tedloc.metrics import boxes as mapping
from tedloc.metrics import map_files, pxap


def find_maps(
    root: Path, ids: Sequence[str], leave_out: Sequence[Path] = (), suffix: str | None = None
) -> dict[str, Path]:
    """Image id -> file of its score map, for every id that has one, in the order of ``ids``.

    suffix: of the maps; None: that of the files that are named after images, see :mod:`tedloc.metrics.map_files`

    Links are followed; names are compared in Unicode's composed form. Raises ``UserError`` for a folder without maps,
    an image with two maps, a map of two images, and maps of images that are not in ``ids``; files below ``leave_out``
    are not looked at.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root} with score maps; give the folder that holds them")
    every = list(_files(root, frozenset(), leave_out))
    suffix = suffix or map_files.suffix_of(root, every, ids)
    here: dict[str, list[Path]] = {}
    for path in every:
        if path.suffix == suffix:
            here.setdefault(text_files.composed(path.relative_to(root).as_posix()), []).append(path)
    found: dict[str, Path] = {}
    owners: dict[str, str] = {}
    for name in ids:
        names = dict.fromkeys((Path(name).with_suffix(suffix).as_posix(), f"{name}{suffix}"))
        files = [(key, file) for key in names for file in here.get(key, ())]
        if len(files) > 1:
            both = " and ".join(sorted(str(file) for _, file in files))
            raise UserError(f"image {name!r} has two score maps, {both}; keep one")
        for key, file in files:
            if key in owners:
                raise UserError(
                    f"{file} would be the map of both {owners[key]!r} and {name!r}; name the maps {name}{suffix}"
                )
            found[name], owners[key] = file, name
    if extra := sorted(set(here) - set(owners)):
        lacking = (Path(name).with_suffix(suffix).as_posix() for name in ids if name not in found)
        raise UserError(
            f"{root} holds {len(extra)} score maps of images that are not in this split, first {here[extra[0]][0]}"
            f"{text_files.resembling(extra[0], lacking)}; move them away, or check --dataset and --split"
        )
    if not found:
        raise UserError(
            f"{root} holds no score map of this split; the map of {ids[0]!r} belongs at "
            f"{(root / ids[0]).with_suffix(suffix)}"
        )
    return found


def _files(folder: Path, above: frozenset[str], leave_out: Sequence[Path]) -> Iterator[Path]:
    """Every file below a folder, through links, but not round in circles. above: real places of the folders above."""
    place = os.path.realpath(folder)
    if place in above or any(folder == other or other in folder.parents for other in leave_out):
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = folder / entry.name
        if entry.is_dir():
            yield from _files(path, above | {place}, leave_out)
        elif path not in leave_out:
            yield path


def read_map(
    file: Path,
    grid: int,
    allow_constant: bool = False,
    size: Sequence[int] | None = None,
    scale: int | None = None,
) -> np.ndarray:
    """(grid, grid) float64 map in [0, 1].

    A map that is on the grid and within [0, 1] is used as it is, any other is resized bicubically and min-max
    normalised. size: width and height of the image, where they are known. scale: see :mod:`tedloc.metrics.map_files`.

    Raises ``UserError`` for a file that cannot be read, is not a 2-D array of real numbers, holds a number that is not
    finite, is turned over (width first) or, unless that is allowed, holds the same number everywhere.
    """
    score_map = map_files.load(file)
    if fault := map_fault(score_map, size):
        raise UserError(f"the score map {file} {fault}")
    if not np.isfinite(score_map).all():
        kind = "NaN" if np.isnan(score_map).any() else "an infinite value"
        raise UserError(f"the score map {file} holds {kind}; every score must be finite")
    low, high = float(score_map.min()), float(score_map.max())
    if low == high and not allow_constant:
        raise UserError(
            f"the score map {file} is constant ({low:g} everywhere) and shows no place; mend it, or pass "
            "--allow-constant to score such maps as the benchmark does, with an empty box"
        )
    score_map = map_files.scaled(file, score_map, scale, score_map.shape == (grid, grid))
    if score_map.shape == (grid, grid) and score_map.min() >= 0 and score_map.max() <= 1:
        return score_map
    return mapping.to_grid(score_map, grid)


def read_scores(file: Path, ids: Sequence[str], labels: np.ndarray, classes: int | None = None) -> np.ndarray:
    """(N, K) float64 class scores of all images of a split, in the order of ``ids``.

    ``.npy``: an (N, K) array in the order of ``image_ids.txt``. Anything else is read as CSV: a row an image, its id
    and K numbers, in any order of images, with or without a header line. Columns are in the order of the classes'
    numbers.

    classes: how many classes the data set has; K must be that. None: K may be any number above the largest label
    """
    if fault := paths.no_file(file):
        raise UserError(f"--scores: there is no file {file} with class scores: it {fault}")
    scores = map_files.npy(file) if file.suffix.lower() == ".npy" else _scores_from_csv(file, ids, labels)
    if scores.ndim != 2 or len(scores) != len(ids) or scores.dtype.kind not in "fiu":
        raise UserError(
            f"{file} holds a {scores.dtype} array of the shape {scores.shape}; give ({len(ids)}, classes) "
            "numbers, in the order of image_ids.txt"
        )
    columns = scores.shape[1]
    if labels.max() >= columns or (classes is not None and columns != classes):
        split = f"{classes} (0 to {classes - 1})" if classes is not None else f"the class {labels.max()}"
        if labels.min() == 1 and labels.max() == columns:
            split += ", and classes count from 0"
        raise UserError(
            f"{file} has scores for {columns} classes, the split has {split}; give one column a class, in the order of "
            "their numbers, without any for a background or an index"
        )
    return check_scores(ids, scores, str(file))


def _scores_from_csv(file: Path, ids: Sequence[str], labels: np.ndarray) -> np.ndarray:
    rows: dict[str, np.ndarray] = {}
    known, width = set(ids), None
    reader = csv.reader(text_files.read(file, "give a .npy array or a CSV table by --scores").split("\n"), strict=True)
    try:
        for count, row in enumerate(filter(None, reader)):
            name, *fields = (field.strip() for field in row)
            values, where = _numbers(fields), f"{file}, line {reader.line_num}"
            if name not in known and (mark := next((mark for mark in (";", "\t") if mark in name), None)):
                what = "semicolons" if mark == ";" else "tabs"
                raise UserError(f"{where} is separated by {what}; write commas, and points in numbers")
            if count == 0 and name not in known and (values is None or "." not in name):
                _check_header(file, fields, ids, labels)
                continue
            if fields and fields[0] in known:
                raise UserError(f"{where}: the first column is an index, not the image; write the table without it")
            if values is None:
                raise UserError(f"{where}: the scores of {name!r} are not all numbers")
            width = len(values) if width is None else width
            if len(values) != width or not width:
                raise UserError(f"{where}: {name!r} has {len(values)} scores, others have {width}")
            if name in rows:
                raise UserError(f"{where}: image {name!r} has a second row; keep one")
            rows[name] = values
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num} is not CSV ({error}); give image ids and scores") from None
    missing = next((name for name in ids if name not in rows), None)
    if missing is not None:
        hint = text_files.resembling(missing, rows)
        raise UserError(f"{file} has no class scores for image {missing!r}{hint}; give a row for every image")
    return np.array([rows[name] for name in ids])


def _numbers(fields: list[str]) -> np.ndarray | None:
    """The numbers in a row's fields, None unless all are; Python's underscores and other scripts' digits are not."""
    text = "".join(fields)
    try:
        return np.array([float(field) for field in fields]) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def _check_header(file: Path, fields: list[str], ids: Sequence[str], labels: np.ndarray) -> None:
    """Raise ``UserError`` where names of columns say that these are in another order than the classes' numbers.

    A column may be called by its class's number, from 0 or 1, or by the folder of its images; other names say nothing.
    """
    folders = {name.partition("/")[0]: int(label) for name, label in zip(ids, labels, strict=True) if "/" in name}
    numbers = [text_files.whole(field) for field in fields]
    if None not in numbers and len(numbers) > 1:
        expected = list(range(min(numbers), min(numbers) + len(numbers)))
        if sorted(numbers) == expected != numbers:
            raise UserError(f"{file}: its columns are called {', '.join(fields[:4])} ...; sort them by class number")
    for column, field in enumerate(fields):
        if folders.get(field, column) != column:
            raise UserError(
                f"{file}: column {column + 2} is called {field!r}, which is class {folders[field]} of the split and "
                f"belongs into column {folders[field] + 2}; sort the columns by class number"
            )


def read_mask_list(
    metadata_root: Path,
    dataset: str,
    split: str,
    ids: Sequence[str],
) -> list[tuple[list[str], list[str]]]:
    """For each image its object masks and ignore regions, from ``localization.txt`` with image,mask,ignore lines."""
    file = Path(metadata_root) / dataset / split / "localization.txt"
    found: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in ids}
    for number, line in text_files.lines(file, "it must list image,mask,ignore for --mask-root"):
        name, mask, ignore = (field.strip() for field in ["", "", "", *line.rsplit(",", 2)][-3:])
        if line.count(",") < 2 or not mask or not name:
            raise UserError(f"{file}, line {number}: {line!r} is not image,mask,ignore; correct it")
        if name not in found:
            hint = text_files.resembling(name, found)
            raise UserError(f"{file}, line {number}: image {name!r} is not in image_ids.txt beside it{hint}")
        for path in filter(None, (mask, ignore)):
            if fault := text_files.path_fault(path):
                raise UserError(f"{file}, line {number}: {path!r} {fault}")
        found[name][0].append(mask)
        if ignore:
            found[name][1].append(ignore)
    empty = next((name for name in ids if not found[name][0]), None)
    if empty is not None:
        raise UserError(f"{file} has no mask for image {empty!r}; add its line or leave the image out")
    return [found[name] for name in ids]


def read_mask(
    root: Path, objects: Sequence[str], ignored: Sequence[str], grid: int, size: Sequence[int] | None = None
) -> np.ndarray:
    """(grid, grid) uint8: 1 object, 0 background, 255 ignored, from mask images resized by nearest neighbour.

    size: width and height of the image, where they are known; see ``tedloc.data.masks``
    """

    def read(name: str, empty: bool) -> np.ndarray:
        return pxap.to_grid(masks.read_mask(root, name, size, empty=empty), grid) > 0

    return pxap.with_ignored(
        [read(name, False) for name in objects], [read(name, True) for name in dict.fromkeys(ignored)]
    )
