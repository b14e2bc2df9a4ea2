"""Each finding of the audit, from the data; a wrong entry in the CSV files changes one and fails here."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tedloc import paper
from tedloc.anchors import coherence, orthogonalise
from tedloc.audit import rules as audit
from tedloc.audit import setup as audit_setup
from tedloc.audit import tables as audit_tables

EVA_L = 303_178_752  # counted in test_complexity


@pytest.fixture(scope="module")
def tables() -> dict[str, audit.Finding]:
    return {finding.claim: finding for finding in audit_tables.table_findings()}


@pytest.fixture(scope="module")
def setup() -> dict[str, audit.Finding]:
    return {finding.claim: finding for finding in audit_setup.setup_findings(EVA_L)}


def change(monkeypatch, name: str, value: str, **where: str) -> None:
    """Pretend that a CSV file held another value in the one line that ``where`` picks."""
    records, read = [dict(entry) for entry in paper._records(name)], paper._records
    (entry,) = (entry for entry in records if where.items() <= entry.items())
    entry["value"] = value
    monkeypatch.setattr(paper, "_records", lambda wanted: records if wanted == name else read(wanted))


def test_every_verdict_s_word_says_whether_the_statement_holds(tables, setup):
    words = {finding.word: finding.holds for finding in [*tables.values(), *setup.values()]}
    assert words[audit.CONSISTENT] is True and words[audit.UNDECIDED] is words[audit.IN_PART] is None
    assert words[audit.PERMUTED] is words[audit.IMPOSSIBLE] is words[audit.MISLABELLED] is False


def test_only_ts_cam_and_scm_on_cub_break_the_order_of_the_metrics():
    assert audit.broken_order(audit.localization(1)) == [("SCM", "CUB"), ("TS-CAM", "CUB")]
    assert audit.broken_order(audit.localization(4)) == audit.broken_order(audit.localization(5)) == []


def test_the_two_rows_are_their_published_numbers_one_column_further():
    assert audit.permuted_rows() == [("TS-CAM", "CUB"), ("SCM", "CUB")]
    for method, dataset in audit.permuted_rows():
        theirs = paper.published(method).query("dataset == @dataset").set_index("column")["value"]
        assert paper.value(1, method, "MaxBoxAcc", dataset) == theirs["Top-1 Loc"]
        assert paper.value(1, method, "Top-1 Loc", dataset) == theirs["Top-5 Loc"]
        assert paper.value(1, method, "Top-5 Loc", dataset) == theirs["MaxBoxAcc"]


def test_mending_the_rows_restores_the_order_and_the_claim_of_five_points():
    assert audit.broken_order(audit.mended()) == []
    assert audit.gains(audit.localization(1))["CUB"] == (0.1, "SCM")
    assert audit.gains(audit.mended()) == {"CUB": (4.7, "GenPromp"), "ILSVRC": (4.8, "GenPromp")}


def test_a_mended_row_in_the_data_changes_the_finding(monkeypatch):
    for column, value in (("MaxBoxAcc", "96.6"), ("Top-1 Loc", "76.4"), ("Top-5 Loc", "91.6")):
        change(monkeypatch, "tables", value, table="1", row="SCM", column=column, dataset="CUB")
    assert audit.permuted_rows() == [("TS-CAM", "CUB")]
    assert audit.broken_order(audit.localization(1)) == [("TS-CAM", "CUB")]


def test_a_mistyped_entry_stops_being_a_permutation(monkeypatch):
    change(monkeypatch, "tables", "76.5", table="1", row="SCM", column="MaxBoxAcc", dataset="CUB")
    assert audit.permuted_rows() == [("TS-CAM", "CUB")]


def test_readings_of_quoted_numbers():
    table = audit.against_published().query("kind != 'conference'")
    assert table["reading"].value_counts().to_dict() == {
        "same": 30,
        "permuted": 6,
        "rounded": 4,
        "cut off": 3,
        "differs": 3,
    }
    differs = table[table["reading"] == "differs"]
    assert set(differs["method"]) == {"TS-CAM", "CATR"}
    assert (differs["printed"] - differs["published"]).abs().max() <= 0.5


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_top1_loc_of_any_system_lies_within_its_bounds(images):
    def share(hits):
        return 100 * sum(hits) / len(images)

    box, accuracy = (share(hit[i] for hit in images) for i in (0, 1))
    top1 = share(localised and classified for localised, classified in images)
    low, high = audit.bounds(box, accuracy)
    assert low - 1e-9 <= top1 <= high + 1e-9
    least, most = audit.accuracy_bounds(box, top1)
    assert least - 1e-9 <= accuracy <= most + 1e-9


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_every_rounded_share_is_attainable(count):
    hits, images = count
    assert audit.attainable(f"{100 * hits / images:.2f}", images)[0]


def test_clip_es_on_cub_lies_below_its_bound_and_tedloc_within():
    rows = audit.with_accuracy().set_index(["row", "dataset"])
    assert rows.loc[("CLIP-ES", "CUB"), "low"] == pytest.approx(39.22)
    assert rows.loc[("CLIP-ES", "CUB"), "Top-1 Loc"] == 36.3
    for row in (("CLIP-ES", "ILSVRC"), ("TeD-Loc", "CUB"), ("TeD-Loc", "ILSVRC")):
        assert rows.loc[row, "low"] - audit.SLACK <= rows.loc[row, "Top-1 Loc"] <= rows.loc[row, "high"]


def test_genpromps_printed_cost_is_that_of_two_steps_only():
    assert audit_setup.steps_behind(5.16, 3.7, 741.5) == [2]
    assert audit_setup.steps_behind(2.57, 1.8, 370.1) == [2]


def test_rows_of_q_stay_above_the_welch_bound_and_far_below_the_texts():
    table = audit_setup.anchor_coherence(60, widths=(40, 80)).set_index(["d", "orthogonaliser"])
    crowded, roomy = table.loc[40], table.loc[80]
    assert crowded.loc["none", "mean |cos|"] == pytest.approx(0.65, abs=0.03)
    for method in ("qr_rows", "polar"):
        assert crowded.loc[method, "Welch bound"] < crowded.loc[method, "largest |cos|"]
        assert crowded.loc[method, "mean |cos|"] < crowded.loc["none", "mean |cos|"] / 4
        assert roomy.loc[method, "largest |cos|"] < 1e-6


def test_a_full_qr_has_as_many_orthogonal_anchors_as_classes_and_rows_of_q_use_the_first_k_coordinates():
    texts = audit_setup.correlated_texts(60, 40, seed=0)
    square, _ = torch.linalg.qr(texts, mode="complete")
    assert square.shape == (60, 60) and coherence(square) < 1e-6
    wide = audit_setup.correlated_texts(20, 40, seed=0)
    other = wide.clone()
    other[:, 20:] = 1.0
    assert torch.allclose(orthogonalise(wide, "qr_rows"), orthogonalise(other, "qr_rows"), atol=1e-6)


WORDS = {
    "can be a measurement": audit.IMPOSSIBLE,
    "quotes each compared method": audit.PERMUTED,
    "by about 5 %": audit.CONSISTENT,
    "best in every column": audit.CONSISTENT,
    "TS-CAM's Top-1 Loc on CUB": audit.MISLABELLED,
    "Table 1's other rows": audit.CONSISTENT,
    "DA-WSOL's row": audit.UNDECIDED,
    "BAS's row": audit.MISLABELLED,
    "backbone that classifies": audit.MISLABELLED,
    "CLIP-ES row describes one system": audit.IMPOSSIBLE,
    "first two rows are CLIP-ES": audit.MISLABELLED,
    "compared with DiPS": audit.REFUTED,
    "CL and Top-1 Loc fit together": audit.CONSISTENT,
    "SCLIP and NACLIP under CLIP's own": audit.MISLABELLED,
    "better performance than by g": audit.IN_PART,
    "Each loss adds": audit.CONSISTENT,
    "one class “bird”": audit.UNDECIDED,
    "agree with each other": audit.CONSISTENT,
    "are counts over its 5 794": audit.CONSISTENT,
    "3.7T + 741.5G": audit.MISLABELLED,
    "twice the MACs": audit.CONSISTENT,
    "100 time steps": audit.MISLABELLED,
    "sum of its parts": audit.CONSISTENT,
    "half of GenPromp's parameters": audit.CONSISTENT,
    "569.67 M": audit.UNDECIDED,
    "A100 (4.3)": audit.MISLABELLED,
    "28.31 ms": audit.UNDECIDED,
    "10,000 images": audit.MISLABELLED,
    "11,788 images": audit.CONSISTENT,
    "256 × 256": audit.REFUTED,
    "thresholds derived from ground truth": audit.REFUTED,
    "without explicit bounding box supervision": audit.IN_PART,
    "89.9 % of ILSVRC": audit.UNDECIDED,
    "1,000 classes are orthogonal": audit.UNDECIDED,
    "Figure 2 and its caption": audit.MISLABELLED,
    "References point": audit.MISLABELLED,
    "Version 2": audit.UNDECIDED,
}


def test_every_finding_has_the_verdict_that_its_evidence_gives(tables, setup):
    found = tables | setup
    assert len(found) == len(WORDS)
    for words, verdict in WORDS.items():
        (finding,) = (finding for claim, finding in found.items() if words in claim)
        assert finding.word == verdict, finding
        assert finding.evidence and finding.follows


@pytest.mark.parametrize(
    "check, entry, value",
    [
        (audit_tables.about_five_points, ("1", "TeD-Loc", "Top-1 Loc", "CUB"), "88.0"),
        (audit_tables.first_everywhere, ("1", "GenPromp", "MaxBoxAcc", "ILSVRC"), "75.7"),
        (audit_tables.losses_add_up, ("2", "L_KD + P_CL", "MaxBoxAcc", "CUB"), "61.0"),
        (audit_tables.tedloc_within_bounds, ("1", "TeD-Loc", "Top-1 Loc", "CUB"), "91.0"),
        (audit_tables.tables_agree, ("6", "TeD-Loc", "Inference time", ""), "121"),
        (audit_tables.counts_over_the_test_set, ("5", "without orthogonalization", "CL", "CUB"), "56.01"),
        (audit_setup.two_flops_a_mac, ("6", "TS-CAM", "MACs", ""), "9.85"),
        (audit_setup.genpromp_parts, ("6", "GenPromp", "Parameters", ""), "1083.86"),
        (audit_setup.half_the_parameters, ("6", "TeD-Loc", "Parameters", ""), "307.36"),
        (audit_setup.gpus_and_times, ("6", "TeD-Loc", "Inference time", ""), "121"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_wrong_entry_changes_the_verdict(monkeypatch, check, entry, value):
    before = check().word
    change(monkeypatch, "tables", value, **dict(zip(("table", "row", "column", "dataset"), entry, strict=True)))
    assert check().word != before
