"""The stored results as one file to download: every run, every test image, every verdict, as CSV and JSON.

    tedloc-results.zip
      runs.csv        a row for every run, way to localise (route) and threshold rule's metrics
      images.csv      a row for every run, route and test image
      verdicts.csv    a row for every claim and profile
      schema.json     what the columns mean, the licence, the commit

It is made from what is kept with the package (``tedloc/results``), so anyone can make it: ``archive.write(folder)``.
The book's build puts it beside the pages, and the chapter *Use our numbers* reads it.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tedloc import paths
from tedloc.book import chapters, findings
from tedloc.metrics.meter import V2_IOUS
from tedloc.runs import kept, provenance

NAME = "tedloc-results.zip"
LICENCE = "MIT, as the package; please cite the paper and this companion (CITATION.cff)"
METRICS = {  # column -> a run's metric
    "MaxBoxAcc": "MaxBoxAcc@0.5",
    "MaxBoxAccV2": "MaxBoxAccV2",
    "Top-1 Loc": "Top-1 Loc",
    "Top-5 Loc": "Top-5 Loc",
    "Top-1 CL": "Top-1 CL",
    "threshold": "threshold@0.5",
    "MaxBoxAcc, val threshold": "MaxBoxAcc@0.5 (val threshold)",
    "Top-1 Loc, val threshold": "Top-1 Loc (val threshold)",
}
SCHEMA = {
    "runs.csv": {
        "run": "name of the run, the key of images.csv",
        "profile": "data set, encoder and settings; see tedloc/profiles.py",
        "method": "name of the method, with its variant after a colon",
        "world": "seed: of drawn images also which images, encoder and CLIP; settings were chosen in world 0",
        "route": "how the run localises: by which map, with the true or the predicted class",
        "changes": "JSON: settings that differ from the profile's own, by name; empty where they are not known",
        "images": "number of test images",
        **{name: f"{metric}, in percent" for name, metric in METRICS.items()},
        "threshold": "the threshold with the best MaxBoxAcc on the test images, in [0, 1)",
        "commit": "of the code that computed the run",
        "date": "when it was computed",
        "machine": "what it was computed on",
    },
    "images.csv": {
        "run": "as in runs.csv",
        "route": "as in runs.csv",
        "image": "id of the test image",
        "label": "true class, by its number; -1 where unknown",
        "predicted": "class with the highest score; -1 where there are no scores",
        "rank": "of the true class among the scores, 1 the highest; 0 where there are none",
        **{
            f"correct@{iou:g}": f"1 where the box has IoU {iou:g} or more with the object, at the threshold"
            for iou in V2_IOUS
        },
    },
    "verdicts.csv": {
        "profile": "as in runs.csv",
        "chapter": "of the book",
        "claim": "the claim in words",
        "origin": "where the paper makes it; empty for a control of ours",
        "verdict": "holds, does not hold, cannot be decided here",
        "evidence": "difference, interval and corrected p value, in words",
        "about": "what it was measured on",
        "commit": "of the chapter that decided it",
        "date": "when that chapter was computed",
    },
}


def files() -> list[Path]:
    """Every kept run."""
    return sorted(paths.EVIDENCE.glob("*/*.zip"))


def _routes() -> Iterator[tuple[kept.Kept, dict[str, Any], str]]:
    """Every kept run with what names it, once for each of its routes."""
    for file in files():
        run = kept.Kept(file)
        for route in run.routes:
            yield run, {"run": f"{file.parent.name}/{file.stem}", "route": route}, route


def runs_table() -> pd.DataFrame:
    """``runs.csv``."""
    rows = []
    for run, name, route in _routes():
        about, metrics, changes = run.metrics["provenance"], run.route(route), run.changes
        rows.append(
            name
            | {key: about[key] for key in ("profile", "method", "commit", "date", "machine")}
            | {"world": about["seed"], "images": metrics["num_images"]}
            | {"changes": "" if changes is None else json.dumps(changes)}
            | {column: metrics.get(metric) for column, metric in METRICS.items()}
        )
    return pd.DataFrame(rows, columns=list(SCHEMA["runs.csv"]))


def images_table() -> pd.DataFrame:
    """``images.csv``. A box is judged at the threshold with the best MaxBoxAcc of its run and route."""
    frames = []
    for run, name, route in _routes():
        meter = run.meter(route)
        records, at = meter.records, np.array([meter.best_threshold(j=meter.ious.index(0.5))])
        correct = {
            f"correct@{iou:g}": records.correct("largest", j, at)[:, 0].astype(np.uint8)
            for j, iou in enumerate(meter.ious)
        }
        seen = {"image": records.ids, "label": records.label, "predicted": records.predicted, "rank": records.rank}
        frames.append(pd.DataFrame(name | seen | correct))
    columns = list(SCHEMA["images.csv"])
    return pd.concat(frames)[columns] if frames else pd.DataFrame(columns=columns)


def verdicts_table() -> pd.DataFrame:
    """``verdicts.csv``, of the stored findings."""
    stored, rows = findings.kept(), []
    for claim in findings.claims(stored.values()):
        for profile, verdict in claim["verdicts"].items():
            judged = stored[profile]["chapters"].values()
            chapter = next(each for each in judged if verdict in each["verdicts"])
            about = {"profile": profile, "chapter": chapter["title"], "claim": claim["name"], "origin": claim["origin"]}
            said = {"verdict": verdict["label"], "evidence": verdict["evidence"], "about": verdict["about"]}
            rows.append(about | said | {"commit": chapter["commit"], "date": chapter["date"]})
    return pd.DataFrame(rows, columns=list(SCHEMA["verdicts.csv"]))


def write(folder: Path) -> Path:
    """Make the file in a folder; returns its path. Nothing of the machine's clock is in it."""
    tables = {"runs.csv": runs_table(), "images.csv": images_table(), "verdicts.csv": verdicts_table()}
    about = {"licence": LICENCE, "commit": provenance()["commit"], "columns": SCHEMA}
    content = {name: _csv(table) for name, table in tables.items()} | {"schema.json": json.dumps(about, indent=1)}
    folder.mkdir(parents=True, exist_ok=True)
    with paths.replacing(folder / NAME) as scratch, zipfile.ZipFile(scratch, "w") as made:
        for name, text in content.items():
            made.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return folder / NAME


def ready() -> Path:
    """The file in the cache, made anew where a stored result is newer."""
    folder = paths.cache() / "archive"
    made, stored = folder / NAME, [*files(), *chapters.RESULTS.glob("*.json")]
    if not made.exists() or any(file.stat().st_mtime > made.stat().st_mtime for file in stored):
        write(folder)
    return made


def _csv(table: pd.DataFrame) -> str:
    text = io.StringIO()
    table.to_csv(text, index=False, float_format="%.6g")
    return text.getvalue()
