"""Object masks as image files: which pixels belong to the object.

A pixel is object where it is visible (not transparent) and not black, whatever its depth or colour: 1, 255 and 65535 of
grey, a palette's colours. So the benchmark has it for 8-bit grey. OpenCV reads: scoring needs no Pillow.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tedloc import paths
from tedloc.data import text_files
from tedloc.errors import UserError

SLACK = 0.03  # of the aspect: masks are often smaller than their image, and rounded
JPEG = b"\xff\xd8"

SILENT = 0  # OpenCV's log level
_set_log_level = (
    getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
)  # the name of 4.10, and of later ones


def read_mask(root: Path, name: str, size: Sequence[int] | None = None, *, empty: bool = False) -> np.ndarray:
    """(H, W) bool of the file ``name`` below ``root``.

    size:  width and height of the image; the mask must have their aspect, or be a square as maps are. None, or zeros:
           not known
    empty: whether a mask without object will do, as for a region to be ignored

    Raises ``UserError`` for a file that is no mask of an object in that image.
    """
    path = text_files.on_disk(root, name)
    if fault := paths.no_file(path):
        raise UserError(f"mask {path} {fault}; check --mask-root and the list of masks")
    loudness = _set_log_level(SILENT)  # what it says is said here
    try:
        content = np.fromfile(path, np.uint8)
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if len(content) else None
    except (OSError, cv2.error):
        pixels = None
    finally:
        _set_log_level(loudness)
    if pixels is None:
        raise UserError(f"mask {path} is no image, or cut off; save it again as PNG")
    if content[:2].tobytes() == JPEG and len(np.unique(pixels)) > 2:
        raise UserError(f"mask {path} is a JPEG, which blurs the object's edge; save it as PNG")
    colour = pixels.reshape(*pixels.shape[:2], -1)
    colour, alpha = (colour[..., :-1], colour[..., -1]) if colour.shape[2] in (2, 4) else (colour, None)
    mask = (colour != 0).any(axis=2)
    if alpha is not None:
        mask &= alpha != 0
    if not mask.any() and not empty:
        raise UserError(f"mask {path} shows no object, all of it is 0; leave its image out")
    if mask.all() and len(values := np.unique(pixels)) > 1:
        raise UserError(
            f"mask {path} has no background: its values are {', '.join(map(str, values[:4]))}, none is 0; write 0 "
            "where no object is"
        )
    if size is not None and min(size) > 0 and not _fits(mask.shape[::-1], size):
        raise UserError(
            f"mask {path} is {mask.shape[1]} x {mask.shape[0]} pixels, its image {size[0]} x {size[1]}; give the mask "
            "of that image, in the same orientation"
        )
    return mask


def _fits(mask: tuple[int, int], image: Sequence[int]) -> bool:
    """Whether a mask (width, height) has its image's aspect, but for rounding, or is squeezed to a square."""
    aspect, wanted = mask[0] / mask[1], image[0] / image[1]
    return mask[0] == mask[1] or abs(np.log(aspect / wanted)) <= SLACK + 1 / min(mask)
