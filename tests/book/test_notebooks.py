"""Each notebook is a pair of one source and one copy without outputs, and can be run by papermill."""

import re
from pathlib import Path

import jupytext
import nbformat
import papermill
import pytest

from tedloc.book import chapters

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
SOURCES = sorted(FOLDER.glob("*.py"))
each = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


def cells(notebook):
    return [(cell.cell_type, cell.source.strip(), cell.metadata.get("tags", [])) for cell in notebook.cells]


def test_contents_and_folder_list_the_same_notebooks():
    assert {chapter.notebook for chapter in chapters.contents()} == {source.stem for source in SOURCES}


def test_every_copy_has_a_source():
    assert {copy.stem for copy in FOLDER.glob("*.ipynb")} == {source.stem for source in SOURCES}


@each
def test_pair_agrees(source):
    copy = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert cells(copy) == cells(jupytext.read(source)), "run: make notebooks"


@each
def test_copy_is_valid_and_holds_no_output(source):
    copy = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(copy)
    for cell in copy.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


NOT_SHOWN = {"remove-input", "hide-input", "remove-cell", "hide-cell", "parameters"}
MOST_LINES, WIDEST = 12, 86  # of a cell that a page shows: what fits a page of 1280 pixels without scrolling


def shown_cells(source) -> list[list[str]]:
    """The code cells whose lines a reader of the page sees."""
    code = [cell for cell in jupytext.read(source).cells if cell.cell_type == "code"]
    return [cell.source.splitlines() for cell in code if not NOT_SHOWN & set(cell.metadata.get("tags", []))]


@each
def test_a_chapter_that_asks_for_runs_shows_the_few_lines_that_do(source):
    asking = [lines for lines in shown_cells(source) if any("runs.collect" in line for line in lines)]
    if re.search(r"^from tedloc import .*\bruns\b", source.read_text(), flags=re.MULTILINE):
        assert asking and max(map(len, asking)) <= MOST_LINES
    else:
        assert not asking


@each
def test_every_chapter_shows_cells_worth_reading(source):
    """Some, each short and narrow; it opens with what it does, and neither imports nor draws."""
    found = shown_cells(source)
    assert found
    for lines in found:
        assert lines[0].startswith("# ") and len(lines) <= MOST_LINES, lines[0]
        assert max(map(len, lines)) <= WIDEST, lines[0]
        assert not [line for line in lines if re.match(r"\s*(import |from |plt\.|figure|fig\b|ax\.)", line)], lines[0]


@each
def test_kernel_is_named(source):
    for notebook in (jupytext.read(source), nbformat.read(source.with_suffix(".ipynb"), as_version=4)):
        assert notebook.metadata.kernelspec.name == "python3"


@each
def test_one_parameter_cell_with_smoke_as_default(source):
    notebook = jupytext.read(source)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1
    assert papermill.inspect_notebook(notebook)["profile"]["default"] == '"smoke"'


@each
def test_begins_with_its_heading(source):
    first = jupytext.read(source).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")


@each
def test_links_to_other_chapters_lead_there(source):
    """A link names the other notebook's file; one that is also executed in a folder of its own profile has none."""
    made = [chapter for chapter in chapters.contents() if chapter.notebook == source.stem]
    text = "\n".join(cell.source for cell in jupytext.read(source).cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\((?!https?://|#)([^)\s]+)\)", text):
        assert (FOLDER / link).exists() and link.endswith(".ipynb"), link
        assert all(chapter.profile is None for chapter in made), link
