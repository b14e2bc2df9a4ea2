"""The built book in a headless browser, opened from the disk as a reader opens it.

    pytest -n 0 -m browser tests/browser        (make browser)
    TEDLOC_BROWSER=firefox make browser         the same tests in Firefox

The pages are those of ``book/_build/html`` or of the folder that ``TEDLOC_BOOK_HTML`` names; the browser is the
Chromium or Firefox on the path or the program that ``TEDLOC_CHROMIUM`` or ``TEDLOC_FIREFOX`` names. Where playwright,
the browser or the book is missing, every test here is skipped and says so. ``pytest`` alone leaves this folder out
(marker ``browser``), since what it tests is a book that was built before.

A test opens a page by the fixture ``open_page``. After the test that fixture holds the page to what every page of
the book promises: no error on the console, no request to another host.
"""

import os
import shlex
import shutil
import sys
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
BROWSER = os.environ.get("TEDLOC_BROWSER") or "chromium"
PROGRAMS = {"chromium": ("chromium", "chromium-browser"), "firefox": ("firefox-esr", "firefox")}


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


def browser_program() -> str:
    """The path of the browser that was asked for."""
    if BROWSER not in PROGRAMS:
        raise pytest.UsageError(f"TEDLOC_BROWSER is {BROWSER!r}; it may be {' or '.join(PROGRAMS)}")
    variable = f"TEDLOC_{BROWSER.upper()}"
    program = os.environ.get(variable) or next(filter(None, map(shutil.which, PROGRAMS[BROWSER])), None)
    if not program or not Path(program).exists():
        pytest.skip(f"no {BROWSER.title()} here ({program or 'not on the path'}): install it, or name it by {variable}")
    return program


@pytest.fixture(scope="session")
def browsers(book_html, tmp_path_factory) -> Iterator[Callable[[str, bool], object]]:
    """``browsers(scheme, touch)`` is a headless browser cut off from every network (playwright's ``Browser``).

    Chromium is one for all tests. A Firefox is told when it starts which colour scheme it shows and whether it is
    pointed at by fingers, so there is one for each.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test installs it")
    program, running = browser_program(), {}
    with playwright.sync_playwright() as started:

        def chromium():
            flags = ["--disable-quic", "--no-first-run", "--disable-background-networking"]
            flags += ["--disable-component-update"]
            return started.chromium.launch(executable_path=program, chromium_sandbox=False, args=flags)

        def firefox(scheme: str, touch: bool):
            between = tmp_path_factory.mktemp("firefox") / "firefox"
            words = shlex.join([sys.executable, str(HERE / "firefox.py"), program])
            between.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            between.chmod(0o755)
            preferences = {
                "layout.css.prefers-color-scheme.content-override": {"dark": 0, "light": 1}[scheme],
                "ui.prefersReducedMotion": 1,
            }
            if touch:
                coarse = {"ui.primaryPointerCapabilities": 1, "ui.allPointerCapabilities": 1}
                preferences |= coarse | {"dom.w3c_touch_events.enabled": 1}
            return started.firefox.launch(
                channel="moz-firefox", executable_path=between, firefox_user_prefs=preferences, timeout=300_000
            )

        def get(scheme: str, touch: bool):
            kind = () if BROWSER == "chromium" else (scheme, touch)
            if kind not in running:
                running[kind] = chromium() if BROWSER == "chromium" else firefox(*kind)
            return running[kind]

        yield get
        for one in running.values():
            one.close()


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

    def tap(self, x: float, y: float) -> None:
        """With a finger; in Firefox, which Playwright's fingers do not reach, with the mouse."""
        (self.page.mouse.click if BROWSER == "firefox" else self.page.touchscreen.tap)(x, y)

    def files(self) -> set[Path]:
        """The files of the book that the page loaded, itself included."""
        return {Path(unquote(urlsplit(url).path)) for url in self.requests if urlsplit(url).scheme == "file"}


@pytest.fixture
def open_page(browsers, book_html) -> Iterator[Callable[..., Opened]]:
    """``open_page(name, width=1280, scheme="light", javascript=True)`` gives the page ``Opened``, loaded to its end."""
    contexts, opened = [], []

    def open_one(name: str, width: int = 1280, scheme: str = "light", javascript: bool = True) -> Opened:
        if BROWSER == "firefox" and not javascript:
            pytest.skip("Firefox has no command by which a test could switch scripts off in one page")
        phone = width < 600
        context = browsers(scheme, phone).new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=javascript,
            has_touch=phone,
            reduced_motion="reduce",
            offline=True,
        )
        contexts.append(context)
        one = Opened(context.new_page())
        opened.append((name, one))
        one.page.on("console", lambda line: one.errors.append(line.text) if line.type == "error" else None)
        one.page.on("pageerror", lambda error: one.errors.append(str(error)))
        one.page.on("request", lambda request: one.requests.append(request.url))
        path, _, query = name.partition("?")
        one.page.goto((book_html / path).as_uri() + (query and f"?{query}"), wait_until="load")
        if javascript:  # formulas are typeset after the page has loaded
            one.page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise.then(() => null)")
        return one

    yield open_one
    for context in contexts:
        context.close()
    for name, one in opened:
        assert not one.errors, f"{name}: errors on the console"
        assert not one.foreign(), f"{name}: requests to other hosts"
