"""A page on paper: its text over the sheet's width and nothing that can only be pressed, black on white."""

import pytest

from tests.browser import conftest

pytestmark = pytest.mark.skipif(conftest.BROWSER != "chromium", reason="only Chromium shows a test how it prints")
SHEET = 680  # CSS pixels between the margins of A4
ASIDE = ".bd-sidebar-primary, .bd-sidebar-secondary, .bd-header-article, footer, nav, .headerlink, .copybtn"
ON_PAPER = """(aside) => {
    const seen = (e) => e.checkVisibility();
    const say = (e) => `${e.tagName} ${e.getAttribute("class")}: ${e.textContent.trim().slice(0, 40)}`;
    const width = document.documentElement.clientWidth;
    const drawn = [...document.querySelectorAll("main *")].filter(
        (e) => seen(e) && !e.closest("mjx-assistive-mml, .explorer-said") && !e.parentElement.closest("svg"));
    const hides = ({ overflowX, display }) => overflowX !== "visible" && display !== "inline";
    return {
        titles: [...document.querySelectorAll("h1")].filter(seen).length,
        aside: [...document.querySelectorAll(aside)].filter(seen).map(say),
        wider: drawn.filter((e) => e.getBoundingClientRect().right > width + 1).map(say),
        cut: drawn.filter((e) => hides(getComputedStyle(e)) && e.scrollWidth > e.clientWidth + 1).map(say),
    };
}"""


def test_on_paper_a_page_is_its_text_and_nothing_is_cut(open_page, page_name):
    page = open_page(page_name, width=SHEET).page
    page.emulate_media(media="print", reduced_motion="reduce")
    assert page.evaluate(ON_PAPER, ASIDE) == {"titles": 1, "aside": [], "wider": [], "cut": []}


def test_a_page_read_in_the_dark_is_printed_in_the_light(open_page):
    page = open_page("limits.html", scheme="dark").page
    page.evaluate(
        "() => addEventListener('beforeprint', () => { window.printed = document.documentElement.dataset.theme; })"
    )
    assert page.pdf(prefer_css_page_size=True, print_background=True).startswith(b"%PDF-")
    assert page.evaluate("() => [window.printed, document.documentElement.dataset.theme]") == ["light", "dark"]
