"""Which device computes, and with how many threads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def default() -> str:
    """``TEDLOC_DEVICE``, or a GPU when there is one."""
    return os.environ.get("TEDLOC_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


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
