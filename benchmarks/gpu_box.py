"""What a GPU shows in six minutes: tests that only it can pass, the paper's latencies, throughput, an epoch, memory.

    python -m benchmarks.gpu_box --json tedloc/results/gpu-box.json      # from the checkout; the book shows the result
    python -m benchmarks.gpu_box --small --device cpu --json box.json    # tiny networks, few passes: that it runs
    python -m benchmarks.gpu_box --json box.json --only encoder epochs   # some parts

Nothing has to be installed but what a part imports: on a machine with its own PyTorch, set PYTHONPATH to the checkout
(and to the folder of the wheels that it lacks; a part that lacks something is skipped with a sentence that names it).
Each part is a process with a share of the six minutes. What it has found is kept as it goes, also when its time is up
or this program is killed; called again with the same file on the same machine, it goes on with what is not done.

Weights are random and photos generated: neither changes how long something takes.
"""

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from tedloc import paths
from tedloc.errors import UserError, command, installation
from tedloc.training import devices

ROOT = Path(__file__).resolve().parent.parent
ENDING = "how it ended"
PRECISIONS = ("float32", "bf16")
PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch", "diffusers", "numpy")
ENCODER = "timm/eva_large_patch14_196"
SIZE, CLASSES = (500, 375), 1000  # pixels of most photos of ILSVRC, and its classes


@dataclass
class Box:
    """Where a part works and what it has found. file: where that is kept as it grows; seconds: its share of time"""

    device: str
    small: bool
    seconds: float
    file: Path

    def __post_init__(self):
        self.found: dict[str, Any] = {}

    def keep(self, **found: Any) -> None:
        self.found |= found
        with paths.replacing(self.file) as scratch:
            scratch.write_text(json.dumps(self.found))

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    def peak(self) -> float | None:
        """Most gigabytes that tensors held since the last call; None on a CPU."""
        if not self.on_gpu:
            return None
        most = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.reset_peak_memory_stats()
        return round(most, 3)

    def rate(self, work: Callable[[], Any], images: int, seconds: float) -> float:
        """Images a second of ``work``, which does so many, again and again for so long; once before, to warm up."""
        work()
        self.wait()
        done, start = 0, time.perf_counter()
        while done == 0 or time.perf_counter() - start < seconds:
            work()
            self.wait()
            done += images
        return round(done / (time.perf_counter() - start), 3)

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()


# The parts


def tests(box: Box) -> None:
    """``pytest -m cuda``, outcome by outcome; where xdist is installed, several at a time."""
    words = [sys.executable, "-m", "pytest", "-m", "cuda", "tests/cuda", "-v", "--tb=short", "-o", "addopts="]
    words += ["-p", "no:cacheprovider", *(["-k", "bf16"] if box.small else [])]
    if not box.small and importlib.util.find_spec("xdist"):
        words += ["-n", str(min(8, max(1, os.cpu_count() // 2))), "--dist", "worksteal"]
    counts, failed = dict.fromkeys(("passed", "failed", "error", "skipped"), 0), []
    environment = os.environ | {"TEDLOC_TEST_GPU": box.device, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as running:
        try:
            for line in running.stdout:
                print(line, end="", flush=True)
                outcome = re.search(r"\b(PASSED|FAILED|ERROR|SKIPPED)\b", line)
                name = re.search(r"tests/\S+::[^ \[]+(\[.*?\])?(?= |$)", line)
                if outcome and name and "::" in line and not line.startswith(("FAILED", "ERROR", "SKIPPED")):
                    counts[outcome[0].lower()] += 1
                    failed += [name[0]] if outcome[0] in ("FAILED", "ERROR") else []
                    box.keep(**counts, **{"names of failed": failed})
        finally:
            running.kill()
    if not sum(counts.values()):
        raise RuntimeError("pytest ran no test; what it printed stands above")


def latency(system: str, most: float) -> Callable[[Box], None]:
    """The paper's protocol (section 4.3): batch 1, 20 passes to warm up, 1,000 timed, part by part, each for so many
    seconds at most."""

    def part(box: Box) -> None:
        from tedloc.cost import complexity, full_size

        tiny = full_size.TeDLocShape(encoder="eva02_tiny_patch14_224")
        make = {
            "TeD-Loc": lambda: full_size.tedloc(*([tiny] if box.small else [])),
            "TS-CAM": full_size.ts_cam,
            "GenPromp": full_size.genpromp,
        }[system]
        with torch.device("meta"):
            steps = make()
        passes = {"warmup": 0, "passes": 1} if box.small else {}
        for precision in PRECISIONS:
            box.peak()
            settings = complexity.LatencySettings(seconds=most, precision=precision, **passes)
            timed = complexity.latencies(steps, box.device, settings)
            each = {name: [t.low, t.median, t.high, t.passes, t.warmup] for name, t in timed.items()}
            one = {"an image (ms)": complexity.image_time(steps, timed), "peak memory (GB)": box.peak()}
            box.keep(**{precision: one | {"parts: quartiles (ms), passes, warm-up": each}})

    return part


def encoder(box: Box) -> None:
    """EVA-L's plain forward passes on a batch in memory; the package's way from photos to patch embeddings, and each
    of its parts alone."""
    from benchmarks import pipeline
    from tedloc.backbones.encoders import load_encoder

    settings, batch = profile(box, Path()).encoder, 4 if box.small else 64
    plain = {}
    for precision in PRECISIONS:
        size = {"image_size": settings.image_size, "weights": "random", "precision": precision}
        with drawn_there(box):
            net = load_encoder(settings.name, device=box.device, **size)
        x = torch.randn(batch, 3, net.image_size, net.image_size, device=box.device)
        with torch.inference_mode():
            plain[precision] = box.rate(functools.partial(net, x), batch, 0 if box.small else 3)
        box.keep(**{"plain (images/s)": plain, "batch": batch, f"{precision}, peak memory (GB)": box.peak()})
    del net
    with photos(box, 60 if box.small else 6000) as folder, drawn_there(box):
        (folder / "cache").mkdir()
        chosen = profile(box, folder)
        measure = pipeline.of_features(pipeline.Settings(device=box.device, batch=4 if box.small else 50), chosen)
        found = {}
        for what, work in measure.items():
            found[what] = round(work(), 3)
            box.keep(**{"photos a second, both views": found})
    box.keep(**{"features, peak memory (GB)": box.peak()})


def clip_es(box: Box) -> None:
    """CLIP-ES on ViT-B/16 against the plain pass of its image tower, as ``benchmarks/clip_es.py`` measures it."""
    from benchmarks import clip_es as ratio
    from tedloc.backbones.towers import IMAGE_SIZE

    plain, full = {}, {}
    for precision in PRECISIONS:
        few = {"batch": 32, "rounds": 10, "threads": os.cpu_count()}
        if box.small:
            few = {"model": "aviary/clip", "size": IMAGE_SIZE, "batch": 2, "rounds": 1}
        times = ratio.measure(ratio.Settings(device=box.device, precision=precision, **few))
        plain[precision] = round(1000 / times["plain forward pass"], 3)
        full[precision] = round(1000 / times["CLIP-ES"], 3)
        box.keep(**{"plain (images/s)": plain, "CLIP-ES (images/s)": full, "peak memory (GB)": box.peak()})


def epochs(box: Box) -> None:
    """A training epoch from the cache, filled first, and one that embeds every batch anew: 20,000 photos."""
    from benchmarks.feature_cache import FullSize
    from tedloc.anchors import orthogonalise

    count = 60 if box.small else 20_000
    with photos(box, count) as folder, drawn_there(box):
        for cached in (True, False):
            name = "cached" if cached else "uncached"
            method = FullSize(profile(box, folder, cached), device=box.device)
            random = torch.Generator().manual_seed(0)
            method.anchors = orthogonalise(torch.randn(method.classes, 512, generator=random), "qr_rows")
            box.keep(photos=count, **{"photos of an epoch": len(method.images("train"))})
            start = time.perf_counter()
            method.share()
            if cached:
                box.keep(**{"filling the cache (s)": round(time.perf_counter() - start, 3)})
                box.keep(**{"filling the cache, peak memory (GB)": box.peak()})  # and forgotten
            (folder / name).mkdir()
            try:
                method.fit(folder / name)
            finally:  # if time is up: as far as it came
                if line := last_line(folder / name / "log.jsonl") or last_line(folder / name / "progress.jsonl"):
                    speed = {f"{name} epoch (images/s)": round(line["images_per_second"], 3)}
                    whole = "batch" not in line
                    box.keep(**speed, **{f"{name} epoch (s)": round(line["seconds"], 3) if whole else None})
                    box.keep(**{f"{name} epoch, peak memory (GB)": box.peak()})


def last_line(log: Path) -> dict[str, Any] | None:
    return json.loads(log.read_text().splitlines()[-1]) if log.exists() else None


def profile(box: Box, folder: Path, cached: bool = True):
    """ILSVRC's profile on generated photos, with random weights; small: with a small transformer."""
    from tedloc import profiles

    changes = {
        "data.name": "folder",
        "data.root": str(folder / "photos"),
        "data.splits": "80/10/10" if box.small else "98/1/1",
        "encoder.name": "timm/vit_tiny_patch16_224" if box.small else ENCODER,
        "encoder.weights": "random",
        "encoder.cache": cached,
        "pseudo_labels.teacher": "centre-prior",
        "optimiser.epochs": 1,
        "optimiser.checkpoint_minutes": 0.1,
    }
    if box.small:
        changes |= {"encoder.image_size": 32, "decoder.width": 8, "optimiser.batch_size": 8}
    return profiles.get("ilsvrc", changes)


@contextlib.contextmanager
def drawn_there(box: Box):
    """Inside, an encoder's random weights are drawn by the device: EVA-L's take a CPU ten seconds."""
    from tedloc.backbones import encoders

    def create(*words: Any) -> torch.nn.Module:
        with torch.device(box.device):
            return timm_model(*words)

    timm_model = encoders.timm_model
    with mock.patch.object(encoders, "timm_model", create):
        yield


@contextlib.contextmanager
def photos(box: Box, count: int):
    """A folder with ``photos/``, generated JPEG files in class folders; cache and runs go there, too."""
    import cv2

    classes = 3 if box.small else min(CLASSES, count // 50)
    rng, encoded = np.random.default_rng(0), []
    for _ in range(min(count, 200)):  # the rest are copies: files of their own, decoded each
        noise = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        encoded.append(cv2.imencode(".jpg", cv2.resize(noise, SIZE, interpolation=cv2.INTER_CUBIC))[1].tobytes())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"TEDLOC_CACHE": str(folder / "cache"), "TEDLOC_RUNS": str(folder / "runs")}
        for index in range(count):
            file = folder / "photos" / f"class {index % classes:04d}" / f"{index}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded[index % len(encoded)])
        yield folder


PARTS: dict[str, tuple[float, Callable[[Box], None]]] = {  # name: share in seconds, work; six minutes together
    "latency of TeD-Loc": (25, latency("TeD-Loc", 5)),
    "latency of TS-CAM": (17, latency("TS-CAM", 4)),
    "latency of GenPromp": (53, latency("GenPromp", 3)),
    "encoder": (55, encoder),
    "clip-es": (20, clip_es),
    "epochs": (100, epochs),
    "tests": (90, tests),
}


# The program


class TimeIsUp(BaseException):
    """Raised in a part when its share is spent."""


def work_on(name: str, box: Box) -> None:
    """In a part's own process: do it, and say in ``file`` how it ended."""

    def stop(*_):
        raise TimeIsUp

    signal.signal(signal.SIGTERM, stop)
    start, ending = time.monotonic(), {"state": "done"}
    try:
        PARTS[name][1](box)
    except TimeIsUp:
        ending = {"state": "stopped", "why": f"its share of {box.seconds:.0f} s was spent"}
    except UserError as error:
        ending = {"state": "skipped", "why": str(error)}
    except ImportError as error:
        ending = {"state": "skipped", "why": installation.sentence_for(f"the part {name!r}", error) or str(error)}
    except Exception as error:
        traceback.print_exc()
        ending = {"state": "failed", "why": f"{type(error).__name__}: {error}".strip().splitlines()[0]}
    box.keep(**{ENDING: ending | {"seconds": round(time.monotonic() - start, 1)}})


def run_part(name: str, device: str, small: bool, file: Path) -> dict[str, Any]:
    """A part in a process of its own, ended when its share is spent; what it found, and how it ended. file: for it to
    keep what it finds"""
    seconds = PARTS[name][0]
    words = [sys.executable, "-m", "benchmarks.gpu_box", "--part", name, "--json", file, "--device", device]
    process = subprocess.Popen([*words, *(["--small"] if small else [])], cwd=ROOT)
    try:
        process.wait(None if small else seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
    finally:
        process.kill()
    return taken(file, f"its process ended by itself, exit code {process.wait()}")


def taken(file: Path, why: str) -> dict[str, Any]:
    """What a part kept, and how it ended; why: where it could not say"""
    found = json.loads(file.read_text()) if file.exists() else {}
    file.unlink(missing_ok=True)
    how = found.pop(ENDING, {"state": "stopped" if found else "failed", "why": why})
    return how | ({"found": found} if found else {})


def said(*words: str) -> str | None:
    """What a program prints; None where it is not there or fails."""
    try:
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def conditions(device: str, small: bool) -> dict[str, Any]:
    """What a result depends on beside the code: results under others are not mixed. (A part says its commit.)"""
    from importlib.metadata import PackageNotFoundError, version

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    gpu = device != "cpu"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else "cpu",
        "memory (GB)": round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1) if gpu else None,
        "driver": said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if gpu else None,
        "CUDA": torch.version.cuda,
        "TF32": [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32],  # products, convolutions
        "cores": os.cpu_count(),
        "versions": {package: installed(package) for package in PACKAGES} | {"python": sys.version.split()[0]},
        "small": small,
    }


@command
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_box", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, help="where the result is kept, and gone on with")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1; cpu with --small (default: %(default)s)")
    parser.add_argument("--small", action="store_true", help="tiny networks and few passes: shows that it runs")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        return work_on(given.part, Box(given.device, given.small, PARTS[given.part][0], given.json))
    paths.writable_file(given.json, "--json")
    if devices.checked(given.device) == "cpu" and not given.small:
        raise UserError("--device cpu would take hours; give --small with it, or a GPU")
    file = given.json.absolute()
    about = conditions(given.device, given.small)
    result = {"small": given.small, "date": date.today().isoformat(), "conditions": about, "parts": {}}
    if file.exists():
        kept = json.loads(file.read_text())
        if kept.get("conditions") != about:
            raise UserError(f"{file} holds a result of another machine or version; name another file, or remove it")
        result["parts"] = kept["parts"]

    def keep() -> None:
        with paths.replacing(file) as scratch:
            scratch.write_text(json.dumps(result, indent=1) + "\n")

    growing = {name: file.with_name(f".{file.stem}-{name.replace(' ', '-')}.json") for name in PARTS}
    for name in (name for name, part in growing.items() if part.exists()):  # this program was killed in it
        result["parts"][name] = taken(growing[name], "the program was ended")
        keep()
    for name in given.only or PARTS:
        if result["parts"].get(name, {}).get("state") == "done":
            print(f"{name}: kept", flush=True)
            continue
        print(f"{name}: {PARTS[name][0]:.0f} s at most", flush=True)
        how = result["parts"][name] = run_part(name, given.device, given.small, growing[name])
        how["commit"] = said("git", "rev-parse", "--short=12", "HEAD")
        keep()
        print(f"{name}: {how['state']}, {how['why'] if 'why' in how else str(how['seconds']) + ' s'}", flush=True)


if __name__ == "__main__":
    main()
