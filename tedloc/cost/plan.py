"""Time and storage of TeD-Loc beyond one laptop, foretold from what the code does.

Work of an image is counted on the meta device (``tedloc.cost.complexity``) for the full-size architectures, in the
precisions and with the cache that the profile itself sets. What an image costs a CPU core (decoding it, scoring its
map) is measured, and so is how well reading keeps up with the network (``tedloc.cost.measured``). The rest is
arithmetic on assumptions that are named: a GPU reaches a share of its published peak, launching an operator takes time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from tedloc import sampler
from tedloc.cost import complexity, full_size, full_size_clip, measured
from tedloc.losses import total
from tedloc.sampler import Samples
from tedloc.settings import LossSettings, Profile, SamplerSettings
from tedloc.training.distributed import Draws

PEAK = {"bf16": 312e12, "float32": 19.5e12}  # FLOP/s of an A100, NVIDIA's data sheet; PyTorch's float32 is not TF32
REACHED = {"bf16": 0.35, "float32": 0.7}  # the share of it that code is assumed to reach
LAUNCH = 8e-6  # seconds that the host is assumed to need for one operator of a training step
BYTES = {"float16": 2, "int8": 1}  # of a number of a patch embedding in the cache
ROUTES = 3  # maps of TeD-Loc that a run scores; of its teacher's it scores one


@dataclass(frozen=True)
class Machine:
    """GPUs and what stands around them. cores: CPU cores a GPU; disk: bytes a second a machine of eight GPUs reads"""

    gpus: int = 1
    cores: int = 16
    disk: float = 3e9


@dataclass(frozen=True)
class Reading:
    """How photos and patch embeddings come to the network.

    workers: processes that decode for one GPU, None: one a core; 0: the one that feeds it, in turns with the network
    shares: images a second, over what the slower of reading and network reaches by itself, by what is done with them
    known: how the shares are known
    """

    workers: int | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    known: str = "assumed"

    def __str__(self) -> str:
        if self.workers == 0:
            return f"Photos are read by the process that feeds the GPU, in turns with it ({self.known})."
        many = "one process a core" if self.workers is None else f"{self.workers} processes a GPU"
        reached = ", ".join(f"{name} {100 * share:.0f} %" for name, share in self.shares.items())
        return (
            f"Photos are read ahead, by {many}; of the pace of the slower of both {reached} are reached ({self.known})."
        )

    def seconds(self, network: float, reading: float, what: str) -> float:
        """Of both, from the seconds of each by itself."""
        if self.workers == 0:
            return network + reading
        return max(network, reading) / self.shares.get(what, 1.0)


@dataclass(frozen=True)
class Work:
    """One run of TeD-Loc: images, passes, and what the profile sets for a GPU.

    views: 2 where mirrored images are used too; cached: whether patch embeddings are kept, ``number_bytes`` a number;
    encoder, teacher, step: the precision of each
    """

    train: int
    val: int
    test: int
    classes: int
    epochs: int
    batch_size: int
    views: int = 2
    cached: bool = True
    number_bytes: int = 2
    encoder: str = "bf16"
    teacher: str = "bf16"
    step: str = "bf16"
    reading: Reading = Reading()


SIZES = {  # training, validation, test images; classes
    "cub": (5_994, 1_000, 5_794, 200),
    "ilsvrc": (1_281_167, 10_000, 50_000, 1_000),
}


def at_paper_scale(profile: Profile) -> Work:
    """The work of one run of TeD-Loc under one of the paper's profiles, with the profile's own settings."""
    encoder = profile.encoder
    return Work(
        *SIZES[profile.name],
        profile.optimiser.epochs,
        profile.optimiser.batch_size,
        views=1 + encoder.mirror,
        cached=encoder.cache,
        number_bytes=BYTES[encoder.cache_type],
        encoder=_on_gpu(encoder.precision),
        teacher=_on_gpu(profile.pseudo_labels.precision),
        step=_on_gpu(profile.optimiser.precision),
        reading=reading(profile),
    )


def _on_gpu(precision: str) -> str:
    return "bf16" if precision == "auto" else precision


def reading(profile: Profile) -> Reading:
    """How the code reads, by the stored measurement; without one, in turns with the network."""
    found = measured.kept(measured.PIPELINE)
    if found is None:
        return Reading(0, known="not measured")
    shares = {name: min(1.0, share) for name, share in found["ratios"].items()}
    return Reading(profile.data.workers, shares, f"measured on {found['settings']['device']}")


@dataclass(frozen=True)
class ImageCost:
    """Of one image. FLOPs: one pass of the encoder, of decoder with heads, of CLIP-ES; a training step costs three
    passes of what is trained. numbers: of a view's patch embeddings; map_bytes: of its uint8 pseudo-label; operators:
    of a training step, whatever its batch. Seconds of a CPU core: decoding a photo of 500x375 pixels, scoring a map."""

    encoder: float
    head: float
    clip_es: float
    numbers: int
    map_bytes: int
    operators: int
    decode: float = 0.0
    score: float = 0.0


@cache
def counted(classes: int, image_size: int = 224) -> ImageCost:
    """The costs that need no clock: EVA-01-L with this package's full-size decoder, CLIP-ES on ViT-B/16."""
    shape = full_size.TeDLocShape(classes=classes, image_size=image_size, anchor_dim=min(classes, 512))
    with torch.device("meta"):
        parts = complexity.costs(full_size.tedloc(shape))
    clip = complexity.costs(full_size_clip.clip_es(classes, image_size)[:1])
    # CLIP-ES's backward pass goes through one block of twelve: its FLOPs are below a tenth of the forward pass
    encoder = float(parts.loc["encoder E", "flops"])
    return ImageCost(
        encoder,
        float(parts["flops"].sum()) - encoder,
        1.1 * float(clip["flops"].sum()),
        full_size.ENCODER_CHANNELS * (image_size // 14) ** 2,
        (image_size // 16) ** 2,
        step_operators(),
    )


@cache
def step_operators() -> int:
    """Operators of a training step in bf16 from the pseudo-label to the optimiser, but for those that only rename: the
    same number for any width and batch, so counted on a small model."""
    model = full_size.TeDLoc(8, torch.eye(4), replace(full_size.TeDLocShape().decoder, width=4)).train()
    optimiser = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, foreach=True)  # foreach: as on a GPU
    draws, labels = Draws(torch.Generator().manual_seed(0), 4), torch.arange(4)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            output = model(torch.ones(4, 8, 4, 4))
            cams = sampler.to_grid(torch.linspace(0, 1, 256).view(4, 8, 8), tuple(output.g.shape[1:]))
            pools = sampler.pools(cams, SamplerSettings(), draws)
            samples = sampler.sample(*pools, SamplerSettings().samples, draws)
            loss, _ = total(output, samples, labels, model.anchors, LossSettings())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return complexity.operators(step)


def with_cores(cost: ImageCost, cores: Mapping[str, Any] | None = None) -> ImageCost:
    """The costs with those of a core, as ``measured.of_a_core`` has them; None: as they are kept with the package."""
    cores = cores or measured.kept(measured.CORES)
    return replace(cost, decode=cores["decode"], score=cores["score"])


@dataclass(frozen=True)
class Stage:
    """A part of a run. photos: read from files; flops: by precision; scored: maps; read, stored: bytes; operators: that
    are launched one after the other, however many GPUs; gpus: that can share it at most; assumed: in words; kind: of
    ``Reading.shares``"""

    assumed: str
    kind: str = "features"
    photos: int = 0
    flops: dict[str, float] = field(default_factory=dict)
    scored: int = 0
    read: float = 0
    stored: float = 0
    operators: int = 0
    gpus: int | None = None

    def on(self, machine: Machine, cost: ImageCost, reading: Reading) -> dict[str, Any]:
        """A row of ``stages``."""
        gpus = min(machine.gpus, self.gpus or machine.gpus)
        decoders = gpus * (machine.cores if reading.workers is None else max(1, min(reading.workers, machine.cores)))
        gpu = sum(flops / (PEAK[kind] * REACHED[kind]) for kind, flops in self.flops.items()) / gpus
        parts = {
            "GPU": gpu,
            "launching operators": self.operators * LAUNCH,
            "decoding": self.photos * cost.decode / decoders,
            "scoring": self.scored * cost.score / gpus,  # by the process that made the maps
            "disk": self.read / (machine.disk * -(-machine.gpus // 8)),
        }
        network = max(gpu, parts["launching operators"])
        seconds = reading.seconds(network, max(parts["decoding"], parts["disk"]), self.kind) + parts["scoring"]
        return {
            "hours": seconds / 3600,
            "limit": max(parts, key=parts.get),
            "GPU hours": gpus * seconds / 3600,
            "stored": self.stored,
            "assumed": self.assumed,
        }


def parts_of(work: Work, cost: ImageCost) -> dict[str, Stage]:
    """A run's stages. The teacher is scored as well. The cache holds every split; without it the encoder runs in every
    epoch and for every image that is scored."""

    def pace(kind: str) -> str:
        return f"{kind} at {100 * REACHED[kind]:.0f} % of its peak"

    scored, seen = work.val + work.test, work.train * work.epochs
    steps, view_bytes = work.epochs * -(-work.train // work.batch_size), cost.numbers * work.number_bytes
    descend, heads = 3 * cost.head * seen, cost.head * scored
    launched = {"operators": steps * cost.operators, "gpus": work.batch_size}
    by_step = f"{pace(work.step)}, or {1e6 * LAUNCH:.0f} µs for each of {cost.operators} operators a step"
    one = "maps scored by one core a GPU"
    found = {
        "pseudo-labels": Stage(
            f"CLIP-ES in {pace(work.teacher)}",
            "CLIP-ES",
            work.train,
            {work.teacher: work.train * cost.clip_es},
            stored=work.train * cost.map_bytes,
        ),
        "the teacher's scores": Stage(
            f"CLIP-ES in {pace(work.teacher)}; {one}", "CLIP-ES", scored, {work.teacher: scored * cost.clip_es}, scored
        ),
    }
    if work.cached:
        views = work.train * work.views + scored
        found["cache of patch embeddings"] = Stage(
            f"encoder in {pace(work.encoder)}; {8 * work.number_bytes} bits a number, all splits",
            "features",
            work.train + scored,
            {work.encoder: views * cost.encoder},
            stored=views * view_bytes,
        )
        found["training"] = Stage(by_step, "cache", flops={work.step: descend}, read=seen * view_bytes, **launched)
        found["evaluation"] = Stage(one, "cache", 0, {"float32": heads}, ROUTES * scored, scored * view_bytes)
        return found
    both: dict[str, float] = {work.encoder: seen * cost.encoder}
    both[work.step] = both.get(work.step, 0.0) + descend
    how = f"encoder in {pace(work.encoder)}"
    found["training, encoder in every epoch"] = Stage(f"{how}; {by_step}", "features", seen, both, **launched)
    both = {work.encoder: scored * cost.encoder}
    both["float32"] = both.get("float32", 0.0) + heads
    found["evaluation"] = Stage(f"{how}; {one}", "features", scored, both, ROUTES * scored)
    return found


def stages(work: Work, cost: ImageCost, machine: Machine) -> pd.DataFrame:
    """One row a stage of ``parts_of``: hours; what takes the longest in it (GPU, launching operators, decoding, scoring
    or disk); GPU hours, of GPUs that are held, waiting or not; bytes stored; what is assumed."""
    rows = {name: stage.on(machine, cost, work.reading) for name, stage in parts_of(work, cost).items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def by_gpus(work: Work, cost: ImageCost, machines: Sequence[Machine]) -> pd.DataFrame:
    """One row a stage and one for "all": hours on each machine, gigabytes stored (NaN for none), what limits a stage on
    the first machine, and what is assumed (NaN for all). The machines differ in their GPUs alone."""
    found = {machine.gpus: stages(work, cost, machine) for machine in machines}
    one = next(iter(found.values()))
    hours = {f"hours, {gpus} GPU{'s' * (gpus > 1)}": frame["hours"] for gpus, frame in found.items()}
    frame = pd.DataFrame(hours | {"stored (GB)": one["stored"] / 1e9})
    frame.loc["all"] = frame.sum()
    frame["stored (GB)"] = frame["stored (GB)"].where(frame["stored (GB)"] > 0)
    return frame.assign(limit=one["limit"].reindex(frame.index), assumed=one["assumed"].reindex(frame.index))


def training_bytes(classes: int, batch_size: int, image_size: int = 224) -> int:
    """Bytes of GPU memory of one training step from cached embeddings: trained weights, their gradients and momentum,
    and every tensor that the backward pass keeps. Counted on the meta device, float32."""
    shape = full_size.TeDLocShape(classes=classes, image_size=image_size, anchor_dim=min(classes, 512))
    side = image_size // 14
    with torch.device("meta"):
        model = full_size.TeDLoc(full_size.ENCODER_CHANNELS, torch.empty(classes, shape.anchor_dim), shape.decoder)
        tokens = torch.empty(batch_size, full_size.ENCODER_CHANNELS, side, side)
        pixels = torch.zeros(batch_size, 10, dtype=torch.long)
        samples = Samples(pixels, pixels, torch.ones(batch_size, 10, dtype=torch.bool))
        labels = torch.zeros(batch_size, dtype=torch.long)
    kept: dict[StorageWeakRef, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[StorageWeakRef(tensor.untyped_storage())] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = total(model.train()(tokens), samples, labels, model.anchors, LossSettings())
    trained = complexity.count_parameters(model)
    del loss  # until here it held what the backward pass needs
    return sum(kept.values()) + 3 * 4 * trained
