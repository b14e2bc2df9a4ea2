"""Names of devices: which there are, and one sentence for those that there are not, before anything is computed."""

import re

from tedloc.errors import UserError

NAME = re.compile(r"cpu|cuda(:(0|[1-9]\d{0,3}))?", re.ASCII)


def checked(name: str) -> str:
    """The name of a device that this machine has: ``cpu``, ``cuda`` (all GPUs, or the first), ``cuda:1``.

    Raises ``UserError`` for any other name and for a GPU that is not there. PyTorch is imported for GPUs only.
    """
    if not NAME.fullmatch(name):
        meant = name.strip().lower()
        hint = f"cuda:{meant}" if meant.isdecimal() else {"gpu": "cuda", "cpu:0": "cpu"}.get(meant, meant)
        meant = f" (is {hint!r} meant?)" if NAME.fullmatch(hint) else ""
        raise UserError(f"{name!r} is not a device name{meant}; give cpu, cuda or cuda:1 by --device or TEDLOC_DEVICE")
    if name == "cpu":
        return name
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise UserError(f"device {name!r}: PyTorch finds no GPU here; give --device cpu, or see to the driver")
    if int(name.partition(":")[2] or 0) >= count:
        there = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise UserError(f"device {name!r}: this machine has {there} only; give one that is there")
    return name
