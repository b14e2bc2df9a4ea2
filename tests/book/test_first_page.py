"""The first page: figure, sentences and verdicts say what the findings say, and nothing that they do not."""

import matplotlib.pyplot as plt
import pytest

from tedloc import paper
from tedloc.book import first_page

CLAIMS = ("over-teacher", "orthogonal-cl", "cheaper-than-genpromp")


def finding(profile: str, ours: float, teacher: float, holds: bool | None) -> dict:
    """Main results of four rows, and verdicts on three claims."""

    def row(method, role, mean, sd=None):
        return {
            "method": method,
            "role": role,
            "metrics": {"MaxBoxAcc": {"mean": mean, "sd": sd, "n": 3, "paper": None}},
        }

    rows = [row("TeD-Loc", "ours", ours, 1.0), row("teacher", "teacher", teacher)]
    rows += [row("BAS", "compared", 50.0), row("C2AM", "compared", 60.0)]
    label = {True: "holds", False: "does not hold", None: "cannot be decided here"}[holds]
    verdicts = [{"id": name, "holds": holds, "label": label, "evidence": "", "about": ""} for name in CLAIMS]
    story = {"title": "T", "commit": "abc", "date": "2026-01-02", "device": "cpu", "machine": "", "verdicts": verdicts}
    results = {"provenance": {"num_images": 600}, "dataset_of_paper": "CUB", "methods": rows}
    return {"profile": profile, "chapters": {"main_results": story}, "results": results}


FOUND = {
    "aviary": finding("aviary", 72.4, 43.4, True),
    "imagenette-small": finding("imagenette-small", 70.2, 68.7, False),
}


def test_of_the_other_methods_the_best_stands_for_all():
    best = first_page.best(FOUND["aviary"]["results"])
    assert best["compared"]["method"] == "C2AM" and best["ours"]["mean"] == 72.4
    assert set(best) == {"ours", "teacher", "compared"}  # no row sees no image here


def test_a_verdict_stands_in_the_column_of_its_images_and_one_that_needs_none_in_all():
    table = first_page.verdicts(FOUND)
    assert list(table.columns) == ["drawn birds", "real photos"]
    words = {name: table.loc[first_page.CLAIMS[name]].tolist() for name in first_page.CLAIMS}
    assert words["over-teacher"] == words["orthogonal-cl"] == ["holds", "does not hold"]
    assert words["cheaper-than-genpromp"] == ["holds", "holds"]
    assert words["best-maxboxacc"] == ["–", "–"]  # tested nowhere


def test_the_claims_of_the_first_page_are_claims_of_the_paper():
    assert all(not paper.claims()[name].own for name in first_page.CLAIMS)


def test_the_sentences_are_five_and_give_the_numbers_of_both_kinds_of_images():
    told = first_page.sentences(FOUND)
    assert len(told) == 5
    assert "**72 %** against 43 %" in told[3] and "**70 %** against 69 %" in told[3]
    assert "2 of 2 on drawn birds" in told[3] and "0 of 2 on real photos" in told[3]  # the clock's claim is not counted


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("found", [FOUND, {"aviary": FOUND["aviary"]}])
def test_the_figure_has_a_panel_for_each_kind_of_images_at_hand(found, stacked):
    figure = first_page.figure(found, stacked)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [first_page.KINDS[name] for name in found]
    assert "60 %  C2AM" in [text.get_text() for text in figure.axes[0].texts]
    plt.close(figure)


def test_without_results_the_page_says_so():
    assert first_page.sentences({})[3] == "No results are at hand."
