"""The two explorers, moved as a reader moves them, show what Python computes from the same data."""

import pytest

from tedloc.book import anchors_explorer, explorer

PAGE = "executed/explore.html"


@pytest.fixture
def html(book_html) -> str:
    if not (book_html / PAGE).exists():
        pytest.skip(f"{PAGE} is not in the built book")
    return (book_html / PAGE).read_text()


def shown(page, kind: str) -> dict[str, str]:
    """What the piece says it shows, by attribute without ``data-``."""
    attributes = page.locator(f".tedloc-{kind}").evaluate("e => [...e.attributes].map(a => [a.name, a.value])")
    return {name.removeprefix("data-"): value for name, value in attributes if name.startswith("data-")}


def agrees(found: dict[str, str], expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, float):
            assert float(found[name]) == pytest.approx(value, abs=1e-12), name
        elif isinstance(value, bool):
            assert found[name] == str(value).lower(), name
        elif isinstance(value, list):
            assert found[name] == ",".join(map(str, value)), name
        else:
            assert found[name] == ("" if value is None else str(value)), name


def move(page, selector: str, value) -> None:
    """Give a control a value and tell the page, as the control itself does."""
    page.locator(selector).evaluate(
        "(e, value) => { e.value = value; e.dispatchEvent(new Event('input', { bubbles: true }));"
        " e.dispatchEvent(new Event('change', { bubbles: true })); }",
        str(value),
    )


def test_every_image_and_method_shows_python_s_box_overlap_and_accuracy(open_page, html):
    page, data = open_page(PAGE).page, explorer.payload(html, "explorer")
    root, last = ".tedloc-explorer ", data["thresholds"] - 1
    for image in range(len(data["images"])):
        page.locator(f"{root}input[type=radio]").nth(image).check()
        for number, method in enumerate(data["methods"]):
            page.locator(f"{root}select").select_option(str(number))
            steps = {0, last // 3, method.get("oracle", 0), method.get("val") or 0, last}
            for step in sorted(steps) if "maps" in method else [0]:
                if "maps" in method:
                    move(page, f"{root}input[type=range]", step)
                agrees(shown(page, "explorer"), explorer.state(data, number, image, step))


def test_the_threshold_moves_by_keyboard_and_jumps_to_both_marks(open_page, html):
    page, data = open_page(PAGE).page, explorer.payload(html, "explorer")
    root, leading = ".tedloc-explorer ", data["methods"][data["leading"]]
    start = leading["oracle"]
    assert shown(page, "explorer")["step"] == str(start)
    slider = page.locator(f"{root}input[type=range]")
    slider.focus()
    step = start + 1 if start < data["thresholds"] - 1 else start - 1
    page.keyboard.press("ArrowRight" if step > start else "ArrowLeft")
    agrees(shown(page, "explorer"), explorer.state(data, data["leading"], 0, step))
    page.keyboard.press("Home")
    agrees(shown(page, "explorer"), explorer.state(data, data["leading"], 0, 0))
    for name in ("oracle", "val"):
        button = page.locator(f"{root}button.{name}")
        if button.is_visible():
            button.focus()
            page.keyboard.press("Enter")
            assert shown(page, "explorer")["step"] == str(leading[name])
    spoken = page.locator(f"{root}[role=status]")
    page.wait_for_function("e => e.textContent.includes('IoU')", arg=spoken.element_handle())


def test_a_tap_on_the_curve_moves_the_threshold(open_page, html):
    phone, data = open_page(PAGE, width=390), explorer.payload(html, "explorer")
    page = phone.page
    curve = page.locator(".tedloc-explorer svg.explorer-curve")
    curve.scroll_into_view_if_needed()
    size = curve.bounding_box()
    phone.tap(size["x"] + size["width"] / 2, size["y"] + size["height"] / 2)
    page.wait_for_timeout(200)
    found = shown(page, "explorer")
    assert 0.3 < float(found["threshold"]) < 0.7
    agrees(found, explorer.state(data, data["leading"], 0, int(found["step"])))


def test_every_orthogonalization_shows_python_s_cosines(open_page, html):
    page, data = open_page(PAGE).page, explorer.payload(html, "anchors")
    root, last = ".tedloc-anchors ", len(data["names"]) - 1
    for number, text in enumerate(data["texts"]):
        page.locator(f"{root}select.text").select_option(str(number))
        for place, kind in enumerate(text["kinds"]):
            if "refused" in kind:
                assert page.locator(f"{root}select.kind option").nth(place).is_disabled()
                continue
            page.locator(f"{root}select.kind").select_option(str(place))
            for first, second in ((0, 1), (last, 0), (last // 2, last // 2)):
                page.locator(f"{root}select.first").select_option(str(first))
                page.locator(f"{root}select.second").select_option(str(second))
                agrees(shown(page, "anchors"), anchors_explorer.pair(data, number, kind["name"], first, second))


def test_a_pair_is_chosen_by_pointer_and_by_arrow_keys(open_page, html):
    page, data = open_page(PAGE).page, explorer.payload(html, "anchors")
    canvas, names = page.locator(".tedloc-anchors canvas.before"), data["names"]
    canvas.scroll_into_view_if_needed()
    size = canvas.bounding_box()
    cell = size["width"] / len(names)
    page.mouse.move(size["x"] + 2.5 * cell, size["y"] + 1.5 * cell)
    assert (shown(page, "anchors")["first"], shown(page, "anchors")["second"]) == (names[1], names[2])
    page.mouse.move(0, 0)
    canvas.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert (shown(page, "anchors")["first"], shown(page, "anchors")["second"]) == (names[2], names[1])


def test_without_javascript_figures_stand_in_their_place(open_page, html):
    page = open_page(PAGE, javascript=False).page
    figures = page.locator(".tag_explorer-fallback img")
    assert figures.count() == 2
    assert all(figures.nth(n).is_visible() for n in range(2))
