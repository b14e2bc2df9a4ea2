"""The book's notebooks as jobs: which there are, and running each by papermill, once.

The book's table of contents (``book/_toc.yml``) is the list: ``executed/NAME`` is ``notebooks/NAME.py`` run in the
book's profile, ``executed/PROFILE/NAME`` is the same notebook run in a profile of its own. An executed notebook
carries the fingerprint of what it was made from; while that is current it is not run again.
"""

import functools
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import papermill
import yaml
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError, strip_color

from tedloc import fingerprints, paths, profiles
from tedloc.cost import bits, measured
from tedloc.data import at_hand
from tedloc.errors import UserError, choose
from tedloc.fingerprints import digest
from tedloc.runs import provenance
from tedloc.training import devices

# The last cell that an executed notebook is given, and loses again: the modules of the package that it came to import.
MODULES = "import sys\nprint(*sorted(name for name in sys.modules if name.split('.')[0] == 'tedloc'))"

# What a finished book says, kept with the package: one file a profile, written by `python -m tedloc.book record`.
RESULTS = paths.PACKAGE / "results"

# The module by which a chapter comes to show the model of photos.
PHOTO_PAGE = "tedloc.book.try_it"

# The tag of a cell that reads what the other chapters found. Its notebook runs after them, and again when they change.
READS_OTHERS = "reads-other-chapters"

# The tag of a cell that shows how long something took. Nothing else runs beside its notebook.
SHOWS_TIME = "shows-time"

# A kernel's own log (that it listens on a local port, that it was told to end) is not the reader's matter.
QUIET_KERNEL = ["--IPKernelApp.log_level=50"]


@dataclass(frozen=True)
class Chapter:
    """A notebook in the book.

    profile: its own profile, or None for the book's
    title:   heading to give it instead of its own; two chapters from one notebook need two names
    """

    notebook: str
    profile: str | None = None
    title: str | None = None

    @property
    def name(self) -> str:
        return f"{self.profile}/{self.notebook}" if self.profile else self.notebook

    @property
    def source(self) -> Path:
        return paths.notebooks() / f"{self.notebook}.py"

    @property
    def executed(self) -> Path:
        return paths.book() / "executed" / f"{self.name}.ipynb"

    @functools.cached_property
    def parameters(self) -> frozenset[str]:
        """The names of the parameters that it takes."""
        return frozenset(papermill.inspect_notebook(jupytext.read(self.source)))

    @property
    def reads_others(self) -> bool:
        """Whether it is made from other chapters, executed before it."""
        return self._has(READS_OTHERS)

    @property
    def measures_time(self) -> bool:
        """Whether no other chapter may be executed beside it. Where the photos of its own profile are not on the
        machine, it shows the times that are kept."""
        return self._has(SHOWS_TIME) and (self.profile is None or at_hand(profiles.get(self.profile).data))

    def _has(self, tag: str) -> bool:
        return f'"{tag}"' in self.source.read_text()


def contents() -> list[Chapter]:
    """The notebooks of the table of contents, in its order. Raises ``UserError`` when one has no source."""

    def entries(node: Any):
        if isinstance(node, dict):
            if str(node.get("file", "")).startswith("executed/"):
                yield node
            for value in node.values():
                yield from entries(value)
        elif isinstance(node, list):
            for item in node:
                yield from entries(item)

    toc = paths.book() / "_toc.yml"
    found = []
    for entry in entries(yaml.safe_load(toc.read_text())):
        *profile, notebook = entry["file"].removeprefix("executed/").split("/")
        chapter = Chapter(notebook, "/".join(profile) or None, entry.get("title"))
        if not chapter.source.exists():
            raise UserError(
                f"{toc} lists {entry['file']}, but there is no {chapter.source}; "
                "write the notebook or take it out of the contents"
            )
        found.append(chapter)
    return found


def in_order(found: list[Chapter]) -> list[list[Chapter]]:
    """The chapters in groups, one group after another: each that measures time by itself, then those that can be
    executed side by side, at last those that read others. Within a group they keep the book's order."""
    first = [chapter for chapter in found if not chapter.reads_others]
    alone = [[chapter] for chapter in first if chapter.measures_time]
    side_by_side = [chapter for chapter in first if not chapter.measures_time]
    return [group for group in (*alone, side_by_side, [chapter for chapter in found if chapter.reads_others]) if group]


def select(name: str) -> Chapter:
    """The chapter called ``name``, or any other notebook of that name. Raises ``UserError`` if there is none."""
    known = {chapter.name: chapter for chapter in contents()}
    for source in paths.notebooks().glob("*.py"):
        known.setdefault(source.stem, Chapter(source.stem))
    choose("notebook", name, known)
    return known[name]


def fingerprint(chapter: Chapter, parameters: dict[str, Any], modules: Sequence[str]) -> str:
    """Of all that decides what a notebook shows: its source, the package's modules that it imported, data and weights
    of the package, the pinned versions, the parameters with their profile and the place of the data; where it shows
    what was measured elsewhere, that; and, where it reads other chapters, those and the stored results of profiles that
    none of them was executed in."""
    files = [chapter.source, paths.root() / "requirements.lock"]
    files += bits.FILES.values() if bits.__name__ in modules else ()
    files += measured.FILES.values() if measured.__name__ in modules else ()
    files += [
        file
        for folder in (paths.PAPER, paths.WEIGHTS, paths.EVIDENCE)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.suffix not in (".py", ".pyc")
        if file.parent != paths.PHOTO_MODEL or PHOTO_PAGE in modules
    ]
    if chapter.reads_others:
        others = [other.executed for other in contents() if not other.reads_others]
        here = {record(executed).get("profile") for executed in others}  # of these the stored results are not shown
        files += others + [RESULTS / f"{name}.json" for name in sorted({*profiles.PROFILES} - here)]
    return digest(
        {
            "code": fingerprints.alone(*modules),
            "files": [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files if file.exists()],
            "parameters": parameters,
            "profile": profiles.get(parameters["profile"]) if "profile" in parameters else None,
            "data": str(paths.data().resolve()),
        }
    )


def record(executed: Path) -> dict[str, Any]:
    """What ``execute`` wrote into an executed notebook about its making; empty for any other file or none."""
    try:
        return dict(nbformat.read(executed, as_version=4).metadata.get("tedloc", {}))
    except (OSError, ValueError, nbformat.reader.NotJSONError):
        return {}


def is_current(chapter: Chapter, parameters: dict[str, Any]) -> bool:
    """Whether it was executed under these parameters, from code that is still the same."""
    story = record(chapter.executed)
    try:
        return story.get("fingerprint") == fingerprint(chapter, parameters, story.get("modules", ()))
    except ModuleNotFoundError:  # one that it was made with is gone
        return False


def execute(chapter: Chapter, parameters: dict[str, Any], line: int = 0) -> float:
    """Run a notebook and put the result at ``chapter.executed``; returns seconds.

    line: of the terminal, from where it is, for the progress bar

    Raises ``UserError`` for a parameter that the notebook does not have and for a notebook that fails; then what an
    earlier run left stays as it was.
    """
    notebook = jupytext.read(chapter.source)
    for name in parameters:
        choose(f"parameter of {chapter.source.name}", name, chapter.parameters)
    fingerprints.alone(*fingerprints.every())  # read now: what is edited while the notebook runs is not what it ran
    notebook.cells.append(nbformat.v4.new_code_cell(MODULES, metadata={"tags": []}))
    bar = {"desc": chapter.name, "position": line, "leave": False}
    start = time.monotonic()
    try:
        done = papermill.execute_notebook(
            notebook,
            None,
            parameters,
            cwd=paths.notebooks(),
            progress_bar=bar,
            start_timeout=300,
            extra_arguments=QUIET_KERNEL,
            shutdown_kernel="immediate",  # what it made is written; to take down all that it imported takes seconds
        )
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":
            raise KeyboardInterrupt from error
        raise _failure(chapter, error) from error
    except (DeadKernelError, CellTimeoutError, RuntimeError) as error:  # the last: its kernel did not start
        raise UserError(
            f"notebook {chapter.source} did not finish: {type(error).__name__}: {error}; "
            "most often the machine was short of memory or time: close other programs and start again"
        ) from error
    seconds = time.monotonic() - start
    modules = done.cells.pop().outputs[0].text.split()
    profile = parameters.get("profile", "")
    story = provenance() | {"profile": profile, "parameters": parameters, "seconds": round(seconds, 1)}
    story["device"] = parameters.get("device") or devices.default()
    _write(chapter, done, story | {"modules": modules, "fingerprint": fingerprint(chapter, parameters, modules)})
    return seconds


def earlier_seconds(chapter: Chapter, profile: str) -> float | None:
    """How long it took when it was last executed in this profile or its own, or else when the results that are kept of
    that profile were recorded; None where neither is known."""
    story, executed_in = record(chapter.executed), chapter.profile or profile
    if story.get("profile") != executed_in:
        kept = RESULTS / f"{executed_in}.json"
        story = json.loads(kept.read_text())["chapters"].get(chapter.notebook, {}) if kept.exists() else {}
    return story.get("seconds")


def leave_out(chapter: Chapter) -> None:
    """Put a page in the place of a chapter with a profile of its own that says why the smoke book lacks it, so that the
    gap is not silent."""
    text = (
        f"# {chapter.title or chapter.name}\n\n```{{admonition}} Not computed in this build\n:class: attention\n"
        f"This is the `smoke` book; the chapter belongs to the profile `{chapter.profile}`.\n```\n"
    )
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text, id="not-computed")])
    _write(chapter, page, {"left out": "of the smoke book"})


def error_in(executed: Path) -> str | None:
    """What went wrong in an executed notebook (sphinx renders it without a word), or None."""
    notebook = nbformat.read(executed, as_version=4)
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"cell {index}: {output.ename}: {output.evalue}"
        if cell.metadata.get("papermill", {}).get("exception"):
            return f"cell {index} raised an error"
    return "papermill stopped early" if notebook.metadata.get("papermill", {}).get("exception") else None


def _failure(chapter: Chapter, error: PapermillExecutionError) -> UserError:
    """One sentence for what a user can mend; for any other error the traceback goes before it."""
    where = f"notebook {chapter.source}, cell {error.cell_index}"
    if error.ename == "UserError":
        return UserError(f"{where}: {error.evalue}")
    trace = strip_color("\n".join(error.traceback))
    return UserError(f"{where} failed:\n\n{trace}\n\n{where}: {error.ename}: {error.evalue}")


def _write(chapter: Chapter, notebook: NotebookNode, story: dict[str, Any]) -> None:
    """Write an executed notebook, with the story of its making in the metadata and below the heading."""
    notebook.metadata["tedloc"] = story
    for cell in notebook.cells:  # the line below the heading says what they say
        tags = cell.metadata.get("tags", [])
        if {"parameters", "injected-parameters"} & set(tags):
            cell.metadata["tags"] = [*tags, "remove-cell"]
    first = notebook.cells[0]
    heading, _, rest = first.source.partition("\n")
    if first.cell_type == "markdown" and heading.startswith("# "):
        heading = f"# {chapter.title}" if chapter.title else heading
        first.source = "\n".join(part for part in (heading, _badge(story), rest) if part)
    with paths.replacing(chapter.executed) as scratch:
        scratch.write_text(nbformat.writes(notebook))


def _badge(story: dict[str, Any]) -> str:
    if "commit" not in story:
        return ""
    smoke = " (this profile only shows that the notebook runs: **its numbers mean nothing**)"
    profile = f"Profile `{story['profile']}`{smoke if story['profile'] == 'smoke' else ''}"
    changed = [f"`{name} = {value!r}`" for name, value in story["parameters"].items() if name != "profile"]
    parts = [
        profile,
        *changed,
        f"commit `{story['commit']}`",
        story["date"],
        story["device"],
        f"{story['seconds']:.0f} s",
    ]
    return "\n:::{div} provenance\n" + " · ".join(parts) + "\n:::\n"
