"""Tables and figures say what they must: numbers, missing runs, provenance, verdicts."""

import base64
import io
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter

from tedloc import paper, plots
from tedloc.book import report
from tedloc.book import table as tables
from tedloc.errors import UserError

matplotlib.use("Agg")

ROWS = [
    {"row": "TeD-Loc", "paper": 98.7, "ours": [80.0, 82.0, 84.0]},
    {"row": "BAS", "paper": 94.6, "ours": None},
]


def test_seeds_show_mean_sample_deviation_and_count():
    assert report.measured([80.0, 82.0, 84.0]) == "82.0 ± 2.0 (n=3)"
    assert report.measured([80.0]) == report.measured(80.0) == "80.0"


def test_one_is_singular():
    assert [report.plural(n, "seed") for n in (0, 1, 3)] == ["0 seeds", "1 seed", "3 seeds"]


def test_what_was_not_run_says_so_and_has_no_difference():
    shown = report.comparison(ROWS).cells.loc["BAS"]
    assert list(shown) == ["94.6", "not run here", "–"]


def test_a_reason_stands_where_a_number_cannot_and_leaves_its_column_one_of_numbers():
    rows = [
        {"row": "SCLIP", "paper": 85.8, "ours": "needs weights: CLIP"},
        {"row": "TeD-Loc", "paper": 98.7, "ours": 90.0},
    ]
    shown = report.comparison(rows)
    assert shown.cells.loc["SCLIP", "ours"] == "needs weights: CLIP" and np.isnan(shown.numbers.loc["SCLIP", "ours"])
    assert shown.to_markdown().splitlines()[1] == "| :-- | --: | --: | --: |"
    assert "aside" in shown._repr_html_()


def test_difference_is_ours_minus_paper_with_a_true_minus_sign():
    table = report.comparison(ROWS)
    assert table.cells.loc["TeD-Loc", "difference"] == "−16.7"
    assert table.numbers.loc["TeD-Loc", "difference"] == pytest.approx(-16.7)


def test_what_rounds_to_zero_has_no_sign():
    assert report.number(-0.004, 2, signed=True) == report.number(0.004, 2, signed=True) == "0.00"
    assert report.number(0.06, 1, signed=True) == "+0.1"


def test_no_difference_is_shown_between_different_data_sets():
    table = report.comparison(ROWS, report.measured_on(dataset="aviary", synthetic=True), paper_dataset="CUB")
    assert list(table.cells.columns) == ["paper", "ours"]
    assert "other data" in table.caption and "synthetic" in table.caption
    assert "difference" in report.comparison(ROWS, {"dataset": "cub"}, paper_dataset="CUB").cells.columns


def test_several_metrics_get_one_pair_of_columns_each():
    rows = [{**row, "column": column} for row in ROWS for column in ("MaxBoxAcc", "Top-1 Loc")]
    cells = report.comparison(rows).cells
    assert list(cells.columns.get_level_values(0).unique()) == ["MaxBoxAcc", "Top-1 Loc"]
    assert list(cells.index) == ["TeD-Loc", "BAS"]


def test_badge_names_data_images_seeds_device_and_threshold():
    line = report.badge(
        {
            "dataset": "aviary",
            "split": "test",
            "num_images": 6000,
            "seeds": (0, 1),
            "device": "cpu",
            "threshold": "carried over from val",
            "commit": "abc",
        }
    )
    expected = (
        "aviary, test split",
        "6 000 images",
        "seeds 0, 1",
        "cpu",
        "carried over from val",
        "commit abc",
    )
    for part in expected:
        assert part in line
    assert "synthetic" not in line


def test_badge_refuses_unknown_keys():
    with pytest.raises(UserError, match="colour"):
        report.badge({"colour": "blue"})


def test_html_escapes_text_scrolls_and_carries_the_books_table_class():
    page = report.plain_table(pd.DataFrame({"note": ["a < b & c"]}), caption="x < y")._repr_html_()
    assert "a &lt; b &amp; c" in page and "x &lt; y" in page
    assert 'class="dataframe"' in page and "overflow-x: auto" in page


def test_rows_of_one_name_are_grouped_below_it():
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0]}, index=["GenPromp", "GenPromp", "TS-CAM"])
    page = report.plain_table(frame)._repr_html_().replace("\u200b", "")
    assert page.count(">GenPromp<") == page.count(">TS-CAM<") == 1
    assert all(f">{number}.0<" in page for number in (1, 2, 3))


def test_markdown_aligns_numbers_right_and_words_left():
    frame = pd.DataFrame({"n": [1.25], "word": ["finch"]}, index=["a|b"])
    lines = report.plain_table(frame, decimals=2).to_markdown().splitlines()
    assert lines[1] == "| :-- | --: | :-- |"
    assert lines[2] == "| a\\|b | 1.25 | finch |"


def test_numbers_keep_fixed_decimals_and_integers_none():
    cells = report.plain_table(pd.DataFrame({"f": [1.0, np.nan], "i": [12345, 2], "b": [True, False]})).cells
    assert cells.values.tolist() == [["1.0", "12 345", "yes"], ["–", "2", "no"]]


MEASURED = {"dataset": "aviary", "split": "test", "synthetic": True, "seeds": (0, 1, 2), "commit": "abc"}


def test_every_part_of_the_provenance_is_a_badge_and_the_same_words_stand_in_plain_text():
    shown = report.comparison(ROWS, MEASURED, caption="Table 1.")
    page = shown._repr_html_()
    for words in ("aviary, test split", "synthetic images", "seeds 0, 1, 2", "commit abc"):
        assert f">{words}</span>" in page and words in shown.caption and words in shown.to_markdown()
    assert page.count('role="listitem"') == 4 and 'aria-label="Measured on"' in page
    assert "tedloc-badges" not in report.comparison(ROWS)._repr_html_()


def test_what_was_not_run_is_marked_apart_from_a_dash():
    page = report.comparison(ROWS)._repr_html_()
    assert re.search(r'class="[^"]*aside not-run[^"]*"[^>]*>not run here<', page)
    assert re.search(r'class="[^"]*aside ?"[^>]*>–<', page)


def downloaded(shown: report.Table) -> tuple[list[str], pd.DataFrame]:
    """The comment lines and the rows of the file that a reader of the page downloads."""
    link = r'download="[a-z0-9-]+\.csv" href="data:text/csv;charset=utf-8;base64,([^"]+)"'
    encoded = re.search(link, shown._repr_html_())
    text = base64.b64decode(encoded[1]).decode()
    return [line for line in text.splitlines() if line.startswith("# ")], pd.read_csv(io.StringIO(text), comment="#")


def test_the_download_holds_the_numbers_at_full_precision_and_says_where_they_come_from():
    rows = [{"row": "A", "paper": 1.0, "ours": [1 / 3, 2 / 3]}, {"row": "B, or not", "paper": None, "ours": None}]
    about, read = downloaded(report.comparison(rows, MEASURED, caption="Table 1, CUB."))
    assert about == ["# Table 1, CUB.", "# " + report.badge(MEASURED)]
    assert list(read.columns) == ["row", "paper", "ours", "difference"] and list(read["row"]) == ["A", "B, or not"]
    assert float(read["ours"][0]) == np.mean([1 / 3, 2 / 3]) and read["ours"][1] == "not run here"
    assert read["paper"].isna()[1]


def test_columns_of_two_levels_and_rows_of_one_name_keep_their_names_in_the_download():
    frame = pd.DataFrame({("MaxBoxAcc", "paper"): [1.5, 2.5]}, index=["GenPromp", "GenPromp"])
    _, read = downloaded(report.plain_table(frame))
    assert list(read.columns) == ["row", "MaxBoxAcc paper"] and list(read["row"]) == ["GenPromp", "GenPromp"]


def test_a_second_line_of_a_cell_is_a_note_below_it_and_the_first_keeps_its_colour():
    cells = pd.DataFrame({"verdict": ["holds\n3 > 2"]}, index=["A < B\nTable 1"])
    shown = report.Table(cells, cells, colours={"holds": "blue"})
    page = shown._repr_html_()
    assert re.search(r'>holds<span class="tedloc-note"[^>]*>3 &gt; 2</span>', page) and "color: blue" in page
    assert re.search(r'>A &lt; B<span class="tedloc-note"[^>]*>Table 1</span>', page)
    assert "| A < B: Table 1 | holds: 3 > 2 |" in shown.to_markdown() and "A < B: Table 1,holds: 3 > 2" in shown.csv()


def test_a_large_table_is_no_burden_to_its_page():
    frame = pd.DataFrame({"x": np.random.default_rng(0).random(2000)})
    assert len(report.plain_table(frame).csv()) > tables.LARGEST_CSV
    assert "data:text/csv" not in report.plain_table(frame)._repr_html_()


def test_verdicts_travel_as_data_with_their_claim_and_what_they_are_about():
    found = [
        report.Verdict(paper.claim("over-teacher"), True, "3 > 2", "aviary; 5 worlds"),
        report.Verdict(paper.claim("over-cam"), None, "?", "aviary; 1 world"),
    ]
    data, about = DisplayFormatter().format(report.verdicts(found))
    assert {"text/html", "text/plain"} <= set(data) <= {"text/html", "text/markdown", "text/plain"}
    (shown,) = about.values()
    assert shown == [
        {"id": "over-teacher", "holds": True, "label": "holds", "evidence": "3 > 2", "about": "aviary; 5 worlds"},
        {
            "id": "over-cam",
            "holds": None,
            "label": "cannot be decided here",
            "evidence": "?",
            "about": "aviary; 1 world",
        },
    ]
    assert "Table 1" in data["text/html"] and "not in the paper" in data["text/html"]


LABELS = [(True, "holds"), (False, "does not hold"), (None, "cannot be decided here")]


@pytest.mark.parametrize("holds, label", LABELS)
def test_verdict_says_what_holds(holds, label):
    found = report.Verdict(paper.claim("over-cam"), holds, "3 > 2", "aviary")
    assert found.label == label and label in report.verdicts([found])._repr_html_()


def test_localization_draws_map_and_both_kinds_of_box_in_different_line_styles():
    plots.use_style()
    panel = {
        "image": np.zeros((20, 30, 3), np.uint8),
        "score_map": np.eye(5),
        "gt_boxes": [(1, 2, 10, 12)],
        "predicted_box": (3, 3, 12, 15),
        "title": "IoU 0.5",
    }
    figure = plots.grid_of_localizations([[panel, panel]], ["a", "b"], ["row"])
    boxes = [patch for patch in figure.axes[0].patches if patch.get_linewidth() == 2.0]
    assert [box.get_linestyle() for box in boxes] == ["--", "-"]
    assert (boxes[0].get_x(), boxes[0].get_width()) == (0.5, 10)  # inclusive pixels 1..10
    assert len(figure.axes[0].images) == 2


def test_rank_plot_puts_the_best_on_top():
    frame = pd.DataFrame({"method": ["a", "TeD-Loc", "b"], "value": [1.0, 3.0, 2.0], "low": 0.5, "high": 3.5})
    labels = [label.get_text() for label in plots.rank_plot(frame, "x (%)").get_yticklabels()]
    assert labels == ["a", "b", "TeD-Loc"]
