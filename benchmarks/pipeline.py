"""How well reading keeps up: each part of the work from files on disk against the slower of its two halves alone.

    python benchmarks/pipeline.py                                     # five minutes on two quiet cores
    python benchmarks/pipeline.py --json tedloc/results/pipeline.json

JPEGs of 500 x 375 pixels are generated. Then, in images a second,

    features   photos -> encoder -> the store on disk          against reading, encoder and writing alone
    CLIP-ES    photos -> CLIP-ES -> the store on disk          against reading alone, and CLIP-ES alone
    TS-CAM     training steps from photos                      against reading alone, and steps from memory
    cache      TeD-Loc's training steps from the cache         against the same steps from memory

Alone means: reading with the same processes and nothing done with the photos; the network on squares that are in memory
already. A ratio of 1 says that the slower half is never kept waiting. All are measured in turn, round by round, and a
round's ratio is of its own measurements, so that what else the machine does falls on all alike; still it should do
nothing else, since these are times of the clock. Starting is left out: a rate begins with the first batch (or epoch).
The cache was written just before, so the system has it in memory; a cold disk is not tried here.
Networks are small or have random weights; how good they are does not matter here.
"""

import contextlib
import datetime
import functools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from tedloc import paths, profiles
from tedloc.backbones import encoders
from tedloc.data import open_data, processes
from tedloc.data.loading import Photos
from tedloc.errors import command
from tedloc.methods import Method, create, pseudo_labels
from tedloc.settings import Profile, override
from tedloc.training import devices, features, store
from tedloc.training.quantised import Quantiser

PHOTO = (500, 375)  # width and height of most of ILSVRC's photos
CLASSES = 4


@dataclass(frozen=True)
class Settings:
    photos: int = 400  # to train on
    rounds: int = 5
    workers: int | None = None  # processes that read; None: as many as the package would take, one at least
    threads: int = 1  # of the network
    encoder: str = "efficientnet-lite0"
    image_size: int = 224  # pixels, of the encoder
    batch: int = 25
    cache_type: str = "float16"  # of the cache that is trained from
    device: str = "cpu"
    json: Path | None = None  # where the result is kept


def draw(folder: Path, count: int) -> None:
    """``count`` photos: noise, enlarged, so that they decode as photos do."""
    rng = np.random.default_rng(0)
    for n in range(count):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        place = folder / f"class {n % CLASSES}"
        place.mkdir(exist_ok=True, parents=True)
        small.resize(PHOTO, Image.Resampling.BICUBIC).save(place / f"{n:05d}.jpg", quality=90)


class Clock:
    """Images a second between the first and the last batch that passes."""

    def __init__(self) -> None:
        self.stamps: list[tuple[float, int]] = []

    def passing(self, batches: Iterable) -> Iterator:
        for batch in batches:
            self.stamps.append((time.perf_counter(), len(batch)))
            yield batch
        self.end = time.perf_counter()

    def rate(self) -> float:
        return sum(count for _, count in self.stamps[1:]) / (self.end - self.stamps[0][0])


def rate(batches: Iterable) -> float:
    clock = Clock()
    for _ in clock.passing(batches):
        pass
    return clock.rate()


class Part:
    """What is measured of some work on photos: its rate from files, and that of each half alone."""

    def __init__(self, settings: Settings, profile: Profile, square: Callable[[np.ndarray], Tensor]):
        self.images = open_data(profile.data, "train")
        self.photos = Photos(self.images, square, settings.device, profile.data.workers)
        self.batches = np.array_split(np.arange(len(self.images)), -(-len(self.images) // settings.batch))
        self.photos.ahead(self.batches)
        self.squares = torch.cat([self.photos(index) for index in self.batches])  # on the device

    def reading(self) -> float:
        self.photos.ahead(self.batches)
        return rate(self.photos(index) for index in self.batches)

    def in_memory(self, index: np.ndarray) -> Tensor:
        return self.squares[torch.from_numpy(index).to(self.squares.device)]


def stored(part: Part, rows: store.Rows) -> float:
    """Images a second through a network into a store on disk."""
    clock = Clock()
    with tempfile.TemporaryDirectory(dir=paths.cache()) as folder:

        def timed(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            clock.stamps.clear()  # of the one image that told the shape
            return clock.passing(rows(batches))

        with contextlib.redirect_stderr(open(os.devnull, "w")):
            size = len(part.batches[0])
            store.stored_maps(Path(folder) / "maps", part.images.ids, lambda: timed, what="", settings={}, chunk=size)
    return clock.rate()


def of_features(settings: Settings, profile: Profile) -> dict[str, Callable[[], float]]:
    encoder = encoders.load(profile.encoder, settings.device)
    part = Part(settings, profile, encoder.preprocessing.square)
    views, codes = 1 + profile.encoder.mirror, None
    if profile.encoder.cache_type == "int8":
        codes = Quantiser(torch.full((encoder.dim,), -4.0), torch.full((encoder.dim,), 8 / 255))

    def rows(photos: Photos) -> store.Rows:
        return features.rows_of(
            functools.partial(features.embedded, photos=photos, encoder=encoder, views=views), codes
        )

    made = next(rows(Held(part))(part.batches[:1]))
    return {
        "from files": lambda: stored(part, rows(part.photos)),
        "reading alone": part.reading,
        "network alone": lambda: rate(rows(Held(part))(part.batches)),
        "writing alone": lambda: stored(part, lambda batches: (made[: len(index)] for index in batches)),
    }


class Held(Photos):
    """Photos that are in memory already, as squares."""

    def __init__(self, part: Part):
        self.part, self.device = part, part.photos.device

    def ahead(self, batches: Iterable[np.ndarray]) -> None:
        """Nothing is read."""

    def __call__(self, index: np.ndarray) -> Tensor:
        return self.part.in_memory(index)


def from_memory(method: Method, part: Part) -> Method:
    """The method with the training photos' squares in memory."""
    method._photos["train"] = Held(part)
    return method


def of_clip_es(settings: Settings, profile: Profile) -> dict[str, Callable[[], float]]:
    disk, memory = (create("clip-es", profile, device=settings.device) for _ in range(2))
    part = Part(settings, profile, disk.preprocessing().square)
    from_memory(memory, part)
    return {
        "from files": lambda: stored(part, pseudo_labels.rows_of(disk, "train")),
        "reading alone": part.reading,
        "network alone": lambda: rate(pseudo_labels.rows_of(memory, "train")(part.batches)),
    }


def epochs(method: Method) -> float:
    """Images a second of the training's second half: the engine's own log."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(open(os.devnull, "w")):
        method.fit(Path(folder))
        lines = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    return lines[-1]["images_per_second"]


def of_ts_cam(settings: Settings, profile: Profile) -> dict[str, Callable[[], float]]:
    disk, memory = (create("ts-cam", profile, device=settings.device) for _ in range(2))
    disk.net = disk.model()
    part = Part(settings, profile, disk.preprocessing().square)
    return {
        "from files": lambda: epochs(disk),
        "reading alone": part.reading,
        "network alone": lambda: epochs(from_memory(memory, part)),
    }


class InMemory(features.Features):
    """Patch embeddings that need not be read ahead."""

    def ahead(self, batches: Iterable[np.ndarray], device: str = "cpu") -> None:
        """Nothing is read."""


def of_cache(settings: Settings, profile: Profile) -> dict[str, Callable[[], float]]:
    disk, memory = (create("tedloc", profile, device=settings.device) for _ in range(2))
    kept = disk.stored("train")
    memory._stored["train"] = InMemory(np.array(kept.tokens), kept.folder, codes=kept.codes)
    return {"from the cache": lambda: epochs(disk), "from memory": lambda: epochs(memory)}


def profile_of(settings: Settings, root: Path) -> Profile:
    """The photos below a folder, read and trained on as the settings say."""
    base = override(
        profiles.get("photos"),
        {
            "data.root": str(root),
            "data.splits": "80/10/10",
            "encoder.name": settings.encoder,
            "encoder.weights": "random",
            "encoder.image_size": settings.image_size,
            "encoder.cache_type": settings.cache_type,
            "anchors.text": "aviary/clip",
            "pseudo_labels.teacher": "centre-prior",
            "pseudo_labels.clip": "aviary/clip",
            "pseudo_labels.clip_es.affinity_blocks": 2,
            "optimiser.steps": None,
            "optimiser.epochs": 2,
            "optimiser.batch_size": settings.batch,
        },
    )
    workers = settings.workers
    if workers is None:
        workers = max(1, processes.readers(open_data(base.data, "train"), None, settings.device))
    return override(base, {"data.workers": workers})


def measure(settings: Settings, profile: Profile) -> dict[str, dict[str, list[float]]]:
    """Images a second of every part in every round."""
    steps = {"backbone": "aviary/vit", "optimiser.epochs": 2, "optimiser.batch_size": settings.batch}
    parts = {
        "features": of_features(settings, profile),
        "CLIP-ES": of_clip_es(settings, profile),
        "TS-CAM": of_ts_cam(settings, override(profile, {f"methods.ts-cam.{name}": v for name, v in steps.items()})),
        "cache": of_cache(settings, profile),
    }
    found = {name: {what: [] for what in each} for name, each in parts.items()}
    for _ in tqdm(range(settings.rounds), desc="rounds"):
        for name, each in parts.items():
            for what, work in each.items():
                found[name][what].append(work())
    return found


def ratios(rates: dict[str, list[float]]) -> list[float]:
    """By round: the first rate over the smallest of the others."""
    whole, *halves = rates.values()
    return [each / min(others) for each, *others in zip(whole, *halves, strict=True)]


@command
def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    devices.checked(settings.device)
    paths.writable_file(settings.json, "--json")
    torch.set_num_threads(settings.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TEDLOC_CACHE"] = f"{folder}/cache"
        (Path(folder) / "cache").mkdir()
        draw(Path(folder) / "photos", round(settings.photos / 0.8))
        profile = profile_of(settings, Path(folder) / "photos")
        found = measure(settings, profile)
    workers = profile.data.workers
    print(f"{settings.photos} photos, {workers} reading, {settings.threads} thread(s), {settings.rounds} rounds")
    for name, rates in found.items():
        each = ratios(rates)
        said = ", ".join(f"{what} {statistics.median(values):.1f}" for what, values in rates.items())
        print(f"{name:9} ratio {statistics.median(each):.2f} (best {max(each):.2f}); images a second: {said}")
    if settings.json:
        result = {
            "ratios": {name: round(statistics.median(ratios(rates)), 3) for name, rates in found.items()},
            "best": {name: round(max(ratios(rates)), 3) for name, rates in found.items()},
            "images a second": {
                name: {what: [round(value, 2) for value in values] for what, values in rates.items()}
                for name, rates in found.items()
            },
            "settings": {
                "photos": settings.photos,
                "rounds": settings.rounds,
                "workers": workers,
                "threads": settings.threads,
                "encoder": settings.encoder,
                "image size": settings.image_size,
                "batch": settings.batch,
                "cache": settings.cache_type,
                "device": devices.name(settings.device),
            },
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "torch": torch.__version__,
            "date": datetime.date.today().isoformat(),
        }
        with paths.replacing(settings.json) as scratch:
            scratch.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
