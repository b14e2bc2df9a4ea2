"""Tables name every method once, and say what a machine lacks instead of leaving a method out in silence."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tedloc import paper, profiles, runs
from tedloc.book import compared, report
from tedloc.methods import METHODS, create
from tedloc.runs import Run


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_row_has_its_own_label_and_every_method_of_table_1_a_row(name):
    rows = compared.rows(profiles.get(name))
    assert len({row.label for row in rows}) == len(rows)
    assert set(paper.printed_table(1)["row"]) == {row.paper_row for row in rows if row.paper_row}


@pytest.mark.parametrize("name", METHODS)
def test_settings_are_there_for_every_scale(name):
    for profile in profiles.PROFILES:
        method = create(name, profiles.get(profile))
        assert (method.own is None) == (not method.SETTINGS)
        assert set(method.SETTINGS) in (set(), {"small", "CUB", "ILSVRC"})


def test_what_no_search_chose_is_listed_and_nothing_that_one_chose():
    found = compared.unsearched(profiles.get("aviary"))
    assert found["cam"] == {
        "optimiser.kind": "sgd",
        "optimiser.epochs": 10,
        "optimiser.batch_size": 32,
        "optimiser.momentum": 0.9,
        "optimiser.weight_decay": 0.0001,
    }
    assert "sampler.background" in found["tedloc"] and not {"loss.kd", "optimiser.momentum"} & found["tedloc"].keys()
    assert "pseudo_labels.clip_es.background" in found["clip-es"] and "grad-cam" not in found
    for name, settings in found.items():
        assert not settings.keys() & {
            key.removeprefix(f"methods.{name}.") for key in create(name, profiles.get("aviary")).search()
        }


def test_a_method_whose_weights_are_missing_asks_for_no_run():
    cub = profiles.get("cub")
    rows = {row.label: row for row in compared.rows(cub)}
    row = replace(rows["TS-CAM"], lacks="deit_small_patch16_224.fb_in1k (model hub)")
    assert row.requests(cub, (0, 1)) == []
    assert len(replace(row, lacks=None, method="cam").requests(profiles.get("smoke"), (0, 1))) == 2
    unseeded = replace(row, lacks=None, method="clip-es", route="pred", seeded=False)
    asked = unseeded.requests(profiles.get("smoke"), (0, 1))
    assert [(request.seed, request.routes) for request in asked] == [(0, ("pred",)), (1, ("pred",))]


def test_the_papers_one_row_of_a_method_stands_beside_its_first_row_only():
    rows = compared.rows(profiles.get("aviary"))
    leading = [row.paper_row for row in rows if row.leads and row.paper_row]
    assert sorted(leading) == sorted(set(paper.printed_table(1)["row"]))
    first, second = (row for row in rows if row.method == "clip-es")
    assert first.printed("MaxBoxAcc", "CUB") == 92.8 and second.printed("MaxBoxAcc", "CUB") is None
    assert first.printed("Top-1 CL", "CUB") == 46.42


def test_a_row_gives_its_runs_values_by_its_route_or_says_what_is_lacking(small_run):
    run = Run(small_run)
    row = {row.label: row for row in compared.rows(profiles.get("smoke"))}["TeD-Loc"]
    assert row.route_of(run) == run.routes[0] and replace(row, route="anchor-true").route_of(run) == "anchor-true"
    values = replace(row, route="anchor-true").measured([run, run], "MaxBoxAcc@0.5")
    assert values == [run.route("anchor-true")["MaxBoxAcc@0.5"]] * 2
    lacking = replace(row, lacks="EVA-L (model hub)")
    assert lacking.measured([], "MaxBoxAcc@0.5") == lacking.state == "needs weights: EVA-L (model hub)"
    assert row.state == "runs"


def test_the_second_clip_changes_texts_and_teacher_of_the_aviary_alone():
    assert set(compared.hard_clip(profiles.get("smoke")).values()) == {"aviary/clip-hard"}
    assert compared.hard_clip(profiles.get("imagenette-small")) == {}
    assert compared.hard_clip(profiles.get("aviary", {"anchors.text": "minilm"})) == {}
    both = {"anchors.text": "aviary/clip", "pseudo_labels.clip": "aviary/clip"}
    assert compared.hard_clip(profiles.get("cub", both)) == {}  # no aviary, no families


def test_worlds_without_a_hard_clip_are_left_out_unless_their_results_are_kept(monkeypatch):
    aviary = profiles.get("aviary")
    asked = runs.grid(aviary, seeds=(0, 1), **compared.hard_clip(aviary))
    monkeypatch.setattr(compared.towers, "records", lambda: dict.fromkeys(("cnn", "cnn-1", "clip-1", "clip-hard")))
    monkeypatch.setattr(compared.kept, "holds", lambda request: False)
    assert [request.seed for request in compared.with_towers(asked)] == [0]
    monkeypatch.setattr(compared.kept, "holds", lambda request: request.seed == 1)
    assert [request.seed for request in compared.with_towers(asked)] == [0, 1]
    photos = profiles.get("imagenette-small")  # no tower of the aviary's
    assert len(compared.with_towers(runs.grid(photos))) == len(photos.seeds)


def test_the_first_world_stands_beside_the_mean_over_the_others():
    found = [SimpleNamespace(metrics={"provenance": {"seed": w}}, value=v) for w, v in enumerate((9.0, 2.0, 4.0))]
    cells = compared.over_worlds(profiles.get("aviary"), found, "A", lambda run: run.value)
    assert cells == {("A", "mean ± sd"): "3.0 ± 1.4 (n=2)", ("A", "world 0"): "9.0"}
    cells = compared.over_worlds(profiles.get("imagenette-small"), found, "A", lambda run: run.value)
    assert cells == {("A", "mean ± sd"): "5.0 ± 3.6 (n=3)"}


def test_printed_numbers_stand_beside_the_methods_own():
    frame = compared.beside_own(["TS-CAM", "BAS"])
    assert list(frame.index) == ["TS-CAM", "BAS"] and len(frame.columns) == 12
    assert frame.loc["BAS", ("MaxBoxAcc, CUB", "paper")] == paper.value(1, "BAS", "MaxBoxAcc", "CUB")
    assert frame.loc["TS-CAM", ("Top-1 Loc, CUB", "its own")] == paper.own_value("TS-CAM", "Top-1 Loc", "CUB")
    shown = compared.published("TS-CAM")
    assert list(shown.cells.index) == ["its own", "in the paper's Table 1"]
    assert list(shown.numbers.columns) == [name for name, source in frame.columns if source == "paper"]
    assert shown.numbers.loc["its own"].tolist() == frame.loc["TS-CAM"].xs("its own", level=1).tolist()


def test_what_a_method_takes_is_read_from_its_first_run(small_run):
    run = Run(small_run)
    row = {row.label: row for row in compared.rows(profiles.get("smoke"))}["TeD-Loc"]
    (line,) = compared.taken({"A": row}, {"A": [run, run]}, images=50).to_dict("records")
    used = run.metrics["provenance"]["seconds"]
    assert line["seeds"] == "2" and line["training (s)"] == report.number(used["fit"], 0)
    assert line["test (ms an image)"] == report.number(20 * used["test"])
    unseeded = compared.taken({"A": replace(row, seeded=False)}, {"A": [run]}, images=50)
    assert unseeded.loc["A", "training (s)"] == unseeded.loc["A", "seeds"] == report.MISSING
