"""Arrays as people hand them over: NumPy's, tensors on any device, lists of either; checked once, here.

A ``fault`` is the end of a sentence about what is wrong, or None.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tedloc.errors import UserError


def array(values: Any) -> np.ndarray:
    """A NumPy array of an array, a tensor of any precision and place, or a sequence of those."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return np.asarray(values.double() if values.is_floating_point() else values)
    if isinstance(values, list | tuple) and any(hasattr(each, "detach") for each in values):
        values = [array(each) for each in values]
    return np.asarray(values)


def numbers(values: Any, what: str, shape: tuple[int | None, ...], meaning: str) -> np.ndarray:
    """An array of real numbers of this shape (None: any length).

    what, meaning: "sizes", "width and height of each image". Raises ``UserError`` for anything else.
    """
    try:
        found = array(values)
    except (ValueError, TypeError) as error:  # rows of different lengths, or no numbers at all
        raise UserError(f"{what} are no array ({str(error).splitlines()[0]}); give {_text(shape)}: {meaning}") from None
    if found.dtype.kind not in "fiub":
        raise UserError(f"{what} have the type {found.dtype}; give real numbers {_text(shape)}: {meaning}")
    fits = found.ndim == len(shape) and all(wanted in (None, got) for wanted, got in zip(shape, found.shape))
    if not fits:
        hint = ""
        if found.ndim == 2 and found.shape[::-1] == shape:
            hint = "; it is turned over, as torch's default_collate leaves tuples of two: collate arrays"
        raise UserError(f"{what} have the shape {found.shape}; give {_text(shape)}: {meaning}{hint}")
    return found


def _text(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if length is None else str(length) for length in shape)})"


def paired(ids: Sequence[str], each: Any, what: str) -> list[tuple[str, Any]]:
    """(id, its part) of every image."""
    if len(each) != len(ids):
        raise UserError(f"{len(ids)} image ids come with {len(each)} {what}; give one for each image")
    return list(zip(ids, each, strict=True))


def check_labels(ids: Sequence[str], labels: Any) -> np.ndarray:
    """(B,) int64 classes."""
    found = array(labels)
    found = numbers(found.reshape(-1) if found.size == len(ids) else found, "labels", (len(ids),), "a class an image")
    whole = np.isfinite(found) & (found == np.floor(found)) & (np.abs(found) < 2**31)
    if not whole.all():
        n = int(whole.argmin())
        raise UserError(f"image {ids[n]!r} has the class {found[n]:g}; classes are whole numbers from 0")
    return found.astype(np.int64)


def truth_mask(name: str, mask: Any) -> np.ndarray:
    """(H, W) uint8 of a mask that is bool, or 1 object, 0 background, 255 ignored."""
    mask = numbers(mask, f"the mask of image {name!r}", (None, None), "height, width")
    if mask.size == 0 or not np.isin(mask, (0, 1, 255)).all():
        raise UserError(f"the mask of image {name!r} holds other values than 0, 1 (object) and 255 (ignored)")
    if mask.dtype != bool and (mask == 255).any() and not (mask == 1).any():
        raise UserError(f"the mask of image {name!r} has no object: 255 means ignored; write 1, or give it as bool")
    return mask.astype(np.uint8)


def map_fault(score_map: np.ndarray, size: Sequence[int] | None = None) -> str | None:
    """For a score map. size: width and height of its image, if known."""
    if score_map.ndim != 2 or min(score_map.shape) == 0:
        return f"has the shape {score_map.shape}; it must have two dimensions, (height, width)"
    if score_map.dtype.kind not in "fiub":
        return f"has the type {score_map.dtype}; it must hold real numbers"
    if size is not None and score_map.shape == tuple(size) and size[0] != size[1]:
        return f"has the shape {score_map.shape}, which is (width, height) of its image; turn it over: (height, width)"
    return None


def check_scores(ids: Sequence[str], scores: np.ndarray, where: str) -> np.ndarray:
    """(N, K) float64 class scores, all finite; else ``UserError`` naming ``where`` and the image."""
    scores = scores.astype(np.float64)
    finite = np.isfinite(scores).all(axis=1)
    if not finite.all():
        row = int(finite.argmin())
        kind = "NaN" if np.isnan(scores[row]).any() else "an infinite value"
        raise UserError(
            f"{where} holds {kind} among the class scores of image {ids[row]!r}; every score must be a finite number"
        )
    return scores
