"""Which device computes, and with how many threads. A name is checked before anything is computed."""

import os
import re
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
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise UserError(f"device {name!r}: PyTorch finds no GPU here; give --device cpu, or see to the driver")
    if int(name.partition(":")[2] or 0) >= count:
        there = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise UserError(f"device {name!r}: this machine has {there} only; give one that is there")
    return name


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
