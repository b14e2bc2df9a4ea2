"""The parts of the README that are computed: the table of results, the hours at the paper's scale, the picture.

Between two marker lines (``<!-- results -->`` and ``<!-- end of results -->``) stands what ``sections`` makes from the
stored results (``tedloc.book.findings``) and from ``tedloc.cost.plan``; a test holds the README equal to it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from tedloc import paths, plots, profiles, runs
from tedloc.book import compared, findings, localized, report
from tedloc.book.localized import PICTURES
from tedloc.cost import measured, plan
from tedloc.data import ImageSet, open_data
from tedloc.errors import UserError

METRICS = ("MaxBoxAcc", "Top-1 Loc")
PLAIN = 225  # grey in place of a photo
KINDS = {"aviary": "synthetic birds", "imagenette-small": "real photos", "cub": "CUB", "ilsvrc": "ILSVRC"}
ROLES = {
    "ours": "TeD-Loc",
    "teacher": "its teacher, told the true class",
    "teacher, predicted class": "its teacher, with the class it predicts",
    "plain": "CAM on the same encoder",
    "compared": "best of the other methods",
    "image unseen": "best box that sees no image",
}


def _best(results: Mapping[str, Any], role: str, metric: str) -> str:
    """The highest mean of a metric among the methods in a role, and the method's name where there are several."""
    having = findings.ranked(results, role, metric)
    if not having:
        return report.MISSING
    best = having[0]
    value = best["metrics"][metric]
    text = report.number(value["mean"]) + (f" ± {report.number(value['sd'])}" if value["n"] > 1 else "")
    return text + (f" ({best['method']})" if len(having) > 1 else "")


def results(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of stored results, and a line a profile on what it rests on."""
    shown = {name: found[name] for name in KINDS if name in found and found[name]["results"]}
    if not shown:
        return "No results are stored with this version; `make book` computes them."
    columns = [(name, metric) for name in shown for metric in METRICS]
    lines = [
        "| (%) | " + " | ".join(f"{metric}, {KINDS[name]}" for name, metric in columns) + " |",
        "|:--|" + "--:|" * len(columns),
    ]
    for role, words in ROLES.items():
        cells = [_best(shown[name]["results"], role, metric) for name, metric in columns]
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    notes = ["Every threshold is the best on the test images, the field's rule; a value without ± is of one run."]
    for name, finding in shown.items():
        where = finding["results"]["provenance"]
        kind, seeds = "seeds", where["seeds"]
        if profiles.get(name).synthetic and len(seeds) > 1:  # settings were chosen in the first world
            kind, seeds = "worlds", seeds[1:]
        papers = [claim for claim in findings.claims([finding]) if not claim["own"]]
        told = ", ".join(f"{label}: {count}" for label, count in findings.counts(papers, name).items())
        notes.append(
            f"`{name}`: {KINDS[name]}, {report.number(where['num_images'], 0)} test images, mean ± standard deviation "
            f"over the {kind} {', '.join(map(str, seeds))}, or one value; {findings.origin(finding)}. "
            f"Claims of the paper that it tests: {told}."
        )
    return "\n".join(lines) + "\n\n" + "\n\n".join(notes)


def hours() -> str:
    """What TeD-Loc takes at the paper's scale, stage by stage: estimated from what the code does."""
    works = {name: plan.at_paper_scale(profiles.get(name)) for name in plan.SIZES}
    costs = {name: plan.with_cores(plan.counted(work.classes)) for name, work in works.items()}
    frames = {name: plan.by_gpus(work, costs[name], [plan.Machine()]) for name, work in works.items()}
    lines = [
        "| hours on one A100, a seed | " + " | ".join(f"`{name}`" for name in works) + " | assumed |",
        "|:--|" + "--:|" * len(works) + ":--|",
    ]
    for stage, assumed in next(iter(frames.values()))["assumed"].items():
        cells = [report.number(frame.loc[stage, "hours, 1 GPU"], 2) for frame in frames.values()]
        lines.append(f"| {stage} | {' | '.join(cells)} | {assumed if stage != 'all' else ''} |")
    memory = [plan.training_bytes(work.classes, work.batch_size) / 1e9 for work in works.values()]
    stored = [frame.loc["all", "stored (GB)"] for frame in frames.values()]
    for what, values in (("memory of a training step (GB)", memory), ("pseudo-labels and cache (GB)", stored)):
        lines.append(f"| {what} | {' | '.join(report.number(value) for value in values)} | |")
    first = next(iter(works.values()))
    cores = measured.kept(measured.CORES)
    told = (
        "Estimated for one A100, not run: operations are counted; decoding a generated photo "
        f"({1e3 * cores['decode']:.1f} ms) and scoring a map ({1e3 * cores['score']:.1f} ms) were measured on one core "
        f"of another machine. {first.reading}"
    )
    return "\n".join(lines) + f"\n\n{told}\n\n{on_gpu()}"


def on_gpu() -> str:
    """What a GPU showed, in sentences; or that none was asked."""
    said = [f"On a GPU: {measured.gpu()}."]
    encoder, clip_es, epochs = (measured.on_gpu(part) or {} for part in ("encoder", "clip-es", "epochs"))
    if plain := encoder.get("plain (images/s)", {}).get("bf16"):
        said.append(f"EVA-L embeds {plain:,.0f} images a second in bf16.")
    if pace := encoder.get("photos a second, both views", {}).get("from files"):
        said.append(f"From files, with both views and into the cache, {pace:,.0f} photos a second.")
    if maps := clip_es.get("CLIP-ES (images/s)", {}).get("bf16"):
        said.append(f"CLIP-ES maps {maps:,.0f} images a second.")
    if trained := epochs.get("cached epoch (images/s)"):
        said.append(f"TeD-Loc trains on {trained:,.0f} images a second from the cache.")
    times = {system: measured.latency(system, "float32") for system in ("TeD-Loc", "TS-CAM", "GenPromp")}
    if all(times.values()):
        each = ", ".join(f"{system} {time:.1f} ms" for system, time in times.items())
        said.append(f"One image at a time, in float32: {each}.")
    if tests := measured.on_gpu("tests"):
        said.append(f"`pytest -m cuda`: {tests['passed']} passed, {tests['failed']} failed.")
    return " ".join(said)


def sections() -> dict[str, str]:
    """The computed parts by the name of their markers."""
    return {"results": results(findings.kept()), "hours": hours()}


def renewed(text: str, parts: Mapping[str, str]) -> str:
    """The README's text with its computed parts replaced. Raises ``UserError`` when a pair of markers is missing."""
    for name, content in parts.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            raise UserError(f"README.md must hold the lines {start.strip()} and {end} once each; put them back")
        text = re.sub(
            f"{re.escape(start)}.*?{re.escape(end)}",
            lambda _, c=content, s=start, e=end: f"{s}{c}\n{e}",
            text,
            flags=re.DOTALL,
        )
    return text


def write() -> Path:
    """Renew the computed parts of the README."""
    readme = paths.root() / "README.md"
    text = renewed(readme.read_text(), sections())
    with paths.replacing(readme) as scratch:
        scratch.write_text(text)
    return readme


def panels(
    shown: Mapping[str, localized.Localized], images: ImageSet, index: int, with_image: bool
) -> list[dict[str, Any]]:
    """One row of the picture: the image and each method's map and box over it, or these over a plain ground."""
    found, plain = [each.panel(index) for each in shown.values()], images.picture(index)
    if with_image:
        return [{"image": plain, "gt_boxes": images.boxes[index]}, *found]
    return [panel | {"image": np.full_like(plain, PLAIN)} for panel in found]


def picture(profile: str) -> Path:
    """Draw the README's picture of a profile: test images with the maps and boxes of CAM, the teacher and TeD-Loc.

    The images are those at the quartiles of TeD-Loc's own IoU among the images whose maps a run keeps. Runs that are
    missing are computed first. Photos, whose terms do not let them travel, are left out: maps and boxes alone remain.
    """
    matplotlib.use("Agg")
    plots.use_style()
    chosen = profiles.get(profile)
    rows = compared.rows(chosen)
    teacher = compared.teacher(chosen, rows)[0]
    named = {row.label: row for row in rows}
    wanted = {row.label: row for row in (named["CAM"], teacher, named["TeD-Loc"])}
    found = runs.collect_named({label: row.requests(chosen, chosen.seeds[:1]) for label, row in wanted.items()})
    images, grid = open_data(chosen.data, "test"), chosen.evaluation.grid
    shown = {
        label: localized.Localized(found[label][0], row.route_of(found[label][0]), images, grid)
        for label, row in wanted.items()
    }
    at = shown["TeD-Loc"].by_iou(5)[1:4]
    rows = [panels(shown, images, i, chosen.synthetic) for i in at]
    columns = ["image"] * chosen.synthetic + [name.replace(" (", "\n(") for name in wanted]
    names = [] if chosen.synthetic else [images.class_names[images.labels[i]] for i in at]
    figure = plots.grid_of_localizations(rows, columns, names)
    target = paths.book() / PICTURES[profile]
    with paths.replacing(target) as scratch:
        figure.savefig(scratch, dpi=130, pil_kwargs={"quality": 88, "optimize": True})
    return target
