"""Does the aviary's frozen encoder behave as the encoders that it stands in for? Measured, and kept with the package.

    python -m tedloc.book.stand_in --worlds 0          # choices are made here, on validation
    python -m tedloc.book.stand_in --worlds 1 2 3      # other worlds, on test

``CRITERIA`` say what "behaves" means; they were written down before any test image was looked at. For world 0 the same
methods are run at every block of the encoder and of the ViT that took its place in the first edition. Results go to
``tedloc/results/evidence/stand-in.json``, world by world; the chapter on the stand-in encoder reads them.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc import paths, profiles, runs
from tedloc.book import evidence
from tedloc.data import ImageSet, open_data
from tedloc.errors import command
from tedloc.methods.trained import Trained
from tedloc.metrics import baselines
from tedloc.metrics.meter import LocalizationMeter
from tedloc.settings import Profile, override
from tedloc.training.engine import seeded

FILE = paths.EVIDENCE / "stand-in.json"
METHODS = {"CAM": "cam", "DDT": "ddt", "BAS": "bas", "TeD-Loc": "tedloc"}
TAPPED = {name: method for name, method in METHODS.items() if name != "BAS"}  # at every block, for its sensitivity
TAPS = {"aviary/cnn": 3, "aviary/vit": 5}  # encoder -> number of its blocks
BRIGHTEST = 0.1  # share of a map's pixels that "bright" means


class Criterion(NamedTuple):
    """words: what is asked; holds: whether a world's numbers fulfil it."""

    words: str
    holds: Callable[[Mapping[str, float]], bool]


CRITERIA = (
    Criterion("at least 70 % of CAM's peaks lie on the object", lambda m: m["peak on object"] >= 70),
    Criterion("at least half of CAM's brightest tenth lies on the object", lambda m: m["bright on object"] >= 50),
    Criterion("CAM is at least 10 points above the best centred box", lambda m: m["CAM"] >= m["centred box"] + 10),
    Criterion("a linear probe on true masks is at least 15 points above CAM", lambda m: m["probe"] >= m["CAM"] + 15),
    Criterion("DDT is above CAM", lambda m: m["DDT"] > m["CAM"]),
    Criterion("BAS is above CAM", lambda m: m["BAS"] > m["CAM"]),
)


def fitted(profile: Profile, method: str, world: int) -> Trained:
    """A method with the weights of its finished run."""
    request = runs.Request(profile, method, world, "cpu")
    run, made = runs.ensure(request), runs.ready(request)
    made.fit(run.folder)
    return made


def masks(images: ImageSet) -> Tensor:
    """(N, H, W) float32, 1 on the object."""
    return torch.from_numpy(np.stack([images.mask(i) for i in range(len(images))])).float()


def where_it_looks(cam: Trained, split: str) -> dict[str, float]:
    """Percent of the images in which the highest point of CAM's map of the true class lies on the object, and of the
    map's brightest tenth that lies there; the object's share of the image beside them."""
    images = cam.images(split)
    maps = cam.localize(split, np.arange(len(images)))["true"].maps[:, None]
    on = masks(images).flatten(1).bool()
    fine = F.interpolate(maps, size=images.mask(0).shape, mode="bicubic", align_corners=False).flatten(1)
    bright = fine >= fine.quantile(1 - BRIGHTEST, dim=1, keepdim=True)
    return {
        "peak on object": 100 * on.gather(1, fine.argmax(1, keepdim=True)).float().mean().item(),
        "bright on object": 100 * (bright & on).sum().item() / bright.sum().item(),
        "object": 100 * on.float().mean().item(),
    }


def probe(cam: Trained, split: str, steps: int = 200) -> float:
    """MaxBoxAcc of a linear classifier of patches, trained on the true masks of the training images: whether the
    embeddings know the place at all."""
    train, images = cam.images("train"), cam.images(split)
    inputs = cam.front()(cam.input("train", np.arange(len(train))))
    wanted = F.interpolate(masks(train)[:, None], size=inputs.shape[2:], mode="area")[:, 0]
    net = seeded(0, lambda: nn.Conv2d(inputs.shape[1], 1, 1))
    optimiser, generator = torch.optim.Adam(net.parameters(), 0.01), torch.Generator().manual_seed(0)
    for _ in range(steps):
        index = torch.randint(len(inputs), (64,), generator=generator)
        loss = F.binary_cross_entropy_with_logits(net(inputs[index])[:, 0], wanted[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    meter = LocalizationMeter()
    with torch.inference_mode():
        maps = net(cam.front()(cam.input(split, np.arange(len(images)))))[:, 0]
    meter.update(images.ids, maps, images.boxes, images.sizes)
    return meter.compute()[evidence.HALF]


def score(profile: Profile, method: str, world: int, split: str) -> float:
    """MaxBoxAcc of a method's headline on a split."""
    metrics = runs.ensure(runs.Request(profile, method, world, "cpu")).metrics
    routes = metrics["val routes" if split == "val" else "routes"]
    return routes[next(iter(metrics["routes"]))][evidence.HALF]


def measure(profile: Profile, world: int) -> dict[str, Any]:
    """A world's numbers: of world 0 on validation, with the tap's sensitivity; of the others on test."""
    split, here = "test" if world else "val", profile.in_world(world)
    found: dict[str, Any] = {name: score(here, method, world, split) for name, method in METHODS.items()}
    cam = fitted(here, "cam", world)
    found |= where_it_looks(cam, split) | {"probe": probe(cam, split)}
    val, images = open_data(here.data, "val"), open_data(here.data, split)
    size = baselines.centre_box(val.boxes, val.sizes)
    found["centred box"] = evidence.box_meter(size, images).compute()[evidence.HALF]
    if not world:
        found["taps"] = {
            f"{encoder}/{tap}": {
                name: score(override(here, {"encoder.name": encoder, "encoder.tap": tap}), method, world, split)
                for name, method in TAPPED.items()
            }
            for encoder, count in TAPS.items()
            for tap in range(1, count + 1)
        }
    return {"split": split, "measured": found, "provenance": runs.provenance()}


def stored() -> dict[str, dict[str, Any]]:
    """What is kept, by world."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


@command
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tedloc.book.stand_in", description=__doc__.split("\n")[0])
    parser.add_argument("--worlds", type=int, nargs="+", default=[0])
    given = parser.parse_args(arguments)
    for world in given.worlds:
        found = measure(profiles.get("aviary"), world)
        with paths.replacing(FILE) as scratch:
            every = stored() | {str(world): found}
            scratch.write_text(json.dumps(dict(sorted(every.items())), indent=1) + "\n")
        for criterion in CRITERIA:
            print(f"world {world}, {found['split']}: {criterion.words}: {criterion.holds(found['measured'])}")


if __name__ == "__main__":
    main()
