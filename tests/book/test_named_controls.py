"""What the theme leaves unnamed on a page has a name once the book is built."""

import importlib.util
from pathlib import Path

import pytest

EXTENSION = Path(__file__).resolve().parents[2] / "book" / "_ext" / "named_controls.py"


@pytest.fixture(scope="module")
def named():
    spec = importlib.util.spec_from_file_location("named_controls", EXTENSION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.named


FOLD = '<details><summary><span class="toctree-toggle" role="presentation"><i></i></span></summary><ul></ul></details>'


@pytest.mark.parametrize(
    "link", ['<a class="reference internal" href="api.html">', '<a class="current reference internal" href="#">']
)
def test_what_folds_chapters_away_says_below_which_page_they_are(named, link):
    page = named(f"<li>{link}The package</a>{FOLD}</li>")
    assert '<summary aria-label="Pages below The package"><span' in page


def test_controls_with_words_on_them_are_called_by_these(named):
    button = '<button class="btn search-button-field b" title="Search" aria-label="Search"><span>Search</span>'
    assert "aria-label" not in named(button) and 'title="Search"' in named(button)
    assert named('<summary aria-label="Toggle hidden content">Show') == "<summary>Show"


def test_sources_are_items_of_their_list_and_the_sidebar_is_a_landmark(named):
    page = named('<div role="list"><div class="citation" role="doc-biblioentry"></div></div>')
    assert page == '<div role="list"><div class="citation" role="listitem"></div></div>'
    assert 'role="complementary" aria-label=' in named('<div class="bd-sidebar-primary bd-sidebar">')


def test_a_page_met_twice_stays_as_it_is(named):
    page = named(f'<div class="bd-sidebar-primary bd-sidebar"><a class="reference internal" href="#">A</a>{FOLD}</div>')
    assert named(page) == page
