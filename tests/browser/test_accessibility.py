"""Every page for readers who hear it or use no mouse: what axe-core finds, and both explorers by keyboard alone."""

from pathlib import Path

import pytest

AXE = Path(__file__).resolve().parents[2] / "book" / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = """() => axe.run(document, { resultTypes: ["violations"], preload: false }).then(({ violations }) =>
    violations.filter(({ impact }) => impact === "serious" || impact === "critical").map(({ id, impact, nodes }) =>
        `${impact}, ${id}, ${nodes.length} times: ${nodes[0].html.slice(0, 200)}`))"""
EXPLORE = "executed/explore.html"
CONTROLS = "select, button, input, canvas[tabindex]"

# Where the focus is among the controls of the piece, null outside; and whether a ring around it is seen. A radio button
# lies unseen over its picture, which then wears the ring.
FOCUS = """(root, controls) => {
    const held = document.activeElement;
    if (!root.contains(held) || held === root) return null;
    const style = getComputedStyle(held.matches("input[type=radio]") ? held.nextElementSibling : held);
    const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    return [[...root.querySelectorAll(controls)].indexOf(held), ring];
}"""

# Controls that Tab must reach: all that are seen and can be used, of each group of radio buttons the chosen one.
USABLE = """(root, controls) => [...root.querySelectorAll(controls)].flatMap((control, n) =>
    control.disabled || !control.checkVisibility() || (control.type === "radio" && !control.checked) ? [] : [n])"""


@pytest.fixture(scope="session")
def axe() -> str:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci --prefix book")
    return AXE.read_text()


@pytest.mark.parametrize("seen", [("desktop", "light"), ("desktop", "dark"), ("phone", "light")], ids="-".join)
def test_axe_finds_nothing_serious(open_page, page_name, seen, axe):
    page = open_page(page_name, {"desktop": 1280, "phone": 390}[seen[0]], seen[1]).page
    page.evaluate(axe)
    assert page.evaluate(GRAVE) == []


def test_axe_sees_a_button_without_a_name(open_page, axe):
    page = open_page("intro.html").page
    page.evaluate(axe)
    page.evaluate("() => document.querySelector('main').append(document.createElement('button'))")
    assert ["button-name" in found for found in page.evaluate(GRAVE)] == [True]


@pytest.fixture
def explore(open_page, book_html):
    if not (book_html / EXPLORE).exists():
        pytest.skip(f"{EXPLORE} is not in the built book")
    return open_page(EXPLORE).page


def tabbed(page, root: str) -> list[tuple[int, bool]]:
    """Press Tab from just before a piece until it is left: which of its controls had focus, and whether it showed."""
    piece, stops = page.locator(root), []
    piece.evaluate("root => { root.tabIndex = -1; root.focus(); }")
    while True:
        page.keyboard.press("Tab")
        stop = piece.evaluate(f"root => ({FOCUS})(root, {CONTROLS!r})")
        if stop is None:
            return stops
        assert len(stops) < 50, "Tab does not leave the piece"
        stops.append(tuple(stop))


@pytest.mark.parametrize("root", [".tedloc-explorer", ".tedloc-anchors"])
def test_tab_reaches_every_control_of_an_explorer_once_and_shows_where_it_is(explore, root):
    stops = tabbed(explore, root)
    assert [control for control, _ in stops] == explore.locator(root).evaluate(
        f"root => ({USABLE})(root, {CONTROLS!r})"
    )
    assert len(stops) >= 5 and all(ring for _, ring in stops)


def test_image_method_overlay_and_marks_are_chosen_by_keyboard(explore):
    piece, keys = explore.locator(".tedloc-explorer"), explore.keyboard

    def said(name: str) -> str:
        return piece.get_attribute(f"data-{name}")

    before = said("image")
    piece.locator("input[type=radio]:checked").focus()
    keys.press("ArrowRight")
    assert said("image") != before
    keys.press("ArrowLeft")
    assert said("image") == before
    before = said("method")
    piece.locator("select").focus()
    keys.press("ArrowDown")
    assert said("method") != before
    keys.press("ArrowUp")
    assert said("method") == before
    overlay = piece.locator("input[type=checkbox]")
    overlay.focus()
    keys.press("Space")
    assert not overlay.is_checked()
    mark = said("step")
    piece.locator("input[type=range]").focus()
    keys.press("End")
    assert said("step") != mark
    piece.locator("button.oracle").focus()
    keys.press("Enter")
    assert said("step") == mark


def test_texts_anchors_and_pairs_are_chosen_by_keyboard(explore):
    piece, keys = explore.locator(".tedloc-anchors"), explore.keyboard
    for control, attribute in (("text", "text"), ("kind", "kind"), ("first", "first"), ("second", "second")):
        choice = piece.locator(f"select.{control}")
        before, below = piece.get_attribute(f"data-{attribute}"), choice.evaluate("e => e.selectedIndex > 0")
        choice.focus()
        keys.press("ArrowUp" if below else "ArrowDown")
        if choice.locator("option:enabled").count() > 1:
            assert piece.get_attribute(f"data-{attribute}") != before, control
    for name in ("before", "after"):
        before = piece.get_attribute("data-first"), piece.get_attribute("data-second")
        piece.locator(f"canvas.{name}").focus()
        keys.press("ArrowDown" if name == "before" else "ArrowUp")
        keys.press("ArrowRight" if name == "before" else "ArrowLeft")
        now = piece.get_attribute("data-first"), piece.get_attribute("data-second")
        assert now != before, name
