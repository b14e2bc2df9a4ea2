"""Claims stand in one file, each with the paper's sentence, and every verdict of a notebook is on one of them."""

import ast
import re

import pytest

from conftest import ROOT
from tedloc import paper
from tedloc.errors import UserError

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
JUDGES = {"judge", "judge_all", "judge_best", "judge_order", "counted", "undecided"}


def words(notebook) -> set[str]:
    """Every string of a notebook's code."""
    tree = ast.parse(notebook.read_text())
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def called(notebook, module: str) -> list[ast.Call]:
    """The calls of a module's functions in a notebook."""
    calls = [node for node in ast.walk(ast.parse(notebook.read_text())) if isinstance(node, ast.Call)]
    return [
        call for call in calls if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == module
    ]


def test_every_claim_is_judged_in_its_chapter():
    for claim in paper.claims().values():
        said = words(ROOT / "notebooks" / f"{claim.chapter}.py")
        base, hard = claim.id.removesuffix("-hard"), claim.id.endswith("-hard")
        assert claim.id in said or (hard and {base, "-hard"} <= said), claim.id


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_judges_claims_of_the_file_and_types_none_of_its_own(notebook):
    for call in called(notebook, "evidence"):
        if call.func.attr in JUDGES and isinstance(call.args[0], ast.Constant):
            claim = paper.claim(call.args[0].value)
            assert notebook.stem in (claim.chapter, "real_photos")  # where several chapters' claims are put to photos
    assert not {call.func.attr for call in called(notebook, "report")} & {"verdict", "verdicts", "Verdict"}


def test_a_claim_says_where_it_comes_from_and_what_would_decide_it():
    found = list(paper.claims().values())
    assert len({claim.text for claim in found}) == len(found)
    for claim in found:
        assert claim.own or re.search(r"Table|Figure|section|appendix|abstract", claim.source), claim.id
        assert claim.sentence and claim.metric and claim.speaks_for and claim.speaks_against
        assert not claim.text.endswith(".")


def test_no_sentence_of_the_paper_is_counted_twice_for_one_metric():
    """The same chapter and quotation stand behind two claims only where they are about different metrics."""
    quoted = [
        (claim.chapter, claim.sentence, claim.metric)
        for claim in paper.claims().values()
        if not claim.own and "“" in claim.sentence
    ]
    assert len(set(quoted)) == len(quoted)


def test_an_unknown_claim_is_refused_by_name():
    with pytest.raises(UserError, match="over-everything"):
        paper.claim("over-everything")


def test_what_a_claim_quotes_stands_in_the_paper():
    files = sorted((ROOT.parent / "shared" / "paper").glob("*.txt"))
    if not files:
        pytest.skip("no ../shared/paper beside the checkout: the paper's text is not here")
    text = re.sub(r"[\s-]+", "", files[0].read_text())  # the text has words broken at line ends
    for claim in paper.claims().values():
        for quote in re.findall(r"“([^”]+)”", claim.sentence):
            assert re.sub(r"[\s-]+", "", quote) in text, (claim.id, quote)
