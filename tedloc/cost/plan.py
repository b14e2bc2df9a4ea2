"""Time and storage of TeD-Loc beyond one laptop, foretold from counted operations and measured per-image costs.

Work of an image is counted on the meta device (``tedloc.cost.complexity``) for the full-size architectures; what runs
on CPUs (decoding a photo, scoring a map) is measured on this machine. Everything else is arithmetic. The speed of a GPU
is its published peak times a share that real code reaches, which is an assumption and is named as one.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from tedloc.cost import complexity, full_size
from tedloc.losses import total
from tedloc.metrics.meter import LocalizationMeter
from tedloc.sampler import Samples
from tedloc.settings import LossSettings, Profile


@dataclass(frozen=True)
class Machine:
    """GPUs and what stands around them.

    peak: FLOP/s of one GPU in bf16 (A100, NVIDIA's data sheet); reached: share of it that code is assumed to reach
    cores: CPU cores a GPU; disk: bytes a second a machine of eight GPUs reads
    """

    gpus: int = 1
    peak: float = 312e12
    reached: float = 0.35
    cores: int = 16
    disk: float = 3e9

    @property
    def flops(self) -> float:
        return self.gpus * self.peak * self.reached


@dataclass(frozen=True)
class Work:
    """Images and passes. views: 2 where mirrored images are used too."""

    train: int
    test: int
    classes: int
    epochs: int
    batch_size: int
    views: int = 2


SIZES = {"cub": (5_994, 5_794, 200), "ilsvrc": (1_281_167, 50_000, 1_000)}  # training, test images; classes


def at_paper_scale(profile: Profile) -> Work:
    """The work of one run of TeD-Loc under one of the paper's profiles."""
    return Work(*SIZES[profile.name], profile.optimiser.epochs, profile.optimiser.batch_size)


@dataclass(frozen=True)
class ImageCost:
    """Of one image. FLOPs: one pass of the encoder, of decoder with heads, of CLIP-ES; a training step costs three
    passes of what is trained. Bytes: its patch embeddings in fp16, its uint8 pseudo-label. Seconds of one CPU core:
    decoding a photo of 500x375 pixels, scoring a map."""

    encoder: float
    head: float
    clip_es: float
    token_bytes: int
    map_bytes: int
    decode: float = 0.0
    score: float = 0.0


@cache
def counted(classes: int, image_size: int = 224) -> ImageCost:
    """The costs that need no clock: EVA-01-L with this package's full-size decoder, CLIP-ES on ViT-B/16."""
    shape = full_size.TeDLocShape(classes=classes, image_size=image_size, anchor_dim=min(classes, 512))
    with torch.device("meta"):
        parts = complexity.costs(full_size.tedloc(shape))
    clip = complexity.costs(full_size.clip_es(classes, image_size)[:1])
    side = image_size // 14
    tokens = full_size.ENCODER_CHANNELS * side * side
    # CLIP-ES's backward pass goes through one block of twelve: its FLOPs are below a tenth of the forward pass
    encoder = float(parts.loc["encoder E", "flops"])
    return ImageCost(
        encoder,
        float(parts["flops"].sum()) - encoder,
        1.1 * float(clip["flops"].sum()),
        2 * tokens,
        (image_size // 16) ** 2,
    )


def measured(cost: ImageCost, repeat: int = 20, step: float = 0.001) -> ImageCost:
    """The costs of a CPU core, measured on this machine: medians over ``repeat`` passes."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    photo, file = Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC), BytesIO()
    photo.save(file, "jpeg", quality=90)

    def decode() -> None:
        Image.open(BytesIO(file.getvalue())).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)

    smooth = cv2.resize(rng.random((7, 7)), (56, 56), interpolation=cv2.INTER_CUBIC)
    maps, box = smooth[None], [np.array([[50, 50, 300, 300]])]

    def score() -> None:
        LocalizationMeter(step=step).update(["a"], maps, box, np.array([[500, 375]]))

    def median(work) -> float:
        work()
        seconds = []
        for _ in range(repeat):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        return float(np.median(seconds))

    return replace(cost, decode=median(decode), score=median(score))


def stages(work: Work, cost: ImageCost, machine: Machine, cached: bool = True) -> pd.DataFrame:
    """One row a stage: GPU seconds, CPU-core seconds, bytes read from disk, hours of the slowest of the three, which
    of them that is, and bytes stored.

    cached: patch embeddings are kept and read in every epoch; otherwise the encoder runs in every epoch.
    """
    seen = work.train * work.epochs
    rows = {"pseudo-labels": (work.train * cost.clip_es, work.train * cost.decode, 0, work.train * cost.map_bytes)}
    if cached:
        kept = work.train * work.views * cost.token_bytes
        rows["cache of patch embeddings"] = (work.train * work.views * cost.encoder, work.train * cost.decode, 0, kept)
        rows["training"] = (seen * 3 * cost.head, 0, seen * cost.token_bytes, 0)
    else:
        rows["training, encoder in every epoch"] = (seen * (cost.encoder + 3 * cost.head), seen * cost.decode, 0, 0)
    rows["evaluation"] = (work.test * (cost.encoder + cost.head), work.test * (cost.decode + cost.score), 0, 0)
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["FLOPs", "core seconds", "read", "stored"])
    machines = -(-machine.gpus // 8)
    hours = (
        pd.DataFrame(
            {
                "GPU": frame["FLOPs"] / machine.flops,
                "CPU cores": frame["core seconds"] / (machine.cores * machine.gpus),
                "disk": frame["read"] / (machine.disk * machines),
            }
        )
        / 3600
    )
    frame = frame.assign(hours=hours.max(axis=1), limit=hours.idxmax(axis=1))
    return frame.assign(**{"GPU hours": hours["GPU"] * machine.gpus})


def by_gpus(work: Work, cost: ImageCost, machines: Sequence[Machine]) -> pd.DataFrame:
    """One row a stage and one for "all": hours on each machine, GPU hours, gigabytes stored (NaN for none), and what
    limits a stage on eight GPUs (NaN for all). The machines differ in their GPUs alone."""
    found = {machine.gpus: stages(work, cost, machine) for machine in machines}
    one = next(iter(found.values()))
    hours = {f"hours, {gpus} GPU{'s' * (gpus > 1)}": frame["hours"] for gpus, frame in found.items()}
    frame = pd.DataFrame(hours | {"GPU hours": one["GPU hours"], "stored (GB)": one["stored"] / 1e9})
    frame.loc["all"] = frame.sum()
    limits = stages(work, cost, replace(machines[0], gpus=8))["limit"]
    frame["stored (GB)"] = frame["stored (GB)"].where(frame["stored (GB)"] > 0)
    return frame.assign(**{"limit on 8 GPUs": limits.reindex(frame.index)})


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
