"""Per-image results in a few kilobytes: what verdicts need of a run, small enough to be kept with the package.

    data = pack({"test-g": meter, "val-g": other})           # one file for all routes and splits of a run
    meters = unpack(data)                                    # the same names; meters as before, without their boxes

Kept exactly are ids, classes, ranks, ground truth, and whether the box is correct at every level, IoU and way of
counting contours. So a restored meter computes every metric at every threshold rule as before, but ``mean IoU`` and
PxAP, which need the predicted boxes and the histograms of pixels. Those are 99 % of a meter's bytes. Whether a box is
correct changes once or twice over 255 levels, so only the changes are kept.
"""

import io
import lzma
from collections.abc import Mapping

import numpy as np

from tedloc.errors import UserError
from tedloc.metrics.meter import LocalizationMeter

TRUTH = ("ids", "label", "size", "counts", "targets")  # the same for all routes of a split, and kept once
OWN = ("predicted", "rank", "top", "hits")


def pack(found: Mapping[str, LocalizationMeter]) -> bytes:
    """Meters by name, each with at least one image, as compressed bytes."""
    arrays: dict[str, np.ndarray] = {}
    truths: list[LocalizationMeter] = []
    for name, meter in found.items():
        state = meter.state_dict()
        same = [i for i, other in enumerate(truths) if other.images == meter.images]
        if not same:
            arrays |= {f"truth/{len(truths)}/{key}": _narrow(state[key]) for key in TRUTH}
            truths.append(meter)
        arrays[f"of/{name}"] = np.array(same[0] if same else len(truths) - 1)
        arrays |= {f"own/{name}/{key}": _narrow(state[key]) for key in OWN if key != "hits"}
        arrays |= {f"own/{name}/hits": _changes(state["hits"]), f"own/{name}/settings": state["settings"]}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return lzma.compress(file.getvalue(), preset=9)


def unpack(data: bytes) -> dict[str, LocalizationMeter]:
    """The meters that :func:`pack` was given. Raises ``UserError`` for bytes that it did not make."""
    try:
        with np.load(io.BytesIO(lzma.decompress(data)), allow_pickle=False) as stored:
            arrays = dict(stored)
        return {name.removeprefix("of/"): _meter(arrays, name) for name in arrays if name.startswith("of/")}
    except (lzma.LZMAError, EOFError, ValueError, KeyError) as error:
        raise UserError("these are no packed results, or a part of them; make the file anew") from error


def _meter(arrays: Mapping[str, np.ndarray], name: str) -> LocalizationMeter:
    own, truth = name.replace("of/", "own/", 1), f"truth/{arrays[name]}"
    state = {key: arrays[f"{truth}/{key}"] for key in TRUTH} | {key: arrays[f"{own}/{key}"] for key in OWN}
    count = len(state["ids"])
    state = {key: value if key in ("ids", "top", "hits") else value.astype(np.int32) for key, value in state.items()}
    state["hits"] = np.packbits(np.bitwise_xor.accumulate(np.unpackbits(state["hits"], axis=-1), axis=-1), axis=-1)
    state |= {"largest": np.zeros((count, 0, 4), np.uint8), "pixels": np.zeros((count, 2, 0), np.uint32)}
    return LocalizationMeter.from_state(state | {"settings": arrays[f"{own}/settings"]})


def _changes(packed: np.ndarray) -> np.ndarray:
    """Packed bits over levels -> packed bits that say where they differ from the level before."""
    bits = np.unpackbits(packed, axis=-1)
    bits[..., 1:] ^= bits[..., :-1].copy()
    return np.packbits(bits, axis=-1)


def _narrow(array: np.ndarray) -> np.ndarray:
    """Whole numbers in the smallest type that holds them all."""
    if array.dtype.kind not in "iu" or not array.size:
        return array
    return array.astype(np.promote_types(np.min_scalar_type(array.min()), np.min_scalar_type(array.max())))
