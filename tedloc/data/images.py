"""The one reader of photos: for training, prediction and ``verify``.

Every file that Pillow knows becomes (H, W, 3) uint8 RGB, by these rules:

turned       upright, by the orientation that EXIF (or XMP) tells; broken metadata tell nothing. A listed size decides
             otherwise: see :func:`read_image`
deep         of 16 bits the upper eight, as Pillow does it for colour; float from 0 (black) to 1 (white); integers of 32
             bits are refused, as nothing says which of them is white
transparent  over white, whether by alpha, palette or one transparent colour
other        palette, grey, CMYK and YCbCr by Pillow's conversion; colour profiles are not applied
animated     the first frame, or page

Refused by name: what is cut off or no image, and more than 178 megapixels (Pillow's limit; one takes 0.5 GB).
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from tedloc import paths
from tedloc.errors import UserError

# What an orientation asks for. Pixels (H, W, 3) -> the same as shown.
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels),
}
BACK = TURNS | {6: TURNS[8], 8: TURNS[6]}

# From half its limit on Pillow warns of every photo; larger ones it refuses.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def read_image(
    path: Path, listed: Sequence[int] | None = None, *, upright: bool = True, remedy: str = "correct the path"
) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file.

    listed:  width and height that a list gives. It says which pixels boxes refer to: the image is read turned or as
             stored, whichever has that size. One that has it neither way is refused
    upright: what is done where that does not tell, as for a square, a half turn and without a listed size. Official
             archives count pixels as stored (False): the benchmark's own loader does not turn
    remedy:  the end of the sentence about a file that is missing

    Raises ``UserError`` that names the file.
    """
    if fault := paths.no_file(path):
        raise UserError(f"image {path} {fault}; {remedy}")
    try:
        with Image.open(path) as image:
            turned_by_pillow = image.format == "TIFF"  # while it decodes, so its tag is read before
            orientation = _orientation(image) if turned_by_pillow else 1
            image.load()
            orientation = orientation if turned_by_pillow else _orientation(image)
            pixels = _rgb(image, path)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"image {path} has more than 178 megapixels; make it smaller") from None
    except Image.UnidentifiedImageError:
        reason = "no image that is known" if path.stat().st_size else "empty"
        raise UserError(
            f"image {path} cannot be read (it is {reason}); give a complete JPEG, PNG or the like"
        ) from None
    except Exception as error:  # Pillow's decoders raise what they meet: struct.error, IndexError, EOFError ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"image {path} cannot be read ({reason}); give a complete JPEG, PNG or the like, or save it anew without "
            "metadata"
        ) from None
    turn = TURNS.get(orientation)
    if turn is None:
        stored = shown = pixels
    elif turned_by_pillow:
        stored, shown = BACK[orientation](pixels), pixels
    else:
        stored, shown = pixels, turn(pixels)
    first, second = (shown, stored) if upright else (stored, shown)
    if listed is None or _size(first) == tuple(listed):
        return np.ascontiguousarray(first)
    if _size(second) == tuple(listed):
        return np.ascontiguousarray(second)
    raise UserError(f"image {path} {_other_size(_size(shown), _size(stored), tuple(listed))}")


def _size(pixels: np.ndarray) -> tuple[int, int]:
    return pixels.shape[1], pixels.shape[0]


def _other_size(shown: tuple[int, int], stored: tuple[int, int], listed: tuple[int, int]) -> str:
    words = f"is {shown[0]} x {shown[1]} pixels where the split files say {listed[0]} x {listed[1]}"
    if shown != stored:
        words += f" (its EXIF tag turns it, as stored it is {stored[0]} x {stored[1]})"
    elif shown == listed[::-1]:
        words += ": are width and height swapped, or did an EXIF tag that turned it get lost?"
    return f"{words}; list the size of this copy, and boxes in its pixels, or restore the image that was listed"


def _orientation(image: Image.Image) -> int:
    """EXIF's tag, 1 to 8; 1, as stored, where there is none or it cannot be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
        return value if value in TURNS else 1
    except Exception:  # broken metadata are no fault of the pixels
        return 1


def _rgb(image: Image.Image, path: Path) -> np.ndarray:
    clear = image.info.get("transparency")
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):  # PPM counts to 65535
        values = np.asarray(image)
        if 0 < values.max() < 256:
            raise UserError(
                f"image {path} has 16 bits a pixel, of which its largest value, {values.max()}, would be black; save "
                "it with 8 bits"
            )
        image = Image.fromarray((values >> 8).astype(np.uint8))
        if isinstance(clear, int):
            image.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    elif image.mode == "I":
        raise UserError(f"image {path} has 32-bit integers for pixels, and which is white is not said; save 8 or 16")
    elif image.mode == "F":
        values = np.asarray(image)
        if not (np.isfinite(values).all() and 0 <= values.min() <= values.max() <= 1):
            raise UserError(
                f"image {path} has float pixels from {values.min():g} to {values.max():g}; scale them to 0 (black) to "
                "1 (white)"
            )
        image = Image.fromarray((values * 255).round().astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image.convert("RGB"))
