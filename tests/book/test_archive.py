"""The stored results as one file: its tables say what its schema says, and the numbers are those of the runs."""

import json
import os
import zipfile

import pandas as pd
import pytest

from tedloc import paths, profiles, runs
from tedloc.book import archive
from tedloc.runs import kept


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Two runs of CAM that are kept: one as its profile has it, one with another learning rate."""
    monkeypatch.setattr(paths, "EVIDENCE", tmp_path / "evidence")
    small = profiles.get("smoke", {"data.per_class": 4})
    (usual,) = runs.grid(small, method="cam", seeds=(0,))
    (other,) = runs.grid(small, method="cam", seeds=(1,), **{"methods__cam__optimiser__learning_rate": 0.1})
    found = [runs.ensure(request) for request in (usual, other)]
    for request, run in zip((usual, other), found, strict=True):
        kept.keep(request, run)
    return found


def test_the_tables_have_the_columns_that_the_schema_explains_and_the_numbers_of_the_runs(stored, tmp_path):
    with zipfile.ZipFile(archive.write(tmp_path / "made")) as made:
        tables = {name: pd.read_csv(made.open(name)) for name in archive.SCHEMA}
        about = json.loads(made.read("schema.json"))
    assert {name: list(table.columns) for name, table in tables.items()} == {
        name: list(columns) for name, columns in about["columns"].items()
    }
    table, images = tables["runs.csv"], tables["images.csv"]
    for world, run in enumerate(stored):
        for route in run.routes:
            (row,) = table[(table.world == world) & (table.route == route)].to_dict("records")
            assert row["MaxBoxAcc"] == pytest.approx(run.route(route)["MaxBoxAcc@0.5"], abs=1e-3)
            seen = images[(images.run == row["run"]) & (images.route == route)]
            assert 100 * seen["correct@0.5"].mean() == pytest.approx(row["MaxBoxAcc"], abs=1e-3)
            assert (seen["correct@0.7"] <= seen["correct@0.5"]).all()
            assert 100 * (seen["rank"] == 1).mean() == pytest.approx(row["Top-1 CL"], abs=1e-3)
            assert set(seen.image) == set(run.per_image(route).id)
    assert [json.loads(text) for text in table[table.route == "true"].changes] == [
        {},
        {"methods.cam.optimiser.learning_rate": 0.1},
    ]


def test_the_file_at_hand_is_made_anew_when_a_result_is_newer(stored):
    first = archive.ready()
    before = first.stat().st_mtime_ns
    assert archive.ready().stat().st_mtime_ns == before
    os.utime(archive.files()[0], (2e9, 2e9))
    assert archive.ready().stat().st_mtime_ns != before


def test_every_verdict_that_is_stored_is_in_it():
    table = archive.verdicts_table()
    assert len(table) >= 18 and set(table.verdict) <= {"holds", "does not hold", "cannot be decided here"}
    assert not table.duplicated(["profile", "chapter", "claim"]).any()
