"""What the feature cache is worth: images a second of a training epoch with it and without.

    python benchmarks/feature_cache.py                            # EVA-L, decoder of the cub profile
    python benchmarks/feature_cache.py --width 64 --upsampling 2  # the small profiles' decoder

The encoder has random weights, the images are rendered, everything else is a training step as it is run: read
the embeddings (or prepare the images and pass them through EVA-L), TeD-Loc's decoder and loss, gradients,
SGD. What the cache saves is the encoder; what remains is the decoder, so the ratio depends on its size. Photos
in files would cost the run without cache a few milliseconds more each. On a CPU it is processor time, summed
over threads, so that other work on the machine does not count; on a GPU it is the clock's.
"""

import os
import tempfile
import time
from dataclasses import dataclass

import numpy as np
import torch
import tyro

from tedloc import profiles
from tedloc.data import open_data
from tedloc.errors import command
from tedloc.methods import Shape
from tedloc.methods.tedloc import TeDLocMethod
from tedloc.methods.trained import Batch
from tedloc.model import TeDLoc
from tedloc.settings import override
from tedloc.training import engine
from tedloc.training.distributed import Draws
from tedloc.training.store import size_text


@dataclass(frozen=True)
class Settings:
    encoder: str = "timm/eva_large_patch14_196"
    image_size: int = 224  # pixels
    width: int = 192  # of the decoder; profile cub
    upsampling: int = 4  # profile cub
    classes: int = 200  # CUB's
    batch: int = 16  # the paper's, for CUB
    steps: int = 1  # without cache; with it five times as many
    threads: int = 1
    device: str = "cpu"


class FullSize(TeDLocMethod):
    """TeD-Loc on rendered images with as many anchors as the data set it stands for has classes."""

    anchors: torch.Tensor

    def network(self, shape: Shape) -> TeDLoc:
        return TeDLoc(shape.dim, self.anchors, self.profile.decoder)


def method(settings: Settings, cache: bool) -> FullSize:
    profile = override(
        profiles.get("aviary"),
        {
            "data.per_class": -(-settings.batch // 20),
            "encoder.name": settings.encoder,
            "encoder.weights": "random",
            "encoder.image_size": settings.image_size,
            "encoder.mirror": False,
            "encoder.cache": cache,
            "decoder.width": settings.width,
            "decoder.upsampling": settings.upsampling,
            "pseudo_labels.teacher": "centre-prior",
        },
    )
    made = FullSize(profile, device=settings.device)
    made.anchors = torch.eye(settings.classes)  # qr_rows: orthonormal, min(K, d) wide
    return made


def images_a_second(settings: Settings, cache: bool) -> float:
    """Of training steps, after one for warming up."""
    made = method(settings, cache)
    made.prepare()
    net = made.model().to(settings.device).train()
    optimiser = engine.make_optimiser(net, made.optimiser)
    labels = torch.from_numpy(open_data(made.profile.data, "train").labels).to(settings.device)
    index = np.arange(settings.batch)
    draws = Draws(engine.generator_for(0, 0, settings.device), settings.batch)

    def step() -> None:
        x = net[0](made.input("train", index))
        mirrored = torch.zeros(len(index), dtype=torch.bool, device=x.device)
        loss, _ = made.loss(net[1], Batch(x, labels[index], index, mirrored, draws))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    step()
    steps = settings.steps * (5 if cache else 1)
    clock = time.process_time if settings.device == "cpu" else time.perf_counter
    if settings.device != "cpu":
        torch.cuda.synchronize()
    started = clock()
    for _ in range(steps):
        step()
    if settings.device != "cpu":
        torch.cuda.synchronize()
    return steps * settings.batch / (clock() - started)


@command
def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    torch.set_num_threads(settings.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TEDLOC_CACHE"] = folder
        kept, anew = images_a_second(settings, cache=True), images_a_second(settings, cache=False)
        image = int(np.prod(method(settings, cache=True).stored("train").tokens.shape[2:])) * 2
    print(
        f"{settings.encoder}, {settings.image_size} pixels, decoder {settings.width} wide, upsampling "
        f"{settings.upsampling}, batch {settings.batch}, {settings.threads} thread(s)"
    )
    print(f"without cache {anew:8.2f} images a second")
    print(f"with cache    {kept:8.2f} images a second   {kept / anew:.1f} times, for {size_text(image)} a view")


if __name__ == "__main__":
    main()
