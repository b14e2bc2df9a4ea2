"""Figures come to a page in the format that suits them, and pages say in their head what they are about."""

import importlib.util
import unicodedata
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


DRAWN_AS_THEY_ARE = ["ba$$in", "$5_bill_or_$10_bill", r"a\$b", "$x^2$", "50 % {off}", "one\ntwo", "cre\u0300me"]


@pytest.mark.parametrize("name", DRAWN_AS_THEY_ARE)
def test_names_are_drawn_letter_by_letter(name):
    figure = Figure()
    text = figure.text(0, 0, plots.written(name))
    figure.draw_without_rendering()
    shown, formula = text._preprocess_math(text.get_text())
    assert shown == unicodedata.normalize("NFC", name) and not formula
    panel = {"image": np.zeros((8, 8, 3)), "title": name}
    assert plots.picture(plots.grid_of_localizations([[panel]], [name], [name]))


def test_letters_that_no_font_has_are_told_by_their_code(capsys, recwarn):
    assert plots.written("猫 a") in ("猫 a", "[U+732B] a")
    assert plots.written("\U000f0000 a") == "[U+F0000] a"
    assert "no font here has" in capsys.readouterr().err
    plots.picture(plots.grid_of_localizations([[{"image": np.zeros((8, 8, 3)), "title": "猫 \U000f0000"}]]))
    assert not [warning for warning in recwarn if "lyph" in str(warning.message)]
    plots.written("\U000f0000")
    assert not capsys.readouterr().err  # it was said


def test_letters_of_another_installed_font_are_taken_from_it(monkeypatch):
    usual = plots.font_manager.findfont("DejaVu Sans")
    other = next(font for font in plots.font_manager.fontManager.ttflist if font.name == "STIXGeneral")
    monkeypatch.setattr(plots, "_has", lambda font, letter: font == (usual if letter.isascii() else other.fname))
    for _ in range(2):  # whoever sets the style anew
        monkeypatch.setitem(plots.plt.rcParams, "font.sans-serif", ["DejaVu Sans"])
        assert plots.written("aℌ") == "aℌ"
        assert plots.plt.rcParams["font.sans-serif"] == ["DejaVu Sans", "STIXGeneral"]


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
