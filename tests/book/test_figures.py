"""Figures come to a page in the format that suits them, and pages say in their head what they are about."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from docutils.core import publish_doctree
from matplotlib.figure import Figure

from tedloc import plots

EXTENSION = Path(__file__).resolve().parents[2] / "book" / "_ext" / "lean_pages.py"


@pytest.mark.parametrize(
    "drawn, begins",
    [
        (lambda ax: ax.plot([0, 1]), b"\x89PNG"),
        (lambda ax: ax.imshow(np.eye(20)), b"\x89PNG"),
        (lambda ax: ax.imshow(np.zeros((8, 8, 3))), b"\xff\xd8"),
        (lambda ax: ax.imshow(np.zeros((400, 400))), b"\xff\xd8"),
    ],
    ids=["curve", "small matrix", "photo", "large matrix"],
)
def test_figures_with_photos_or_large_matrices_are_jpeg_and_others_png(drawn, begins):
    figure = Figure(figsize=(2, 2))
    drawn(figure.subplots())
    assert plots.picture(figure).startswith(begins)


@pytest.mark.parametrize(
    "text, said",
    [
        ("Short words.", "Short words."),
        ("A sentence that ends. " + "word " * 60, "A sentence that ends."),
        ("word " * 60, ("word " * 60)[:199] + " …"),
    ],
)
def test_a_page_is_described_by_the_beginning_of_its_first_paragraph(text, said):
    spec = importlib.util.spec_from_file_location("lean_pages", EXTENSION)
    lean_pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lean_pages)
    page = f"Title\n=====\n\n.. container:: provenance\n\n   Profile smoke\n\n{text}\n\nMore\n----\n\nOther words.\n"
    found = lean_pages.description(publish_doctree(page, settings_overrides={"doctitle_xform": False}))
    assert found == said and len(found) <= lean_pages.LONGEST + 2
