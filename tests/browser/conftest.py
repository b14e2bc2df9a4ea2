"""The built book in a headless Chromium, opened from the disk as a reader opens it.

    pytest -n 0 -m browser tests/browser        (make browser)

The pages are those of ``book/_build/html`` or of the folder that ``TEDLOC_BOOK_HTML`` names; the browser is the
Chromium on the path or the program that ``TEDLOC_CHROMIUM`` names. Where playwright, the browser or the book is
missing, every test here is skipped and says so. ``pytest`` alone leaves this folder out (marker ``browser``), since
what it tests is a book that was built before.

A test opens a page by the fixture ``open_page``. After the test that fixture holds the page to what every page of
the book promises: no error on the console, no request to another host.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

HERE = Path(__file__).resolve().parent
BUILT = Path(os.environ.get("TEDLOC_BOOK_HTML", HERE.parent.parent / "book" / "_build" / "html"))
OWN_SCHEMES = ("file", "data", "blob", "about")
WIDTHS = {"phone": 390, "desktop": 1280}
SCHEMES = ("light", "dark")


def page_names() -> list[str]:
    """Every page of the built book, as a path below its folder; empty where no book is built."""
    found = (file.relative_to(BUILT).as_posix() for file in BUILT.rglob("*.html"))
    return sorted(name for name in found if not name.startswith("_") and name != "index.html")


def pytest_generate_tests(metafunc):
    """A test with the argument ``page_name`` runs for every page, with ``width`` and ``scheme`` for each of those."""
    if "scheme" in metafunc.fixturenames:
        metafunc.parametrize("scheme", SCHEMES)
    if "width" in metafunc.fixturenames:
        metafunc.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
    if "page_name" in metafunc.fixturenames:
        metafunc.parametrize("page_name", page_names() or [None])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def book_html() -> Path:
    """The folder of the built pages."""
    if not page_names():
        pytest.skip(f"no built book in {BUILT}: make book, or name the folder of its pages by TEDLOC_BOOK_HTML")
    return BUILT


@pytest.fixture(scope="session")
def browser(book_html):
    """One headless Chromium for all tests (playwright's ``Browser``), cut off from every network."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test installs it")
    program = os.environ.get("TEDLOC_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not program or not Path(program).exists():
        pytest.skip(f"no Chromium here ({program or 'not on the path'}): install it, or name it by TEDLOC_CHROMIUM")
    with playwright.sync_playwright() as started:
        flags = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
        chromium = started.chromium.launch(executable_path=program, chromium_sandbox=False, args=flags)
        yield chromium
        chromium.close()


@dataclass
class Opened:
    """A page in the browser, and what it did.

    page:     playwright's ``Page``
    errors:   lines of the console at level error, and scripts that ended in one
    requests: addresses that were asked for, in order
    """

    page: object
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def foreign(self) -> list[str]:
        """Requests that left the book."""
        return [url for url in self.requests if urlsplit(url).scheme not in OWN_SCHEMES]

    def files(self) -> set[Path]:
        """The files of the book that the page loaded, itself included."""
        return {Path(unquote(urlsplit(url).path)) for url in self.requests if urlsplit(url).scheme == "file"}


@pytest.fixture
def open_page(browser, book_html) -> Iterator[Callable[..., Opened]]:
    """``open_page(name, width=1280, scheme="light", javascript=True)`` gives the page ``Opened``, loaded to its end."""
    contexts, opened = [], []

    def open_one(name: str, width: int = 1280, scheme: str = "light", javascript: bool = True) -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=javascript,
            has_touch=width < 600,
            reduced_motion="reduce",
            offline=True,
        )
        contexts.append(context)
        one = Opened(context.new_page())
        opened.append((name, one))
        one.page.on("console", lambda line: one.errors.append(line.text) if line.type == "error" else None)
        one.page.on("pageerror", lambda error: one.errors.append(str(error)))
        one.page.on("request", lambda request: one.requests.append(request.url))
        one.page.goto((book_html / name).as_uri(), wait_until="load")
        if javascript:  # formulas are typeset after the page has loaded
            one.page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise.then(() => null)")
        return one

    yield open_one
    for context in contexts:
        context.close()
    for name, one in opened:
        assert not one.errors, f"{name}: errors on the console"
        assert not one.foreign(), f"{name}: requests to other hosts"
