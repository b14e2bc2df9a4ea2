"""Every page of the book, on a phone and on a desk, in both colour schemes: what a reader may count on.

Contrast and layout are measured in the browser by ``checks.js``. That no page logs an error or asks another host is
checked by ``open_page`` itself.
"""

from pathlib import Path

CHECKS = Path(__file__).with_name("checks.js").read_text()
WEIGHT = 2_000_000  # bytes a page may load before it is read
APART = ("/mathjax/",)  # counted apart: one file, the same for all pages


def test_page(open_page, page_name, width, scheme):
    opened = open_page(page_name, width, scheme)
    found = opened.page.evaluate(CHECKS)
    faults = {
        "language and title": not (found["lang"] == "en" and found["title"].strip()),
        "theme follows the reader's": found["theme"] != scheme,
        "wider than the screen": found["wider"],
        "contrast below AA": found["lowContrast"],
        "headings": disorder(found["headings"]),
        "pictures not loaded": [i["src"] for i in found["pictures"] if not i["loaded"]],
        "pictures without a description": [i["src"] for i in found["pictures"] if not described(i)],
        "left as source text": found["leftovers"],
        "formulas not typeset": found["rawFormulas"],
        f"weight over {WEIGHT}": weight(opened) > WEIGHT and heaviest(opened),
    }
    faults = {name: fault for name, fault in faults.items() if fault}
    assert not faults, "\n".join(f"{name}: {fault}" for name, fault in faults.items())


def disorder(headings: list) -> list[str]:
    """One heading of level 1, first; no level below it skipped on the way down."""
    levels = [level for level, _ in headings]
    found = [] if levels[:1] == [1] and levels.count(1) == 1 else [f"h1 stands {levels.count(1)} times: {headings[:3]}"]
    pairs = zip(headings, headings[1:])
    return found + [f"h{b} {text!r} follows h{a}" for (a, _), (b, text) in pairs if b > a + 1]


def described(picture: dict) -> bool:
    """A description in words; what an extension makes of a file's name is none."""
    alt = picture["alt"].strip()
    return picture["decorative"] or (len(alt) > 3 and not alt.startswith("_images/") and "/_images" not in alt)


def weighed(opened) -> list[tuple[int, str]]:
    """Bytes and name of each file that the page loaded, the heaviest first."""
    files = [file for file in opened.files() if not any(part in file.as_posix() for part in APART)]
    return sorted(((file.stat().st_size, file.name) for file in files), reverse=True)


def weight(opened) -> int:
    return sum(size for size, _ in weighed(opened))


def heaviest(opened) -> list[tuple[int, str]]:
    return [(weight(opened), "in all"), *weighed(opened)[:5]]
