"""What fewer bits cost, as it was measured and is kept with the package: ``benchmarks/fewer_bits.py``.

``tedloc/results/fewer-bits-PROFILE.json``, one a profile. A file that is not there was not measured.
"""

import json
from typing import Any

import pandas as pd

from tedloc import paths

FILES = {name: paths.PACKAGE / "results" / f"fewer-bits-{name}.json" for name in ("aviary", "imagenette-small")}


def kept() -> dict[str, dict[str, Any]]:
    """The stored results, by profile."""
    return {name: json.loads(file.read_text()) for name, file in FILES.items() if file.exists()}


def commands() -> str:
    """How the stored results were made."""
    told = []
    for name, result in kept().items():
        changes = f" --changes '{json.dumps(of)}'" if (of := result["of"]["changes"]) else ""
        told.append(f"python benchmarks/fewer_bits.py --profile {name}{changes}")
    return "; ".join(told)


def provenance() -> dict[str, str]:
    """Of the stored results, for a table's badges: the latest day, commits and profiles."""
    found = kept()
    commits = sorted({each["provenance"]["commit"] for each in found.values()})
    day = max((each["date"] for each in found.values()), default="")
    return {"date": day, "commit": ", ".join(commits), "profile": ", ".join(found)}


def caches() -> pd.DataFrame:
    """One row a profile and type of cache: its bytes, and what TeD-Loc scores that is trained from it."""
    rows = {
        f"{name}, {kind}": {"cache (MB)": each["bytes"] / 1e6}
        | {key: value for key, value in each.items() if key != "bytes"}
        for name, result in kept().items()
        for kind, each in result["found"]["cache"].items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("profile and cache")


def teachers() -> pd.DataFrame:
    """One row a profile whose teacher is CLIP-ES: its maps in bf16 beside those in float32."""
    found = {name: result["found"]["CLIP-ES"] for name, result in kept().items() if "CLIP-ES" in result["found"]}
    rows = {
        name: {f"correlation, {what}": value for what, value in each["correlation"].items()}
        | {f"MaxBoxAcc@0.5, {kind}": value for kind, value in each["MaxBoxAcc@0.5"].items()}
        for name, each in found.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("profile")
