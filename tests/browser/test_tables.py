"""Tables of the book: sorted by a press on a header, by mouse or keyboard, and taken away as CSV."""

import base64
import csv
import re

import pytest

ROWS = """table => [...table.tBodies[0].rows].map(row => [...row.cells].map(
    cell => cell.textContent.replace(/\\u200b/g, '').trim()))"""


HIDDEN = """() => {
    const wide = (box) => box.scrollWidth > box.clientWidth + 1 && box.offsetParent !== null;
    const signed = (box) => box.parentElement.hasAttribute("data-scrolls")
        && getComputedStyle(box.parentElement, "::before").content !== "none";
    const words = (box) => box.textContent.trim().slice(0, 60);
    return {
        tables: [...document.querySelectorAll(".tedloc-scroll")].filter((box) => wide(box) && !signed(box)).map(words),
        covered: [...document.querySelectorAll(".tedloc-table.fits table")].filter((table) => {
            const below = table.tBodies[0].rows[0].getBoundingClientRect().top;
            const cells = [...(table.tHead?.querySelectorAll("th") ?? [])];
            const heads = cells.map((cell) => cell.getBoundingClientRect().bottom);
            return table.offsetParent !== null && Math.max(...heads) > below + 1;
        }).map(words),
        code: [...document.querySelectorAll(".bd-article pre")].filter(wide).map(words),
    };
}"""


@pytest.mark.parametrize("across", [1280, 1440])
def test_no_column_is_hidden_without_a_sign_and_no_line_of_code_is_cut(open_page, page_name, across):
    """Nor does a head that stays in view cover a row before the page is scrolled."""
    assert open_page(page_name, across).page.evaluate(HIDDEN) == {"tables": [], "covered": [], "code": []}


@pytest.fixture
def tables(open_page, book_html, page_name):
    """The page, and its tables that can be sorted; skipped where there are none."""
    if 'class="tedloc-table' not in (book_html / page_name).read_text():
        pytest.skip("no table on this page")
    page = open_page(page_name).page
    return page, page.locator("table.tedloc-sortable").all()


def leading(text: str) -> float | None:
    """The number that a cell begins with; None for words, dashes and empty cells."""
    found = re.match(r"[+−-]?\d[\d \u2009\u202f]*(\.\d+)?", text)
    return float(re.sub(r"[^\d.+-]", "", found[0].replace("−", "-"))) if found else None


def ordered(texts: list[str], falling: bool) -> bool:
    values = [leading(text) for text in texts]
    numbers = [value for value in values if value is not None]
    first_word = values.index(None) if None in values else len(values)
    return values[:first_word] == numbers == sorted(numbers, reverse=falling)


def test_a_column_of_numbers_is_sorted_both_ways_and_back(tables):
    page, found = tables
    pressed = 0
    for table in found:
        before = table.evaluate(ROWS)
        for button in table.locator("button.tedloc-sort").all():
            if not button.is_visible():
                continue
            header = button.locator("xpath=..")
            column = header.evaluate("""e => { const row = [...e.parentElement.cells];
                return row.slice(0, row.indexOf(e)).reduce((sum, cell) => sum + cell.colSpan, 0); }""")
            texts = [row[column] for row in before]
            numeric = [leading(text) is not None and not re.search(r"[a-z]{3}", text) for text in texts]
            if column == 0 or sum(numeric) < 2 or any(re.search(r"[A-Za-z]{3}|×", text) for text in texts):
                continue  # words: the order of a language is not this test's matter
            for state, falling in (("descending", True), ("ascending", False)):
                button.press("Enter")
                assert header.get_attribute("aria-sort") == state
                after = table.evaluate(ROWS)
                assert ordered([row[column] for row in after], falling), (texts, [row[column] for row in after])
                assert sorted(row[1:] for row in after) == sorted(row[1:] for row in before)
            button.click()
            assert header.get_attribute("aria-sort") is None
            assert table.evaluate(ROWS) == before
            pressed += 1
            break  # one column of each table
    if not pressed:
        pytest.skip("no column of numbers on this page")


def test_a_table_s_csv_has_its_rows(tables):
    page, _ = tables
    for table in page.locator(".tedloc-table").all():
        link = table.locator("a.tedloc-csv")
        if not link.count():
            continue
        content = base64.b64decode(link.get_attribute("href").partition("base64,")[2]).decode()
        lines = [line for line in content.splitlines(keepends=True)]
        while lines[0].startswith("#"):
            lines.pop(0)
        header, *rows = list(csv.reader(lines))
        shown = table.locator("table").evaluate(ROWS)
        assert len(rows) == len(shown) and {len(row) for row in rows} == {len(header)} == {len(shown[0])}
        assert link.get_attribute("download").endswith(".csv")
