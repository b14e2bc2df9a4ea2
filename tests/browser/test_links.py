"""Every link inside the book leads somewhere: to a page or file of it, and to the place on the page. No browser."""

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page offers as targets, what it refers to, and which of that it loads by itself."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.references, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        self.references += [values[name] for name in ("href", "xlink:href", "src") if values.get(name)]
        self.loaded += [values["src"]] if values.get("src") else []
        self.loaded += [values["href"]] if tag == "link" and values.get("href") else []


@cache
def parsed(file: Path) -> Page:
    return Page(file.read_text())


def test_links_of_a_page_lead_somewhere(book_html, page_name):
    here, lost = book_html / page_name, []
    for reference in parsed(here).references:
        parts = urlsplit(reference)
        if parts.scheme or parts.netloc:
            assert parts.scheme in ("https", "http", "mailto", "data"), reference
            continue
        target = (here.parent / unquote(parts.path)).resolve() if parts.path else here
        if not target.is_file():
            lost.append(f"{reference}: no such file")
        elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in parsed(target).ids:
            lost.append(f"{reference}: no such place on the page")
    assert not lost


def test_pages_load_nothing_from_elsewhere(book_html, page_name):
    """Links may lead out; scripts, styles, pictures and fonts may not."""

    page = parsed(book_html / page_name)
    assert not [address for address in page.loaded if urlsplit(address).netloc]


def test_every_page_can_be_reached_from_the_first(book_html):
    """By links alone; Sphinx's own index and search pages included."""
    first = book_html / "intro.html"
    seen, waiting = {first}, [first]
    while waiting:
        here = waiting.pop()
        for reference in parsed(here).references:
            parts = urlsplit(reference)
            target = (here.parent / unquote(parts.path)).resolve() if parts.path and not parts.scheme else here
            if target.suffix == ".html" and target.is_file() and target not in seen:
                seen.add(target)
                waiting.append(target)
    ours = {file for file in book_html.rglob("*.html") if not file.relative_to(book_html).parts[0].startswith("_")}
    unreached = {file.name for file in ours - seen} - {"index.html"}
    assert unreached <= {"py-modindex.html"}
