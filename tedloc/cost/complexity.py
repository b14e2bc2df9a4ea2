"""What a system costs: parameters, FLOPs, MACs, activation memory, latency (tables 3 and 6).

Counting needs shapes, not values, so it runs on the meta device, where a billion parameters take no memory.

Conventions. A multiply-accumulate (MAC) is one multiplication and one addition: FLOPs = 2 MACs. Products of
matrices and convolutions are counted (2 m n k); normalisations, activations, softmax and pooling are not, and
``Cost.uncounted`` says how many elements those produced. Attention is counted as the two products it is, and
kept apart in ``Cost.attention_flops``, because counters in use differ in whether they see it.
"""

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from tqdm.auto import tqdm

from tedloc.errors import choose
from tedloc.training import devices

# Products of two activations: nothing but attention and Eq. 3's pooling is made of these.
_ATTENTION = {"bmm", "baddbmm"}
# Operators that only rename, reshape or allocate: no arithmetic that a count could miss.
_FREE = set(
    "view _unsafe_view reshape transpose t permute expand unsqueeze squeeze slice select unbind split "
    "split_with_sizes chunk cat stack clone copy_ empty empty_like new_empty zeros new_zeros zeros_like ones "
    "full scalar_tensor arange lift_fresh detach alias _to_copy contiguous constant_pad_nd unfold fill_ "
    "embedding".split()
)


@dataclass(frozen=True)
class Cost:
    """Cost of one forward pass, batch as given (1 in the book).

    parameters: learned numbers held, shared ones once
    flops: floating-point operations of matrix products and convolutions
    attention_flops: the part of ``flops`` in products of two activations, that is, attention
    activation_bytes: most bytes of activations alive at once, beside parameters and inputs, with attention
        fused (its score matrix never stored) where the model calls torch's fused attention
    uncounted: elements produced by arithmetic operators that ``flops`` leaves out, by operator
    """

    parameters: int
    flops: int
    attention_flops: int
    activation_bytes: int
    uncounted: dict[str, int]

    @property
    def macs(self) -> int:
        return self.flops // 2


def count_parameters(*modules: nn.Module) -> int:
    """Learned numbers in modules, each shared tensor once."""
    return sum(p.numel() for p in {id(p): p for module in modules for p in module.parameters()}.values())


def cost(module: nn.Module, *inputs: Tensor, call: Callable[..., Any] | None = None) -> Cost:
    """Cost of ``module(*inputs)``, or of ``call(*inputs)`` where a system is more than its module's forward.

    Module and inputs are best on the meta device (``torch.device("meta")``); real tensors give the same
    numbers. Gradients are recorded only if ``call`` asks for them.
    """
    call = call or module
    module.eval()
    # Fused CPU attention has no formula in torch's counter and would count as nothing.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call(*inputs)
    counts = counter.get_flop_counts()["Global"]
    attention = sum(flops for operator, flops in counts.items() if operator.__name__ in _ATTENTION)
    held = [*module.parameters(), *module.buffers(), *inputs]
    with torch.no_grad(), _FusedAttention(), _Watch(held) as watch:
        call(*inputs)
    return Cost(count_parameters(module), sum(counts.values()), attention, watch.peak, dict(watch.uncounted))


@dataclass(frozen=True, eq=False)
class Part:
    """A step of a system's inference: ``module(*inputs)``, or ``call(*inputs)`` where that is not all.

    passes: how often an image needs it; 0 for what is loaded or computed once and not run for an image
    """

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    call: Callable[..., Any] | None = None
    passes: int = 1

    def __call__(self) -> Any:
        return (self.call or self.module)(*self.inputs)


def costs(parts: Sequence[Part]) -> pd.DataFrame:
    """One row a part: parameters; of one pass FLOPs, MACs, FLOPs in attention, activation bytes; passes."""
    rows = []
    for part in parts:
        one = cost(part.module, *part.inputs, call=part.call)
        rows.append(
            {
                "part": part.name,
                "parameters": one.parameters,
                "flops": one.flops,
                "macs": one.macs,
                "attention_flops": one.attention_flops,
                "activation_bytes": one.activation_bytes,
                "uncounted": sum(one.uncounted.values()),
                "passes": part.passes,
            }
        )
    return pd.DataFrame(rows).set_index("part")


def total(parts: pd.DataFrame) -> pd.Series:
    """A system from its parts: work times passes, parameters of all and of those run, largest memory."""
    work = parts[["flops", "macs", "attention_flops", "uncounted"]].mul(parts["passes"], axis=0).sum()
    run = parts[parts["passes"] > 0]
    return pd.concat(
        [
            work,
            pd.Series(
                {
                    "parameters": parts["parameters"].sum(),
                    "parameters_run": run["parameters"].sum(),
                    "activation_bytes": run["activation_bytes"].max(),
                }
            ),
        ]
    ).astype("int64")


class _FusedAttention(TorchFunctionMode):
    """Let ``scaled_dot_product_attention`` give its result without a score matrix, as fused kernels do."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            query, _, value = args[:3] if len(args) >= 3 else (kwargs[name] for name in ("query", "key", "value"))
            return query.new_zeros(*query.shape[:-1], value.shape[-1])
        return function(*args, **(kwargs or {}))


class _Watch(TorchDispatchMode):
    """Follow every operator: bytes alive, and elements produced by arithmetic that has no FLOP formula."""

    def __init__(self, held: list[Tensor]):
        super().__init__()
        self.held = {StorageWeakRef(tensor.untyped_storage()) for tensor in held}
        self.alive: dict[StorageWeakRef, int] = {}
        self.peak = 0
        self.uncounted: Counter[str] = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.alive = {storage: size for storage, size in self.alive.items() if not storage.expired()}
        for tensor in made:
            storage = StorageWeakRef(tensor.untyped_storage())
            if storage not in self.held:
                self.alive[storage] = tensor.untyped_storage().nbytes()
        self.peak = max(self.peak, sum(self.alive.values()))
        name = operator._overloadpacket.__name__
        counted = operator._overloadpacket in flop_registry or name.startswith("_scaled_dot_product")
        if not counted and name not in _FREE:
            self.uncounted[name] += sum(tensor.numel() for tensor in made)
        return result


class _Count(TorchDispatchMode):
    """Count operators, but for those that rename memory or take some."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.count += not operator.is_view and not operator._overloadpacket.__name__.startswith(("empty", "detach"))
        return operator(*args, **(kwargs or {}))


def operators(call: Callable[[], Any]) -> int:
    """How many operators ``call()`` launches, backward passes and all; on a GPU each is a kernel or several."""
    with _Count() as counter:
        call()
    return counter.count


@dataclass(frozen=True)
class Latency:
    """Time of one pass in milliseconds: median and quartiles over ``passes``, and the conditions."""

    median: float
    low: float
    high: float
    passes: int
    warmup: int
    device: str
    precision: str
    threads: int

    def __str__(self) -> str:
        spread = f" [{self.low:.1f}, {self.high:.1f}] over {self.passes} passes" if self.passes > 1 else " in one pass"
        return f"{self.median:.1f} ms{spread}"


@dataclass(frozen=True)
class LatencySettings:
    """The paper's protocol (section 4.3): 20 passes to warm up, then 1,000 timed, batch 1.

    seconds: begin no further pass after so long, at least one is timed; warming up ends after a third of it.
        None: no limit. The paper's protocol fits a GPU; on a CPU a large model needs the limit.
    precision: "float32", or "bf16": products and convolutions by autocast, as training has it. The paper gives none.
    """

    warmup: int = 20
    passes: int = 1000
    seconds: float | None = None
    precision: str = "float32"


def latencies(
    parts: Sequence[Part], device: str = "cpu", settings: LatencySettings = LatencySettings(), seed: int = 0
) -> dict[str, Latency]:
    """Latency of one pass of every part that an image needs; parts on the meta device get random weights."""
    found = {}
    for part in parts:
        if part.passes:
            real = _materialise(part, device, seed)
            found[part.name] = latency(real, device, settings, part.name)
            if real is not part:
                part.module.to("meta")  # a system's parts need not fit into memory together
    return found


def image_time(parts: Sequence[Part], timed: Mapping[str, Latency]) -> float:
    """Milliseconds an image: the medians of a system's parts (``latencies``), each as often as the image needs it."""
    return sum(timed[part.name].median * part.passes for part in parts if part.passes)


def stored_parameters(file: Path) -> pd.Series:
    """How many numbers a safetensors file holds, by the first part of their tensors' names; no tensor is read."""
    with safe_open(file, "numpy") as weights:
        sizes = pd.Series({name: math.prod(weights.get_slice(name).get_shape()) for name in weights.keys()})
    return sizes.groupby(sizes.index.str.partition(".").get_level_values(0)).sum()


def _materialise(part: Part, device: str, seed: int) -> Part:
    if not any(p.is_meta for p in part.module.parameters()):
        return part
    generator = torch.Generator(device).manual_seed(seed)
    module = part.module.to_empty(device=device).eval().requires_grad_(False)
    for tensor in [*module.parameters(), *module.buffers()]:
        tensor.uniform_(-0.02, 0.02, generator=generator) if tensor.is_floating_point() else tensor.zero_()
    inputs = [torch.zeros_like(tensor, device=device) for tensor in part.inputs]
    inputs = [x.uniform_(-1, 1, generator=generator) if x.is_floating_point() else x for x in inputs]
    return Part(part.name, module, tuple(inputs), part.call, part.passes)


def latency(
    call: Callable[[], Any],
    device: str = "cpu",
    settings: LatencySettings = LatencySettings(),
    name: str = "",
) -> Latency:
    """Time ``call()``: CUDA events on a GPU, a monotonic clock elsewhere; shows progress.

    Raises ``UserError`` for a GPU that is not there and a precision that is none.
    """
    kind = torch.device(device).type
    choose("precision", settings.precision, ("float32", "bf16"))
    devices.checked(device)
    run = _cuda_pass if kind == "cuda" else _clock_pass
    limit = float("inf") if settings.seconds is None else settings.seconds
    times, start = [], time.monotonic()
    with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=settings.precision == "bf16"):
        warmed = 0
        while warmed < settings.warmup and time.monotonic() - start < limit / 3:
            run(call)
            warmed += 1
        start = time.monotonic()
        for _ in tqdm(range(settings.passes), desc=f"timing {name}".strip(), unit="pass", leave=False):
            times.append(run(call))
            if time.monotonic() - start > limit:
                break
    low, median, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    where = devices.name(device)
    return Latency(median, low, high, len(times), warmed, where, settings.precision, torch.get_num_threads())


def _clock_pass(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def _cuda_pass(call: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)
