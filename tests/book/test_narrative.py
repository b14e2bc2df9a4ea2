"""The pages that tell the story: what they link to is there, what they borrow is kept up to date."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace
from xml.dom import minidom

import jupytext
import pytest
import yaml
from docutils import nodes

from tedloc import fingerprints
from tedloc.book import chapters

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"


def documented(page: str) -> list[str]:
    """The modules and packages that a page of the API documents."""
    return re.search(r"package-api:: (.*)", (BOOK / page).with_suffix(".md").read_text())[1].split()


def test_every_module_is_documented_on_one_page():
    pages = [page.relative_to(BOOK) for page in (BOOK / "api").glob("*.md")]
    listed = (BOOK / "_toc.yml").read_text()
    assert all(str(page.with_suffix("")) in listed for page in pages)
    places = [name for page in pages for name in documented(str(page))]
    for module in fingerprints.every():
        private = any(part.startswith("_") for part in module.split("."))
        homes = [place for place in places if module == place or module.startswith(f"{place}.")]
        assert private or module == "tedloc" or len(homes) == 1, (module, homes)


@pytest.mark.parametrize("page", sorted((BOOK / "api").glob("*.md")), ids=lambda page: page.stem)
def test_what_a_page_of_the_api_shows_first_runs(page):
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
        exec(code, {})


def test_every_part_of_the_diagram_leads_to_a_public_name():
    """Each drawing, the wide and the tall one, links the same parts; each has a title and a description of its own."""
    drawings = minidom.parse(str(BOOK / "method.svg")).getElementsByTagName("svg")
    targets = [[link.getAttribute("href") for link in each.getElementsByTagName("a")] for each in drawings]
    assert len(drawings) == 2 and sorted(targets[0]) == sorted(targets[1]) and len(targets[0]) == 14
    for target in targets[0]:
        page, _, name = target.partition("#")
        assert any(name.removeprefix("module-").startswith(one) for one in documented(page.removeprefix("../")))
        module, *attributes = name.removeprefix("module-").split(".")
        thing = importlib.import_module(module)
        for attribute in attributes:
            assert not attribute.startswith("_")
            if not hasattr(thing, attribute):
                importlib.import_module(f"{thing.__name__}.{attribute}")
            thing = getattr(thing, attribute)
    for drawing in drawings:
        for attribute, tag in (("aria-labelledby", "title"), ("aria-describedby", "desc")):
            (element,) = drawing.getElementsByTagName(tag)
            assert drawing.getAttribute(attribute) == element.getAttribute("id")
    ids = re.findall(r' id="([^"]+)"', (BOOK / "method.svg").read_text())
    assert len(ids) == len(set(ids))


def test_the_first_page_borrows_what_the_five_minutes_glue():
    source = (ROOT / "notebooks" / "five_minutes.py").read_text()
    borrowed = re.findall(r"```\{glue\} (\S+)\n:doc: executed/five_minutes.ipynb", (BOOK / "intro.md").read_text())
    glued = re.findall(r'glue\(\s*"([^"]+)"', source)
    assert sorted(borrowed) == sorted(glued) == ["first-figure", "first-sentences", "first-verdicts"]


def test_the_first_page_lists_every_chapter_once():
    text = (BOOK / "intro.md").read_text()
    linked = re.findall(r"^\| \[[^\]]+\]\(([^)]+)\)", text, flags=re.MULTILINE)
    assert len(linked) == len(set(linked))
    listed = re.findall(r"- file: (\S+)", (BOOK / "_toc.yml").read_text())
    api_pages = {page for page in listed if page.startswith("api/")}  # those are on the first page of theirs
    assert {re.sub(r"\.(md|ipynb)$", "", link) for link in linked} == set(listed) - {"bibliography"} - api_pages


def test_the_book_begins_with_five_minutes_the_problem_and_the_method():
    parts = yaml.safe_load((BOOK / "_toc.yml").read_text())["parts"]
    first = [chapter["file"] for chapter in parts[0]["chapters"]][:3]
    assert first == [f"executed/{name}" for name in ("five_minutes", "problem", "method")]
    assert {chapter.notebook for chapter in chapters.contents()} >= {"problem", "method"}


def test_every_numbered_equation_stands_with_code_that_computes_it():
    """After each equation with a number, the next code cell shows lines of the package."""
    cells = jupytext.read(ROOT / "notebooks" / "method.py").cells
    words = [(i, cell.source) for i, cell in enumerate(cells) if cell.cell_type == "markdown"]
    numbered = [i for i, source in words if re.search(r"\(eq-\w+\)", source)]
    assert len(numbered) == 5
    for i in numbered:
        code = next(cell for cell in cells[i:] if cell.cell_type == "code")
        assert code.source.startswith("illustrations.source("), code.source


@pytest.fixture
def extension():
    spec = importlib.util.spec_from_file_location("glued_pages", BOOK / "_ext" / "glued_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_page_that_borrows_is_read_again_with_its_lender(extension):
    app = SimpleNamespace(env=SimpleNamespace(docname="intro"))
    page = nodes.section("", extension.PendingGlueReference(refdoc="executed/problem", key="headline"))
    extension.remember(app, page)
    assert extension.outdated(app, app.env, set(), {"executed/problem"}, set()) == ["intro"]
    assert extension.outdated(app, app.env, set(), {"executed/method"}, set()) == []
    extension.remember(app, nodes.section())  # it borrows no more
    assert extension.outdated(app, app.env, set(), {"executed/problem"}, set()) == []
