"""A device that is not there: its tensors carry values, are computed by the CPU, and refuse to meet the CPU's.

    pretended.register()                 # before the first backward pass of the process, so best in one of its own
    with pretended.device() as seen:
        method = create("tedloc", profile, device=pretended.NAME)
        method.fit()                     # forward and backward, optimiser and all
    seen.waits                           # where the host would have waited for the device

What a GPU refuses is refused here: an operator on tensors of both kinds (numbers without dimensions and indices on the
CPU apart, which a GPU takes, too), a generator of the other kind. torch's own fake tensors have no values, so they stop
at the first ``if wrong.any()`` and know no backward pass; these go on, to results that can be compared.

    echo '[{"method": "cam", "profile": "smoke", "changes": {}}]' | python tests/pretended.py

prints a line of JSON for each meeting that the device must refuse, one for each kind of input, where the host waits
for it, and one a method: how far from the CPU's its results are, or why there are none.
"""

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import safetensors.torch
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tedloc import profiles
from tedloc.methods import create, trained
from tedloc.training import engine

NAME = "pretended"
INDEXED = ("index", "_index", "_unsafe_index")  # operators named so take an index of the CPU
SHAPED_BY_VALUES = ("nonzero", "masked_select", "_unique2", "repeat_interleave")  # the host must ask for the shape
COPIES = ("_to_copy", "copy_")
# Methods whose training step looks at no value. (DA-WSOL asks whether a cluster is empty, DiPS picks its proposals.)
NEVER_WAIT = ("tedloc", "cam", "ts-cam", "catr", "bas")


class MixedDevices(RuntimeError):
    """What is on the device met what is on the CPU."""


def can() -> bool:
    """Whether this torch can register a device that is written in Python."""
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


def register() -> None:
    """Make ``NAME`` a device of this process. Autograd counts devices at its first backward pass and never again."""

    class Backend(backend_registration._DummyBackendModule):
        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16, torch.float16]

    backend_registration._setup_privateuseone_for_python_backend(NAME, Backend())


class _Tensor(torch.Tensor):
    """A tensor that says it lies on the device; its values are in ``raw``, on the CPU."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor):
        options = {"dtype": raw.dtype, "device": f"{NAME}:0"}
        made = torch.Tensor._make_wrapper_subclass(cls, raw.size(), raw.stride(), raw.storage_offset(), **options)
        made.raw = raw
        return made

    def __repr__(self) -> str:
        return f"{NAME} {self.raw!r}"

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        raise MixedDevices(f"{operator} on the device outside the block that pretends it")


class _Generator(torch.Generator):
    """A generator of the device; the CPU draws."""

    @property
    def device(self) -> torch.device:
        return torch.device(NAME, 0)


class _AnyGenerator(torch.Generator):
    """Stands for ``torch.Generator``."""

    def __new__(cls, device: str | torch.device = "cpu") -> torch.Generator:
        return _Generator() if torch.device(device).type == NAME else super().__new__(cls, device)


class _Calls(TorchFunctionMode):
    """What must be seen above the operators: whose a generator is, and what torch makes of lists and numbers."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        generator, device = kwargs.get("generator"), kwargs.get("device") or "cpu"
        if generator is not None and isinstance(generator, _Generator) != (torch.device(device).type == NAME):
            raise MixedDevices(f"{function.__name__}: a generator of {generator.device} draws for {device}")
        first = args[0] if args else None
        if function in (torch.tensor, torch.as_tensor) and not isinstance(first, torch.Tensor):
            return function(*args, **(kwargs | {"device": None})).to(device)
        if function is torch.Tensor.new_tensor and isinstance(first, _Tensor):
            return torch.tensor(args[1], dtype=first.dtype).to(NAME)
        if function is torch.Tensor.__getitem__ and isinstance(first, _Tensor) and isinstance(args[1], list):
            return first[torch.tensor(args[1])]
        return function(*args, **kwargs)


class Seen(TorchDispatchMode):
    """Runs the operators. waits: where the host would have waited for the device, by what it waited for."""

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        there = [x for x in tensors if isinstance(x, _Tensor)]
        here = [x for x in tensors if not isinstance(x, _Tensor)]
        to = torch.device(kwargs["device"]).type if kwargs.get("device") else None
        if not there and to != NAME:
            return operator(*args, **kwargs)
        name = operator._overloadpacket.__name__
        strangers = [x for x in here if x.dim() and not name.startswith((*INDEXED, *COPIES))]
        if strangers:
            raise MixedDevices(f"{operator}: a tensor {list(strangers[0].shape)} of the CPU meets one of the device")
        self._note(name, args, kwargs, there, here, to)
        values, options = tree_map(lambda x: x.raw if isinstance(x, _Tensor) else x, (args, kwargs))
        out = operator(*values, **(options | ({"device": torch.device("cpu")} if to == NAME else {})))
        if name == "copy_":
            return args[0]
        if name == "_to_copy" and to not in (None, NAME):
            return out
        known = {id(x.raw): x for x in there}  # what is changed in place stays the same tensor
        wrapped = lambda x: known[id(x)] if id(x) in known else _Tensor(x)  # noqa: E731
        return tree_map(lambda x: wrapped(x) if isinstance(x, torch.Tensor) else x, out)

    def _note(self, name: str, args, kwargs, there: list, here: list, to: str | None) -> None:
        patient = kwargs.get("non_blocking") or (len(args) > 2 and args[2] is True)
        if name == "_to_copy" and to and bool(there) != (to == NAME) and not patient:
            self.waits.append(f"copy to {to}")
        elif name == "copy_" and there and here and not patient:
            self.waits.append("copy")
        elif name == "_local_scalar_dense" or name in SHAPED_BY_VALUES:
            self.waits.append(name)
        elif name.startswith("index") and (here or any(x.dtype == torch.bool for x in there[1:])):
            self.waits.append(f"{name} by {'the CPU' if here else 'a mask'}")


@contextlib.contextmanager
def device() -> Iterator[Seen]:
    """Inside, ``NAME`` is a device. Inference mode is no_grad there, whose tensors cannot be wrapped; checkpoints
    are empty files, since these tensors have no storage."""
    inference = torch.autograd.grad_mode.inference_mode

    def enter(self) -> None:
        self.instead = torch.set_grad_enabled(not self.mode and torch.is_grad_enabled())

    def leave(self, *error) -> None:
        self.instead.__exit__(*error)

    def touch(thing, file, **more) -> None:
        file.touch()

    with (
        mock.patch.object(inference, "__enter__", enter),
        mock.patch.object(inference, "__exit__", leave),
        mock.patch.object(torch, "Generator", _AnyGenerator),
        mock.patch.object(torch, "save", touch),
        mock.patch.object(safetensors.torch, "save_file", touch),
        _Calls(),
        Seen() as seen,
    ):
        yield seen


# What the device must refuse, by what meets; and what it must not.
MIXED = {
    "two tensors": lambda: torch.ones(3) + torch.ones(3, device=NAME),
    "a weight and its input": lambda: torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3, device=NAME)),
    "its tensor, a generator of the CPU": lambda: torch.rand(3, generator=torch.Generator(), device=NAME),
    "its generator, a tensor of the CPU": lambda: torch.rand(3, generator=torch.Generator(NAME)),
}


def waits(method: str, profile: str, changes: dict) -> dict[str, list[str]]:
    """Where the host waits for the device while the first training batches of a method come to it: those that were told
    of ahead, and one that was not."""
    made = create(method, profiles.get(profile, changes), device=NAME)
    index, view = np.arange(4), torch.ones(4, dtype=torch.long)
    with device() as seen:
        made.net, view = made.model().to(NAME), view.to(NAME)
        seen.waits.clear()
        made.input_ahead("train", [index, index + 4])
        x = made.net[0](made.input("train", index, view))
        told, _ = list(seen.waits), made.labels("train", index)
        assert x.device.type == NAME and seen.waits == told
        made.input("train", index + 9, view)
    return {"told of": told, "not": seen.waits}


SMALL = {"data.per_class": 1, "data.workers": 1}
WAITS = {  # by what is trained on
    "photos": ("ts-cam", "smoke", SMALL),
    "cached patch embeddings": ("cam", "smoke", SMALL),
    "bytes": ("cam", "smoke", SMALL | {"encoder.cache_type": "int8"}),
    "patch embeddings without a cache": ("cam", "smoke", SMALL | {"encoder.cache": False}),
}


def refused(meeting: Callable[[], torch.Tensor]) -> str:
    with device() as seen:
        assert (torch.ones(3, device=NAME) + torch.tensor(1.0)).sum() == 6  # a number may come along
        assert seen.waits == ["_local_scalar_dense"]
        try:
            return f"not refused: {meeting()}"
        except MixedDevices as error:
            return f"MixedDevices: {error}"


@contextlib.contextmanager
def steps(begin: Callable[[], None], end: Callable[[], None]) -> Iterator[None]:
    """Inside, every training step calls ``begin`` once its batch is there and ``end`` when its optimiser is done."""
    descend, batch = engine._descend, trained.Batch

    def whole(*args):
        try:
            return descend(*args)
        finally:
            end()

    def there(*parts):
        made = batch(*parts)
        begin()
        return made

    with mock.patch.object(engine, "_descend", whole), mock.patch.object(trained, "Batch", there):
        yield


def compare(method: str, profile: str, changes: dict, folder: Path) -> dict[str, Any]:
    """How far a run on the device is from the CPU's: its losses, and its maps and scores on the test split, as shares
    of the largest; how many of each there were; and what a training step waited for once its batch was there."""
    told, found, waits = [], [], []
    for where in ("cpu", NAME):
        with device() if where == NAME else contextlib.nullcontext() as seen:
            made, marks = create(method, profiles.get(profile, changes), device=where), []

            def begin(seen=seen, marks=marks) -> None:
                marks.append(len(seen.waits) if seen else 0)

            def end(seen=seen, marks=marks) -> None:
                waits.extend(seen.waits[marks.pop() :] if seen and marks else [])

            (folder / where).mkdir()
            with steps(begin, end):
                made.fit(folder / where)
            found.append([x.cpu() for p in made.predict("test") for r in p.routes.values() for x in (r.maps, r.scores)])
        logs = sorted((folder / where).rglob("log.jsonl"))
        told.append([json.loads(line)["loss"] for log in logs for line in log.read_text().splitlines()])
    off = max((abs(a - b) / abs(a) for a, b in zip(*told, strict=True)), default=0.0)
    far = [(a - b).abs().max() / a.abs().max().clamp_min(1e-6) for a, b in zip(*found, strict=True) if a.numel()]
    counts = {"losses": len(told[1]), "maps": len(far), "waits": waits}
    return {"loss": off, "maps and scores": float(max(far)), **counts}


def main() -> None:
    register()
    for meeting in MIXED.values():
        print(json.dumps({"refused": refused(meeting)}), flush=True)
    for case in WAITS.values():
        print(json.dumps(waits(*case)), flush=True)
    for case in json.load(sys.stdin):
        with TemporaryDirectory() as folder:
            try:
                told = compare(case["method"], case["profile"], case["changes"], Path(folder))
            except Exception as error:
                told = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        print(json.dumps(case | told), flush=True)


if __name__ == "__main__":
    main()
