"""What fewer bits cost: the cache in int8 against fp16, frozen networks in bf16 against float32.

    python benchmarks/fewer_bits.py --profile aviary --json tedloc/results/fewer-bits-aviary.json
    TEDLOC_DATA=... python benchmarks/fewer_bits.py --profile imagenette-small --changes '{"data.per_class": 30}' \\
        --json tedloc/results/fewer-bits-imagenette-small.json

TeD-Loc is trained with one seed on each cache, and scored; everything else is the same, its pseudo-labels too. Where
CLIP-ES teaches, its maps of the validation images are made in bf16 and in float32: how they correlate, image by image,
and how well each localises. On a CPU, bf16 is autocast's, as it is on a GPU.
"""

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from tedloc import paths, profiles, runs
from tedloc.data import SPLITS
from tedloc.errors import command
from tedloc.methods import create
from tedloc.runs.execute import evaluate
from tedloc.runs.run import provenance
from tedloc.settings import Profile, override
from tedloc.training.features import features

METRICS = ("MaxBoxAcc@0.5", "MaxBoxAccV2", "Top-1 Loc", "Top-1 CL")
CACHES = ("float16", "int8")


@dataclass(frozen=True)
class Settings:
    profile: str = "aviary"
    changes: str = "{}"  # to the profile, as JSON
    device: str = "cpu"
    json: Path | None = None  # where the result is kept


def cache(profile: Profile, device: str) -> dict[str, Any]:
    """Metrics on the test split and bytes of all splits, by type of cache."""
    found = {}
    for kind in CACHES:
        changed = override(profile, {"encoder.cache_type": kind})
        run = runs.ensure(runs.Request(changed, "tedloc", profile.seeds[0], device))
        sizes = [features(changed.data, split, changed.encoder, device).tokens.nbytes for split in SPLITS]
        found[kind] = {"bytes": sum(sizes)} | {name: run[name] for name in METRICS if name in run.metrics}
    return found


def teacher(profile: Profile, device: str) -> dict[str, Any]:
    """CLIP-ES in bf16 beside float32 on the validation split: correlation of maps, and each one's MaxBoxAcc."""
    maps, scored = {}, {}
    for precision in ("float32", "bf16"):
        method = create("clip-es", override(profile, {"pseudo_labels.precision": precision}), device=device)
        found = [each.routes["true"].maps.float().flatten(1).cpu().numpy() for each in method.predict("val")]
        maps[precision] = np.concatenate(found)
        meters = evaluate(method, profile.data, "val", profile.evaluation, ("true",)).meters
        scored[precision] = meters["true"].compute()["MaxBoxAcc@0.5"]
    each = [np.corrcoef(*pair)[0, 1] for pair in zip(*maps.values(), strict=True) if min(map(np.std, pair)) > 0]
    whole = float(np.corrcoef(*(values.ravel() for values in maps.values()))[0, 1])
    least, middle = float(np.min(each)), float(np.median(each))
    return {"correlation": {"of all": whole, "least": least, "median": middle}, "MaxBoxAcc@0.5": scored}


@command
def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    paths.writable_file(settings.json, "--json")
    profile = profiles.get(settings.profile, settings.changes)
    found: dict[str, Any] = {"cache": cache(profile, settings.device)}
    if profile.pseudo_labels.teacher == "clip-es":
        found["CLIP-ES"] = teacher(profile, settings.device)
    print(json.dumps(found, indent=1))
    if settings.json:
        what = {"profile": profile.name, "changes": json.loads(settings.changes), "seed": profile.seeds[0]}
        result = {"found": found, "of": what, "provenance": provenance(), "date": datetime.date.today().isoformat()}
        with paths.replacing(settings.json) as scratch:
            scratch.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
