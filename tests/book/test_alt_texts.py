"""Every figure of the book says in words what it shows, for those who do not see it."""

from pathlib import Path

import jupytext
import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
SOURCES = sorted(FOLDER.glob("*.py"))
DRAWS = "plt.show()"
each = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)


def alts(notebook) -> list[str]:
    """The alternative text of each cell that draws; empty where it has none."""
    drawing = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code"
        and any(line.startswith(DRAWS) or line.startswith("    plt.show()") for line in cell.source.splitlines())
    ]
    return [cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "") for cell in drawing]


@each
def test_a_cell_that_draws_has_an_alternative_text(source):
    found = alts(jupytext.read(source))
    assert all(len(alt) > 40 for alt in found), found
    assert len(set(found)) == len(found), "two figures with the same text"


@each
def test_the_copy_for_papermill_has_the_same_alternative_texts(source):
    assert alts(nbformat.read(source.with_suffix(".ipynb"), as_version=4)) == alts(jupytext.read(source))
