"""What CLIP-ES costs beside a plain forward pass.

    python benchmarks/clip_es.py                    # ViT-B/16, 224 pixels, random weights, CPU

Prints milliseconds an image for the plain image tower (open_clip's own forward pass, no gradient), for
CLIP-ES without and with class-aware affinity, and their ratios to the plain pass; the aim is at most 1.3.
The settings are the published ones: a class against 25 background words, affinity over the last 8 of 12
blocks (--siblings puts all classes into the softmax, as the aviary's profile does). Weights do not matter
for the time. On a CPU it is processor time, summed over threads, so that other work on the machine does not
count; on a GPU it is the clock's. Rounds are interleaved and the median is taken.
"""

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import tyro
from tqdm import tqdm

from tedloc.backbones.clip import load_clip
from tedloc.errors import command
from tedloc.methods.clip_es import clip_es
from tedloc.settings import ClipESSettings


@dataclass(frozen=True)
class Settings:
    model: str = "ViT-B-16/random"
    size: int = 224  # pixels
    batch: int = 8
    classes: int = 200  # in the text
    siblings: bool = False  # all of them enter the softmax
    background: int = 25  # as many words as CLIP-ES has for VOC
    rounds: int = 7
    threads: int = 1
    device: str = "cpu"
    precision: str = "auto"  # of the image tower: float32, bf16, or auto, which is bf16 on a GPU


loaded = functools.cache(load_clip)  # for measurements in several precisions


def milliseconds(run: Callable[[], object], settings: Settings) -> float:
    """Time of one call, an image."""
    clock = time.process_time if settings.device == "cpu" else time.perf_counter
    start = clock()
    run()
    if settings.device.startswith("cuda"):
        torch.cuda.synchronize()
    return 1000 * (clock() - start) / settings.batch


def measure(settings: Settings) -> dict[str, float]:
    """Median milliseconds an image of the plain pass and of CLIP-ES with and without affinity."""
    torch.set_num_threads(settings.threads)
    clip = replace(loaded(settings.model, settings.device), precision=settings.precision)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(settings.batch, 3, settings.size, settings.size, generator=generator).to(clip.device)
    words = torch.randn(settings.classes + settings.background, clip.tower.proj.shape[1], generator=generator)
    words = torch.nn.functional.normalize(words, dim=1).to(clip.device)
    text, background = words[: settings.classes], words[settings.classes :]
    targets = torch.arange(settings.batch, device=clip.device) % settings.classes
    full = ClipESSettings(siblings=settings.siblings)

    @torch.no_grad()
    def plain():
        with clip.autocast():
            clip.model.encode_image(images)

    def es(options):
        return lambda: clip_es(clip, images, targets, text, background, options)

    runs = {
        "plain forward pass": plain,
        "CLIP-ES without affinity": es(replace(full, affinity=False)),
        "CLIP-ES": es(full),
    }
    times = {name: [] for name in runs}
    for run in runs.values():
        run()  # warm up
    for _ in tqdm(range(settings.rounds), desc="rounds"):
        for name, run in runs.items():
            times[name].append(milliseconds(run, settings))
    return {name: statistics.median(values) for name, values in times.items()}


@command
def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    times = measure(settings)
    plain = times["plain forward pass"]
    print(f"{settings.model}, {settings.size} pixels, batch {settings.batch}, {settings.threads} thread(s)")
    for name, value in times.items():
        print(f"{name:26s}{value:9.1f} ms an image   {value / plain:.2f} x plain")


if __name__ == "__main__":
    main()
