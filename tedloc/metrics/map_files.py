"""Score maps as people write them, each kind told by its file's ending.

.npy  an array of any real type          .pt   a tensor that ``torch.save`` wrote; needs torch
.npz  an archive of one such array       .png  grey, 8 or 16 bits

(height, width), or with one channel before or behind. Numbers of 8 and 16 bits without a sign are shares of 255 and
65535, as in a picture; where a file leaves that open, and it matters, ``--scale`` is asked for. Whatever is wrong with
a file raises ``UserError`` naming it.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from tedloc.data import text_files
from tedloc.errors import UserError

SUFFIXES = (".npy", ".npz", ".pt", ".png")
SCALES = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}  # what stands for a score of 1


def suffix_of(root: Path, files: Iterable[Path], ids: Sequence[str]) -> str:
    """The one kind of files that images of a split are the namesakes of; ``.npy`` where there is none.

    Raises ``UserError`` where pictures of maps, say, lie beside the maps.
    """
    named = {text_files.composed(form) for name in ids for form in (name, Path(name).with_suffix("").as_posix())}
    found = {
        file.suffix
        for file in files
        if file.suffix in SUFFIXES and text_files.composed(file.relative_to(root).with_suffix("").as_posix()) in named
    }
    if len(found) > 1:
        kinds = " and ".join(sorted(found))
        raise UserError(f"{root} holds {kinds} files named after the images; say which are the score maps by --suffix")
    return found.pop() if found else ".npy"


def load(file: Path) -> np.ndarray:
    """The array in a file of any kind, as (height, width) where it has one channel."""
    array = {".npz": _npz, ".pt": _pt, ".png": _png}.get(file.suffix, npy)(file)
    if array.ndim != 3:
        return array
    if array.shape[0] == array.shape[2] == 1:
        raise UserError(
            f"the score map {file} has the shape {array.shape}, which may be (1, height, 1) or (1, 1, width); write "
            "two dimensions"
        )
    return array[0] if array.shape[0] == 1 else array[..., 0] if array.shape[2] == 1 else array


def scaled(file: Path, score_map: np.ndarray, scale: int | None, as_it_is: bool) -> np.ndarray:
    """(H, W) float64 scores of a finite map, as shares of what stands for a score of 1.

    scale: that number; None: what the type of the map's numbers says, 1 for other types than 8 and 16 bits
    as_it_is: the map is on the evaluation grid, so no later step would stretch it; only then the scale matters
    """
    values = score_map.astype(np.float64)
    low, high = values.min(), values.max()
    if scale is None:
        scale = SCALES.get(score_map.dtype, 1)
        possible = [each for each in (1, *SCALES.values()) if high <= each <= scale]
        if as_it_is and high > 0 and len(possible) > 1:
            raise UserError(
                f"the score map {file} holds nothing above {high:g} in numbers that count to {scale}; say what stands "
                f"for a score of 1: --scale {' or --scale '.join(map(str, possible))}"
            )
    elif not 0 <= low <= high <= scale:
        raise UserError(
            f"the score map {file} holds numbers from {low:g} to {high:g}, which do not fit --scale {scale}; correct it"
        )
    return values / scale


def npy(file: Path) -> np.ndarray:
    """An array that ``numpy.save`` wrote."""
    array = _numpy(file)
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"{file} is an archive of arrays; call it .npz, or write one array with numpy.save")
    return array


def _npz(file: Path) -> np.ndarray:
    archive = _numpy(file)
    if isinstance(archive, np.ndarray):
        raise UserError(f"{file} holds an array and no archive; call it .npy")
    with archive:
        _one(file, archive.files, "arrays")
        try:
            return archive[archive.files[0]]
        except Exception as error:
            raise _unreadable(file, "a NumPy array", "numpy.savez", error) from None


def _numpy(file: Path):
    """What NumPy finds in a file. It raises what it meets in a damaged header, so everything is caught."""
    try:
        return np.load(file, allow_pickle=False)
    except Exception as error:
        raise _unreadable(file, "a NumPy array", f"numpy.save{'z' if file.suffix == '.npz' else ''}", error) from None


def _pt(file: Path) -> np.ndarray:
    try:
        import torch
    except ModuleNotFoundError:
        raise UserError(f"{file} is torch's: pip install 'tedloc[train]', or write maps with numpy.save") from None
    try:
        tensor = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _unreadable(file, "a tensor", "torch.save", error) from None
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
        kind = type(tensor).__name__ if not isinstance(tensor, torch.Tensor) else "sparse or quantised tensor"
        raise UserError(f"{file} holds a {kind}; write one plain tensor with torch.save")
    tensor = tensor.detach()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def _png(file: Path) -> np.ndarray:
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UserError(f"{file} cannot be read as a picture; write it again")
    if image.ndim != 2:
        raise UserError(f"{file} has {image.shape[2]} channels; a score map is a grey picture, without transparency")
    return image


def _one(file: Path, names: Collection[str], what: str) -> None:
    if len(names) != 1:
        listed = ", ".join(sorted(names)[:4]) or "nothing"
        raise UserError(f"{file} holds {len(names)} {what} ({listed}); a score map's file holds one")


def _unreadable(file: Path, what: str, writer: str, error: Exception) -> UserError:
    if "allow_pickle" in str(error) or "weights_only" in str(error).lower():
        return UserError(f"{file} holds Python objects; write {what} of numbers with {writer}")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"{file} cannot be read as {what} ({reason}); write it with {writer}")
