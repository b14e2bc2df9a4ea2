"""Which device computes, and with how many threads. A name is checked before anything is computed."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tedloc.errors import UserError

NAME = re.compile(r"cpu|cuda(:(0|[1-9]\d{0,3}))?", re.ASCII)


def checked(name: str) -> str:
    """The name of a device that this machine has: ``cpu``, ``cuda`` (all GPUs, or the first), ``cuda:1``.

    Raises ``UserError`` for any other name and for a GPU that is not there.
    """
    if not NAME.fullmatch(name):
        meant = name.strip().lower()
        hint = f"cuda:{meant}" if meant.isdecimal() else {"gpu": "cuda", "cpu:0": "cpu"}.get(meant, meant)
        meant = f" (is {hint!r} meant?)" if NAME.fullmatch(hint) else ""
        raise UserError(f"{name!r} is not a device name{meant}; give cpu, cuda or cuda:1 by --device or TEDLOC_DEVICE")
    if name == "cpu":
        return name
    with warnings.catch_warnings(action="ignore"):  # PyTorch's own words on why there is none are in the sentence
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise UserError(f"device {name!r}: PyTorch finds no GPU here: {_why_none()}, or give --device cpu")
    if int(name.partition(":")[2] or 0) >= count:
        there = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise UserError(f"device {name!r}: this machine has {there} only; give one that is there")
    return name


def _why_none() -> str:
    """Why PyTorch has no GPU, and the remedy. A CUDA version of 13.0 is 13000 to the driver."""
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} was built without CUDA; install a build with it"
    if (hidden := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return f"CUDA_VISIBLE_DEVICES is {hidden!r}; unset it"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        if "too old" in str(error):
            known = re.search(r"found version (\d+)", str(error))
            most = f" (it knows CUDA {int(known[1]) // 1000}.{int(known[1]) % 1000 // 10})" if known else ""
            return (
                f"the driver is too old{most} for PyTorch's CUDA {torch.version.cuda}; update the driver, or install "
                "a PyTorch built for an older CUDA"
            )
        if "no NVIDIA driver" in str(error):
            return "no NVIDIA driver is installed; install one"
        return f"{str(error).strip().splitlines()[0]}; see to the driver"
    return "its driver shows none; see to the driver"


def default() -> str:
    """``TEDLOC_DEVICE``, or a GPU when there is one."""
    if name := os.environ.get("TEDLOC_DEVICE"):
        return checked(name)
    return "cuda" if torch.cuda.is_available() else "cpu"


def name(device: str) -> str:
    """``cpu``, or the GPU's name."""
    return "cpu" if device == "cpu" else torch.cuda.get_device_name(device)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Inside, PyTorch uses so many CPU threads; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
