"""What the chapters found is read from executed notebooks, kept with the package, and shown with its origin."""

import json
from types import SimpleNamespace

import nbformat
import pytest

from tedloc import paper, paths, profiles
from tedloc.book import __main__ as book
from tedloc.book import chapters, findings, report
from tedloc.errors import UserError

STORY = {"commit": "abc", "date": "2026-01-02", "device": "cpu", "machine": "Linux", "seconds": 12.5}


def told(name: str, holds: bool | None, evidence: str) -> report.Verdict:
    return report.Verdict(paper.claim(name), holds, evidence, "birds")


BETTER = told("over-teacher", True, "+2 points")
CONTROL = told("over-centre", None, "+1 point")
LESS = told("adding-i-cl", False, "−3")
COUNTED = told("ts-cam-cheaper", True, "fewer")
RUN = SimpleNamespace(
    metrics={
        "provenance": {
            "dataset": "aviary",
            "split": "test",
            "num_images": 600,
            "synthetic": True,
            "data": "f0",
            "device": "cpu",
            "machine": "Linux",
            "commit": "abc",
        }
    }
)
CELLS = [
    {"row": "TeD-Loc", "column": "MaxBoxAcc", "paper": 98.7, "ours": [80.0, 82.0]},
    {"row": "TeD-Loc", "column": "Top-1 Loc", "paper": float("nan"), "ours": [70.0, 70.0]},
    {"row": "SCLIP", "column": "MaxBoxAcc", "paper": 85.8, "ours": "needs weights: CLIP"},
    {"row": "BAS", "column": "MaxBoxAcc", "paper": 94.6, "ours": [60.0]},
]
HEADLINE = findings.headline(profiles.get("aviary"), RUN, CELLS, {"TeD-Loc": "ours"})


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Two chapters of the book's profile, one of its own, and one that reads them."""
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    monkeypatch.setattr(paths, "checkout", lambda: tmp_path)
    monkeypatch.setattr(chapters, "RESULTS", tmp_path / "results")
    monkeypatch.delenv("TEDLOC_DATA", raising=False)
    for name in ("main_results", "ablation", "what_holds"):
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        tags = ' tags=["remove-input", "reads-other-chapters"]' if name == "what_holds" else ""
        (tmp_path / "notebooks" / f"{name}.py").write_text(f"# %% [markdown]\n# # T\n\n# %%{tags}\n1\n")
    listed = ("what_holds", "main_results", "ablation", "imagenette-small/main_results")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n" + "".join(f"  - file: executed/{name}\n" for name in listed)
    )
    return {chapter.name: chapter for chapter in chapters.contents()}


def execute(chapter: chapters.Chapter, profile: str, *outputs: report.Table, current: bool = True) -> None:
    """Leave an executed notebook as papermill would, with the data of these tables."""
    v4 = nbformat.v4
    cell = v4.new_code_cell(
        "x",
        outputs=[
            v4.new_output("display_data", data={"text/plain": "x"}, metadata=shown._repr_mimebundle_()[1])
            for shown in outputs
        ],
    )
    page = v4.new_notebook(cells=[v4.new_markdown_cell(f"# Title of {chapter.notebook}\n\nWords."), cell])
    parameters = {"profile": profile}
    made_from = chapters.fingerprint(chapter, parameters, ()) if current else "before"
    page.metadata["tedloc"] = STORY | {"profile": profile, "parameters": parameters, "fingerprint": made_from}
    chapter.executed.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(page, chapter.executed)


def execute_all(built) -> None:
    main = report.comparison(CELLS, data=HEADLINE)
    execute(built["main_results"], "aviary", main, report.verdicts([BETTER, CONTROL]))
    execute(built["ablation"], "aviary", report.verdicts([LESS]))
    chapters.leave_out(built["imagenette-small/main_results"])


def test_headline_gives_mean_deviation_and_number_of_seeds_and_leaves_out_what_was_not_run():
    methods = {method["method"]: method for method in HEADLINE["methods"]}
    assert set(methods) == {"TeD-Loc", "BAS"} and methods["BAS"]["role"] == "compared"
    assert methods["TeD-Loc"]["metrics"]["MaxBoxAcc"] == {"mean": 81.0, "sd": 1.4142, "n": 2, "paper": 98.7}
    assert methods["TeD-Loc"]["metrics"]["Top-1 Loc"]["paper"] is None
    assert methods["BAS"]["metrics"]["MaxBoxAcc"]["sd"] is None
    assert HEADLINE["provenance"]["data"] == "f0" and HEADLINE["provenance"]["seeds"] == list(
        profiles.get("aviary").seeds
    )


def test_what_chapters_found_is_read_from_their_notebooks_by_profile(built):
    assert findings.computed("aviary") == {}
    execute_all(built)
    found = findings.computed("aviary")
    assert list(found) == ["aviary"] and found["aviary"]["results"] == HEADLINE
    assert found["aviary"]["chapters"]["ablation"]["title"] == "Title of ablation"
    assert findings.computed("smoke") == {}


def test_a_record_keeps_every_verdict_and_where_it_comes_from(built):
    execute_all(built)
    assert findings.record() == ["aviary"]
    kept = findings.kept()["aviary"]
    assert kept == findings.computed("aviary")["aviary"] | {"recorded": kept["recorded"]}
    assert findings.origin(kept) == "stored, computed 2026-01-02 at commit abc"
    assert findings.origin(findings.computed("aviary")["aviary"]) == "computed 2026-01-02 at commit abc"


def test_nothing_stale_incomplete_or_meaningless_is_recorded(built):
    with pytest.raises(UserError, match="no chapter has been executed"):
        findings.record()
    execute_all(built)
    execute(built["ablation"], "aviary", current=False)
    with pytest.raises(UserError, match="chapter ablation was not executed in the profile 'aviary'.*--only ablation"):
        findings.record()
    built["ablation"].executed.unlink()
    with pytest.raises(UserError, match="chapter ablation was not executed"):
        findings.record()
    for name in ("main_results", "ablation"):
        execute(built[name], "smoke")
    with pytest.raises(UserError, match="no chapter has been executed in a profile whose numbers mean something"):
        findings.record()
    assert findings.kept() == {}


def test_recording_one_profile_keeps_what_was_stored_of_another(built):
    execute(built["imagenette-small/main_results"], "imagenette-small", report.verdicts([BETTER]))
    assert findings.record() == ["imagenette-small"]
    execute_all(built)
    assert findings.record() == ["aviary"] and set(findings.kept()) == {"aviary", "imagenette-small"}


def test_a_page_that_reads_others_comes_last_and_changes_with_them(built):
    reader, other = built["what_holds"], built["ablation"]
    assert list(built)[0] == "what_holds" and chapters.in_order(list(built.values()))[-1] == [reader]
    prints = [[chapters.fingerprint(chapter, {}, ()) for chapter in (reader, other)]]
    elsewhere = chapters.RESULTS / "imagenette-small.json"
    for change in (lambda: execute_all(built), findings.record, lambda: elsewhere.write_text("{}")):
        change()
        prints.append([chapters.fingerprint(chapter, {}, ()) for chapter in (reader, other)])
    before, executed, recorded, stored_elsewhere = (first for first, _ in prints)
    assert before != executed == recorded != stored_elsewhere  # what is computed here is not shown from the store
    assert len({second for _, second in prints}) == 1


def test_the_book_runs_such_a_page_after_all_others(built, monkeypatch):
    ran = []
    monkeypatch.setattr(book, "_execute", lambda waiting, left: ran.append([chapter.name for chapter, _ in waiting]))
    book.run("aviary")
    assert ran == [["main_results", "ablation", "imagenette-small/main_results"], ["what_holds"]]


def test_claims_of_two_profiles_share_a_row_and_what_was_not_run_says_so(built):
    execute_all(built)
    worse = told("over-teacher", False, "−1 point").to_json()
    chapter = STORY | {"title": "Photos", "verdicts": [worse]}
    photos = {"profile": "imagenette-small", "chapters": {"main_results": chapter}}
    both = findings.computed("aviary") | {"imagenette-small": photos}
    claims = findings.claims(both.values())
    assert [(claim["name"], claim["origin"], claim["own"]) for claim in claims] == [
        (each.claim.text, each.claim.source, each is CONTROL) for each in (BETTER, CONTROL, LESS)
    ]
    columns = {"birds": ["aviary"], "photos": ["imagenette-small"], "the paper's": ["cub", "ilsvrc"]}
    cells = findings.claims_table(claims, columns, both).cells
    assert list(cells.iloc[0]) == ["holds\n+2 points. On birds", "does not hold\n−1 point. On birds", "not run here"]
    assert list(cells.iloc[2]) == ["does not hold\n−3. On birds", "–", "not run here"]
    assert list(cells.index) == [f"{each.claim.text}\n{each.claim.source}" for each in (BETTER, CONTROL, LESS)]
    assert findings.counts(claims, "aviary") == {"holds": 1, "does not hold": 1, "cannot be decided here": 1}


def test_what_is_stored_with_the_package_is_whole():
    for name, finding in findings.kept().items():
        assert name == finding["profile"] in profiles.PROFILES and name != findings.SMOKE
        assert finding["chapters"] and all(story["commit"] for story in finding["chapters"].values())
        told = [verdict for story in finding["chapters"].values() for verdict in story["verdicts"]]
        assert {verdict["holds"] for verdict in told} <= {True, False, None}
        assert all(verdict["id"] in paper.claims() and verdict["about"] for verdict in told)
        assert len(json.dumps(finding)) < 200_000


def two_profiles() -> dict[str, dict]:
    """Findings of birds and of photos: the first claim holds in both, the second in one; a third needs no images."""

    def finding(profile: str, *holds: bool | None) -> dict:
        tested = (BETTER, LESS, COUNTED)
        known = [told(one.claim.id, value, "e").to_json() for one, value in zip(tested, holds, strict=True)]
        return {"profile": profile, "chapters": {"main_results": STORY | {"title": "T", "verdicts": known}}}

    return {
        "aviary": finding("aviary", True, False, True),
        "imagenette-small": finding("imagenette-small", True, True, True),
    }


def test_what_holds_everywhere_and_what_is_refuted_is_told_by_name():
    found = two_profiles()
    claims, both = findings.claims(found.values()), ["aviary", "imagenette-small"]
    assert findings.everywhere(claims, both) == [BETTER.claim.text]
    assert findings.everywhere(claims, both[:1]) == []  # one profile is not everywhere
    assert findings.everywhere(claims, [*both, "cub"]) == []
    assert findings.refuted(claims, both) == [(LESS.claim.text, "aviary")]


def test_the_summary_counts_a_profiles_verdicts_and_leaves_empty_what_was_not_run():
    found = two_profiles()
    table = findings.summary(findings.claims(found.values()), found, ["aviary", "cub"])
    assert table.loc["aviary"].tolist()[:4] == [2, 1, 1, 0]  # what was counted without images is not among them
    assert table.loc["aviary", "where the verdicts come from"] == "computed 2026-01-02 at commit abc"
    assert table.loc["cub"].isna().tolist() == [True] * 4 + [False]
    assert table.loc["cub", "where the verdicts come from"] == report.NOT_RUN


def test_a_stored_claim_that_the_book_does_not_make_any_more_is_left_out():
    found = two_profiles()
    found["aviary"]["chapters"]["main_results"]["verdicts"].append(BETTER.to_json() | {"id": "given-up"})
    assert len(findings.claims(found.values())) == 3


def test_the_page_shows_what_is_computed_here_and_else_what_is_kept(built):
    execute(built["imagenette-small/main_results"], "imagenette-small", report.verdicts([CONTROL]))
    findings.record()
    execute(built["imagenette-small/main_results"], "imagenette-small", report.verdicts([BETTER]))
    execute(built["main_results"], "smoke", report.verdicts([BETTER]))
    found = findings.at_hand("smoke")
    assert (
        "recorded" not in found["imagenette-small"] and findings.claims([found["imagenette-small"]])[0]["own"] is False
    )
    built["imagenette-small/main_results"].executed.unlink()
    found = findings.at_hand("smoke")
    assert "recorded" in found["imagenette-small"] and set(found) == {"smoke", "imagenette-small"}
    assert list(findings.page_columns("smoke", found).values()) == [
        ["smoke"],
        ["aviary"],
        ["imagenette-small"],
        ["cub", "ilsvrc"],
    ]
