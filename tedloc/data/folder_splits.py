"""Which photo of a folder is in which split; see ``tedloc.data.folder`` for the rules."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tedloc.data.box_files import numbers, table
from tedloc.data.box_matching import finder
from tedloc.data.files import rank
from tedloc.data.photo_files import SPLIT_FOLDERS, Photo
from tedloc.data.problems import Problems
from tedloc.data.text_files import composed

SHARES = (70.0, 15.0, 15.0)  # percent for train, val and test, where nothing says otherwise


def assign(
    root: Path,
    photos: Sequence[Photo],
    labels: np.ndarray,
    boxed: np.ndarray,
    splits: str | None,
    seed: int,
    problems: Problems,
    notes: list[str],
) -> np.ndarray:
    """(N,) the split of every photo, "" where it could not be told (a problem, then).

    boxed: (N,) bool, which photos have boxes; splits: the setting; notes: gets a sentence that says what was done
    """
    by_folder = np.array([photo.split or "" for photo in photos], dtype="<U5")
    there = set(by_folder) - {"", "train"}
    shares = _shares(splits, problems)
    listing = Path(splits).expanduser() if splits and shares is None else root / "splits.csv"
    if there:
        if splits is not None:
            problems.add("splits are given twice, by folders and by data.splits; drop one", splits)
        return _by_folder(by_folder, there, photos, labels, seed, notes)
    if shares is None and (splits or listing.exists()):
        notes.append(f"Splits: {listing}.")
        return _by_list(listing, photos, problems)
    shares = shares or SHARES
    pool = boxed if boxed.any() else ~boxed
    assigned = np.full(len(photos), "train", dtype="<U5")
    few, least = ("a class of fewer than three photos", 3)
    if boxed.any():
        few, least = ("a class with boxes for fewer than two photos, where others have boxes", 2)
    for label in np.flatnonzero(np.bincount(labels[pool], minlength=labels.max(initial=-1) + 1) < least):
        folder = photos[int(np.argmax(labels == label))].folder
        problems.add(f"{few}: val or test would lack it; add some, or name the splits", folder)
        assigned[labels == label] = ""
    _draw(assigned, photos, labels, pool, np.bincount(labels), shares[2] / 100, shares[1] / 100, seed)
    notes.append(
        f"Splits: {'/'.join(f'{share:g}' for share in shares)} percent of each class for train/val/test, drawn by hash "
        f"(seed {seed}){'' if pool.all() else '; val and test from the photos with boxes'}."
    )
    return assigned


def _shares(splits: str | None, problems: Problems) -> tuple[float, ...] | None:
    """The percentages of ``70/15/15``; None for a path."""
    found = numbers((splits or "").split("/"), 3)
    if found and (min(found) <= 0 or sum(found) != 100):
        problems.add("shares of splits that are not three parts of 100 (train/val/test); correct data.splits", splits)
        return None
    return found


def _by_folder(
    assigned: np.ndarray, there: set[str], photos: Sequence[Photo], labels: np.ndarray, seed: int, notes: list[str]
) -> np.ndarray:
    """The folders' splits; where one of val and test is missing, the other is halved."""
    notes.append(f"Splits: the folders {', '.join(each for each in SPLIT_FOLDERS if each in {'train', *there})}.")
    if len(there) == 1:
        (other,) = there
        pool = assigned == other
        counts = np.bincount(labels[pool], minlength=labels.max() + 1)
        _draw(assigned, photos, labels, pool, counts, 0.5, 0.5, seed)
        missing = "test" if other == "val" else "val"
        notes.append(
            f"No folder {missing}: val and test share the photos of {other} half and half, by hash (seed {seed})."
        )
    return assigned


def _draw(
    assigned: np.ndarray,
    photos: Sequence[Photo],
    labels: np.ndarray,
    pool: np.ndarray,
    counts: np.ndarray,
    test: float,
    val: float,
    seed: int,
) -> None:
    """Give photos of ``pool`` to test and val, class by class: shares of ``counts``, at least one, by hash.

    A pool that is too small for both shares is divided in their ratio.
    """
    for label, count in enumerate(counts):
        mine = [int(i) for i in np.flatnonzero(pool & (labels == label))]
        mine.sort(key=lambda i: rank(seed, composed(photos[i].id)))
        first, second = max(1, round(count * test)), max(1, round(count * val))
        if first + second > len(mine):
            first = round(len(mine) * test / (test + val))
            second = len(mine) - first
        assigned[mine[:first]] = "test"
        assigned[mine[first : first + second]] = "val"


def _by_list(file: Path, photos: Sequence[Photo], problems: Problems) -> np.ndarray:
    """The splits that a CSV ``image,split`` names."""
    assigned, find = np.full(len(photos), "", dtype="<U5"), finder(photos)
    for where, fields in table(file, ("image", "split"), problems):
        index, split = find(fields["image"]), SPLIT_FOLDERS.get(fields["split"].lower())
        if isinstance(index, str):
            problems.add(index.replace("box file", "list of splits"), f"{fields['image']} ({where})")
        elif split is None:
            problems.add("a split that is not train, val or test; correct it", f"{fields['split']} ({where})")
        elif assigned[index] not in ("", split):
            problems.add("a photo in two splits; keep one line of it", f"{fields['image']} ({where})")
        else:
            assigned[index] = split
    for index in np.flatnonzero(assigned == ""):
        problems.add("a photo that the list of splits does not name; add it, or take the photo away", photos[index].id)
    return assigned
