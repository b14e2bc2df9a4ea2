"""In which precision a network's forward pass is computed."""

import contextlib

import torch

from tedloc.errors import choose


def autocast(precision: str, device: str | torch.device) -> contextlib.AbstractContextManager:
    """A block that computes in ``float32``, in ``bf16`` (matrix products and convolutions; the weights stay float32),
    or by ``auto`` in bf16 on a GPU and in float32 on a CPU. Raises ``UserError`` for another name."""
    choose("precision", precision, ("auto", "float32", "bf16"))
    kind = torch.device(device).type
    low = precision == "bf16" or (precision == "auto" and kind == "cuda")
    if not low and not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        return contextlib.nullcontext()  # as it is: nothing for a tracer to see
    return torch.autocast(kind, torch.bfloat16, enabled=low)
