"""The paper's numbers as data: complete, loadable, and each one found in the paper's own text."""

import re

import pandas as pd
import pytest

from conftest import ROOT
from tedloc import paper, paths
from tedloc.errors import UserError


@pytest.fixture(scope="module")
def text() -> str:
    files = sorted((ROOT.parent / "shared" / "paper").glob("*.txt"))
    if not files:
        pytest.skip("no ../shared/paper beside the checkout: the paper's text is not here")
    return files[0].read_text()


def table_lines(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("\t")] for line in text.splitlines() if "\t" in line]


def test_tables_hold_every_row_and_column_the_paper_prints():
    tables = {number: paper.printed_table(number) for number in range(1, 7)}
    shapes = {number: (rows["row"].nunique(), len(rows)) for number, rows in tables.items()}
    assert shapes == {1: (11, 66), 2: (3, 3), 3: (3, 12), 4: (4, 24), 5: (2, 8), 6: (3, 20)}


def test_value_gives_the_printed_number():
    assert paper.value(table=1, row="TeD-Loc", column="MaxBoxAcc", dataset="CUB") == 98.7
    assert paper.value(6, "GenPromp", "FLOPs") == 5.16


def test_what_stands_beside_a_number_of_ours_is_the_tables_or_the_texts_or_nothing():
    assert paper.quoted(1, "TeD-Loc", "MaxBoxAcc", "CUB") == paper.value(1, "TeD-Loc", "MaxBoxAcc", "CUB")
    assert paper.quoted(5, "with orthogonalization", "Top-1 CL", "CUB") == paper.value(
        5, "with orthogonalization", "CL", "CUB"
    )
    assert paper.quoted(1, "CLIP-ES", "Top-1 CL", "CUB") == 46.42 == paper.claimed("CLIP-ES", "CL", "CUB")
    assert paper.quoted(1, "DA-WSOL", "Top-5 Loc", "CUB") is None  # a dash
    assert paper.quoted(1, "BAS", "Top-1 CL", "CUB") is None and paper.quoted(1, None, "MaxBoxAcc", "CUB") is None
    assert paper.quoted(2, "L_KD + P_CL + I_CL", "Top-1 Loc", "CUB") is None  # not TeD-Loc's of another table


def test_a_dash_is_nan_and_digits_are_kept_as_printed():
    assert paper.printed_table(1)["value"].isna().sum() == 2  # DA-WSOL gives no Top-5 Loc
    printed = paper.printed()
    assert "75.0" in set(printed[printed["row"] == "GenPromp"]["value"])


@pytest.mark.parametrize(
    "wrong",
    [{"table": 7}, {"row": "CAM"}, {"column": "PxAP"}, {"dataset": "OpenImages"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_unknown_entry_is_refused_by_name(wrong):
    known = {"table": 1, "row": "TeD-Loc", "column": "MaxBoxAcc", "dataset": "CUB"}
    with pytest.raises(UserError, match=str(next(iter(wrong.values())))):
        paper.value(**(known | wrong))


def test_published_keeps_the_versions_of_bas_apart():
    journal, conference = paper.published("BAS", "journal"), paper.published("BAS", "conference")
    assert len(journal) == len(conference) == 6
    assert not journal["value"].equals(conference["value"])
    with pytest.raises(UserError, match="version of BAS"):
        paper.published("BAS", "preprint")


def test_every_published_value_names_a_source_and_a_method_of_table_1():
    methods = set(paper.printed_table(1)["row"])
    for method in methods - {"CLIP-ES", "TeD-Loc"}:
        rows = paper.published(method)
        assert rows["source"].str.len().min() > 0
        assert set(rows["dataset"]) == set(paper.DATASETS)


def test_each_number_stands_in_its_own_row_of_the_papers_text(text):
    rows = table_lines(text)
    for entry in paper.printed().itertuples():
        lines = [cells for cells in rows if cells[0] == entry.printed]
        assert lines, f"no line of the paper opens with {entry.printed!r}"
        number = re.compile(rf"(?<![\d.]){re.escape(entry.value or '_')}(?![\d.])")
        found = [cells for cells in lines if any(number.search(cell) for cell in cells[1:])]
        assert found, f"Table {entry.table}: {entry.value} is not in the line of {entry.printed!r}"


def test_rows_of_percentages_stand_in_the_papers_order(text):
    rows = table_lines(text)
    printed = paper.printed()
    for table in ("1", "4"):
        for label, entries in printed[printed["table"] == table].groupby("printed"):
            expected = [value or "_" for value in entries["value"]]
            lines = [cells[1:] for cells in rows if cells[0] == label]
            numbers = [[re.sub("[–—-]", "_", c) for c in cells if re.fullmatch(r"[\d.]+|[_–—-]", c)] for cells in lines]
            assert expected in numbers, f"Table {table}, {label}"


def test_backbones_stand_in_the_papers_text(text):
    printed = paper.printed()
    labels = printed[printed["table"] == "1"].set_index("row")["printed"].drop_duplicates()
    for entry in paper.backbones().itertuples():
        line = next(cells for cells in table_lines(text) if cells[0] == labels[entry.method])
        assert line[1:3] == [entry.classifier_printed, entry.localizer_printed]


def test_each_claim_is_quoted_word_for_word_and_its_quote_holds_its_number(text):
    running = re.sub(r"\s+", " ", text)
    for claim in paper.stated().itertuples():
        assert claim.quote in running, claim.quote
        spelled = {claim.value, f"{float(claim.value):,.0f}"} if float(claim.value) >= 1000 else {claim.value}
        assert any(re.search(rf"(?<![\d.,]){re.escape(form)}(?!\d)", claim.quote) for form in spelled), claim


def test_each_quote_stands_in_the_paper_word_for_word(text):
    running = re.sub(r"\s+", " ", text)
    for quote in pd.read_csv(paths.PAPER / "quotes.csv")["quote"]:
        assert quote in running, quote


def test_split_sizes_are_those_of_the_benchmarks_files(shared):
    sizes = paper.elsewhere("protocol").query("row == 'images'")
    for entry in sizes.itertuples():
        files = sorted((shared / "wsol-metadata").glob(f"**/{entry.dataset}/{entry.column}/image_ids.txt"))
        if files:  # the training list of ILSVRC is too large to lie here
            assert len(files[0].read_text().split()) == entry.value
