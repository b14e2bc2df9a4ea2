"""What was measured elsewhere and is kept with the package, for chapters and README to show beside what is counted.

``tedloc/results/gpu-box.json``   on a GPU, by ``python -m benchmarks.gpu_box --json tedloc/results/gpu-box.json``
``tedloc/results/pipeline.json``  how well reading photos keeps up, by ``python -m benchmarks.pipeline --json ...``
``tedloc/results/cores.json``     what an image costs a CPU core, by ``python -m benchmarks.cores --json ...``

A file that is not there was not measured, and whoever shows its values says so.
"""

import json
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tedloc import paths
from tedloc.metrics.meter import LocalizationMeter

NOT_MEASURED = "not measured"
GPU_BOX, PIPELINE, CORES = "gpu-box", "pipeline", "cores"
FILES = {name: paths.PACKAGE / "results" / f"{name}.json" for name in (GPU_BOX, PIPELINE, CORES)}


def kept(name: str) -> dict[str, Any] | None:
    """A stored result, None where there is none."""
    file = FILES[name]
    return json.loads(file.read_text()) if file.exists() else None


def on_gpu(part: str) -> dict[str, Any] | None:
    """What a part of the GPU box found, its name and date among it; None where it was not measured, or in small."""
    box = kept(GPU_BOX)
    if box is None or box["small"] or "found" not in box["parts"].get(part, {}):
        return None
    return box["parts"][part]["found"]


def gpu() -> str:
    """The GPU that was measured on, its driver and the day, in words; or that there was none."""
    box = kept(GPU_BOX)
    if box is None or box["small"]:
        return f"{NOT_MEASURED}: no result of a GPU is stored with this version"
    where = box["conditions"]
    return (
        f"measured on {where['device']}, driver {where['driver']}, PyTorch {where['versions']['torch']}, {box['date']}"
    )


def latency(system: str, precision: str) -> float | None:
    """Milliseconds of one image through a system on the GPU that was measured on; None where it was not measured."""
    found = on_gpu(f"latency of {system}") or {}
    return found.get(precision, {}).get("an image (ms)")


def of_a_core(repeat: int = 20, step: float = 0.001) -> dict[str, float]:
    """Seconds of a core of this machine, measured now: to "decode" a photo of 500x375 pixels and make it square, and to
    "score" a map. Medians over ``repeat`` passes, in processor time."""
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

    def median(work: Callable[[], None]) -> float:
        work()
        seconds = []
        for _ in range(repeat):
            start = time.process_time()
            work()
            seconds.append(time.process_time() - start)
        return float(np.median(seconds))

    return {"decode": median(decode), "score": median(score)}
