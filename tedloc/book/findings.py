"""What the chapters found, as data: read from executed notebooks, and kept with the package.

A chapter's tables carry their verdicts, and the chapter of main results the metrics of its methods, as JSON in the
metadata of the executed notebook's outputs (``tedloc.book.report.VERDICTS``, ``RESULTS``). ``computed`` gathers it, a
profile at a time; ``record`` keeps it as ``tedloc/results/PROFILE.json``, so that a book built without a profile's data
can still say what was found where that was, and when. A *finding*, computed or stored, is

    profile   its name
    recorded  the day it was stored (stored ones only)
    chapters  name -> {title, commit, date, device, machine, seconds, verdicts: [{id, holds, label, evidence, about}]}
    results   {provenance, dataset_of_paper, methods: [{method, role, seeds, metrics: {metric: {mean, sd, n, paper}}}]}
"""

import datetime
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import nbformat
import numpy as np
import pandas as pd

from tedloc import paper, paths
from tedloc.book import chapters, report
from tedloc.book.chapters import Chapter
from tedloc.errors import UserError
from tedloc.profiles import PROFILES
from tedloc.runs.run import Run
from tedloc.settings import Profile

SMOKE = "smoke"  # proves that everything runs; what it finds is never stored
# Every book has these columns, and one for the paper's own data sets.
TITLES = {"aviary": "aviary (synthetic)", "imagenette-small": "ILSVRC photos, 20 classes"}
PAPERS = ("cub", "ilsvrc")


def headline(
    profile: Profile, run: Run, cells: Iterable[Mapping[str, Any]], roles: Mapping[str, str]
) -> dict[str, Any]:
    """The data of the table of main results.

    run: one of TeD-Loc's, for what it was measured on
    cells: the rows of ``report.comparison``: row, column, paper, ours (one value a seed, in percent)
    roles: row -> what it is beside TeD-Loc; a row that is not named is one of the compared methods
    """
    methods: dict[str, dict[str, Any]] = {}
    for cell in cells:
        if isinstance(cell["ours"], str):  # the reason why there is no number
            continue
        method = methods.setdefault(
            cell["row"], {"method": cell["row"], "role": roles.get(cell["row"], "compared"), "metrics": {}}
        )
        values, paper = np.asarray(cell["ours"], dtype=float), cell["paper"]
        method["metrics"][cell["column"]] = {
            "mean": round(float(values.mean()), 4),
            "sd": round(float(values.std(ddof=1)), 4) if len(values) > 1 else None,
            "n": len(values),
            "paper": None if paper is None or not np.isfinite(paper) else float(paper),
        }
    where = run.metrics["provenance"]
    known = {key: where[key] for key in ("dataset", "split", "num_images", "synthetic", "data", "device", "machine")}
    return {
        "provenance": known | {"seeds": list(profile.seeds)},
        "dataset_of_paper": profile.paper_dataset,
        "methods": list(methods.values()),
    }


def of_chapter(chapter: Chapter) -> dict[str, Any] | None:
    """A chapter's story, verdicts and, of main results, ``results``; None when it was not executed."""
    story = chapters.record(chapter.executed)
    if "commit" not in story:
        return None
    notebook = nbformat.read(chapter.executed, as_version=4)
    outputs = [output.get("metadata", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    title = notebook.cells[0].source.partition("\n")[0].removeprefix("# ")
    found = {"title": title, **{key: story.get(key, "") for key in ("commit", "date", "device", "machine")}}
    found["seconds"] = story.get("seconds")
    found["verdicts"] = [dict(verdict) for data in outputs for verdict in data.get(report.VERDICTS, [])]
    found["results"] = next((data[report.RESULTS] for data in outputs if report.RESULTS in data), None)
    return json.loads(json.dumps(found))


def gather(profile: str, made: Iterable[Chapter]) -> dict[str, Any] | None:
    """The finding of one profile from the chapters that were executed in it; None when there are none."""
    finding: dict[str, Any] = {"profile": profile, "chapters": {}, "results": None}
    for chapter in made:
        executed_in = chapters.record(chapter.executed).get("profile")
        if chapter.reads_others or executed_in != profile:
            continue
        found = of_chapter(chapter)
        results = found.pop("results")
        finding["chapters"][chapter.notebook] = found
        finding["results"] = finding["results"] or results
    return finding if finding["chapters"] else None


def computed(profile: str) -> dict[str, dict[str, Any]]:
    """The findings of this build, by profile: that of the book's ``profile`` and those of chapters with their own."""
    listed = chapters.contents()
    names = dict.fromkeys([profile, *(chapter.profile for chapter in listed if chapter.profile)])
    found = {name: gather(name, listed) for name in names}
    return {name: finding for name, finding in found.items() if finding}


def kept() -> dict[str, dict[str, Any]]:
    """The findings that are kept with the package, by profile."""
    files = [chapters.RESULTS / f"{name}.json" for name in sorted(PROFILES)]
    return {file.stem: json.loads(file.read_text()) for file in files if file.exists()}


def at_hand(profile: str) -> dict[str, dict[str, Any]]:
    """The findings of this build, and for profiles that were not computed in it those kept with the package."""
    here = computed(profile)
    return here | {name: finding for name, finding in kept().items() if name not in here}


def page_columns(profile: str, found: Collection[str]) -> dict[str, list[str]]:
    """The columns of the page *What holds*, title -> profiles: the book's profile, those that every book shows, any
    other that has findings, and the paper's two data sets as one."""
    order = [name for name in dict.fromkeys([profile, *TITLES, *found]) if name not in PAPERS]
    return {TITLES.get(name, name): [name] for name in order} | {"CUB, ILSVRC": list(PAPERS)}


def record() -> list[str]:
    """Store the findings of the executed chapters, each profile's in a file of its own; returns the profiles.

    Profiles that were not computed here keep what was stored before; the smoke profile is never stored. Raises
    ``UserError`` when a profile's chapters are not all there and current, so that nothing stale is kept.
    """
    listed = [chapter for chapter in chapters.contents() if not chapter.reads_others]
    stories = {chapter: chapters.record(chapter.executed) for chapter in listed}
    executed = {chapter: story for chapter, story in stories.items() if "commit" in story}
    profiles = dict.fromkeys(story["profile"] for story in executed.values() if story["profile"] != SMOKE)
    if not profiles:
        raise UserError(
            "no chapter has been executed in a profile whose numbers mean something; run: python -m tedloc.book run"
        )
    for profile in profiles:
        own = [chapter for chapter in listed if chapter.profile == profile]
        for chapter in own or [chapter for chapter in listed if not chapter.profile]:
            story = stories[chapter]
            if story.get("profile") != profile or not chapters.is_current(chapter, story["parameters"]):
                option = "" if chapter.profile else f" --profile {profile}"
                raise UserError(
                    f"chapter {chapter.name} was not executed in the profile {profile!r} with the code as "
                    f"it is; run: python -m tedloc.book run{option} --only {chapter.name}"
                )
    for profile in profiles:
        finding = gather(profile, listed) | {"recorded": datetime.date.today().isoformat()}
        with paths.replacing(chapters.RESULTS / f"{profile}.json") as scratch:
            scratch.write_text(json.dumps(finding, indent=1, ensure_ascii=False) + "\n")
    return list(profiles)


def ranked(results: Mapping[str, Any], role: str, metric: str) -> list[dict[str, Any]]:
    """Methods of the main results in a role that have the metric, the highest mean first."""
    having = [each for each in results["methods"] if each["role"] == role and metric in each["metrics"]]
    return sorted(having, key=lambda each: -each["metrics"][metric]["mean"])


def origin(finding: Mapping[str, Any]) -> str:
    """``computed 2026-01-31 at commit abc``, with ``stored,`` before it for one that is kept with the package."""
    stories = list(finding["chapters"].values())
    commits = ", ".join(dict.fromkeys(story["commit"] for story in stories))
    stored = "stored, " if "recorded" in finding else ""
    return f"{stored}computed {max(story['date'] for story in stories)} at commit {commits}"


def claims(findings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every claim of the findings once, in the chapters' order: id, chapter that it belongs to, title of the one that
    judged it first, name (its words), origin, own (a control of ours), images (whether a data set decides it), and its
    verdict by profile.

    A stored claim that the book does not make any more is left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for finding in findings:
        for story in finding["chapters"].values():
            for verdict in story["verdicts"]:
                if (known := paper.claims().get(verdict["id"])) is None:
                    continue
                claim = found.setdefault(
                    known.id,
                    {
                        "id": known.id,
                        "chapter": known.chapter,
                        "title": story["title"],
                        "name": known.text,
                        "origin": known.source,
                        "own": known.own,
                        "images": known.images,
                        "verdicts": {},
                    },
                )
                claim["verdicts"][finding["profile"]] = verdict
    return list(found.values())


def claims_table(
    found: Sequence[Mapping[str, Any]], columns: Mapping[str, Sequence[str]], ran: Collection[str], caption: str = ""
) -> report.Table:
    """Claims, where the paper makes them, and one column a group of profiles with verdict and evidence.

    found: some of :func:`claims`; columns: title -> its profiles; ran: the profiles that have findings at all. A claim
    that a profile with findings does not test gets a dash, a group without findings "not run here".
    """
    lines, labels, colours = [], [], {}
    for claim in found:
        line = {}
        for title, profiles in columns.items():
            told = [claim["verdicts"][profile] for profile in profiles if profile in claim["verdicts"]]
            missing = report.MISSING if set(profiles) & set(ran) else report.NOT_RUN
            words = (f"{verdict['label']}\n{verdict['evidence']}. On {verdict['about']}" for verdict in told)
            line[title] = "\n".join(words) or missing
            colours |= {verdict["label"]: report.colour(verdict["holds"]) for verdict in told}
        lines.append(line)
        labels.append(claim["name"] + (f"\n{claim['origin']}" if claim["origin"] else ""))
    frame = pd.DataFrame(lines, index=pd.Index(labels, name="claim"))
    return report.Table(frame, frame, caption, colours)


def counts(found: Iterable[Mapping[str, Any]], profile: str) -> dict[str, int]:
    """How many of the claims that images decide hold, do not hold and cannot be decided in a profile."""
    told = [claim["verdicts"][profile] for claim in found if claim["images"] and profile in claim["verdicts"]]
    verdicts = [verdict["holds"] for verdict in told]
    return {report.label(holds): verdicts.count(holds) for holds in (True, False, None)}


def summary(
    found: Sequence[Mapping[str, Any]], findings: Mapping[str, Mapping[str, Any]], profiles: Iterable[str]
) -> pd.DataFrame:
    """One line a profile: how many of the claims were tested, how many of them hold, do not hold and cannot be decided,
    and where the verdicts come from; empty cells for a profile without findings."""
    lines = {}
    for name in profiles:
        counted = counts(found, name)
        if name not in findings:
            counted = dict.fromkeys(counted)
        where = origin(findings[name]) if name in findings else report.NOT_RUN
        tested = sum(counted.values()) if name in findings else None
        lines[name] = {"tested": tested, **counted, "where the verdicts come from": where}
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("profile")


def everywhere(found: Iterable[Mapping[str, Any]], profiles: Sequence[str]) -> list[str]:
    """Names of the claims that hold in each of two or more profiles."""
    return [
        claim["name"]
        for claim in found
        if claim["images"]
        and len(profiles) > 1
        and all(claim["verdicts"].get(name, {}).get("holds") for name in profiles)
    ]


def refuted(found: Iterable[Mapping[str, Any]], profiles: Sequence[str]) -> list[tuple[str, str]]:
    """(claim's name, profile) of the claims that do not hold, profile by profile."""
    return [
        (claim["name"], name)
        for name in profiles
        for claim in found
        if claim["images"] and claim["verdicts"].get(name, {}).get("holds") is False
    ]
