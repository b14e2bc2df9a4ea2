"""Results that are kept with the package: small, exact for all metrics that verdicts need, read and not computed."""

import shutil
from dataclasses import replace

import pytest

from tedloc import paths, profiles, runs
from tedloc.errors import UserError
from tedloc.runs import kept
from tedloc.settings import override

PROFILE = profiles.get("smoke", {"pseudo_labels.teacher": "centre-prior", "data.per_class": 2})
LIVE = replace(PROFILE, live=("tedloc",))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "EVIDENCE", tmp_path / "evidence")
    monkeypatch.delenv(kept.MAKING, raising=False)
    return tmp_path / "evidence"


def made(monkeypatch, requests):
    monkeypatch.setenv(kept.MAKING, "make")
    found = runs.collect(requests, jobs=1)
    monkeypatch.delenv(kept.MAKING)
    return found


def test_what_is_kept_gives_every_metric_of_the_run_and_is_small(monkeypatch):
    (request,) = runs.grid(LIVE, method="cam", seeds=(0,))
    (run,) = made(monkeypatch, [request])
    stored = kept.of(request)
    assert stored.metrics["routes"] == run.metrics["routes"] and stored.routes == run.routes
    computed = stored.meter("pred").compute(val=stored.meter("pred", "val"))
    assert computed == {name: run.route("pred")[name] for name in computed} and "Top-1 Loc" in computed
    assert kept.file(request).stat().st_size < 20_000
    for reader in (stored.per_image, stored.maps):
        with pytest.raises(UserError, match=r"cam-0-\w+.zip is kept without its"):
            reader()


def test_a_run_of_fewer_routes_takes_nothing_from_what_is_kept(monkeypatch):
    """As when a teacher, whose route of the true class alone is asked for, is made anew for its student."""
    (request,) = runs.grid(LIVE, method="cam", seeds=(0,))
    made(monkeypatch, [request])
    shutil.rmtree(request.folder)
    monkeypatch.setenv(kept.MAKING, "make")
    assert runs.ensure(replace(request, routes=("true",))).routes == ["true"]
    assert kept.of(request).routes == ["true", "pred"]


def test_the_book_computes_live_methods_in_the_first_world_and_reads_all_else(monkeypatch):
    variant = override(LIVE, {"loss.kd": 0.0})
    asked = [
        *runs.grid(LIVE, seeds=(0, 1)),
        *runs.grid(LIVE, method="cam", seeds=(0,)),
        *runs.grid(variant, seeds=(0,)),
    ]
    made(monkeypatch, asked)
    monkeypatch.setitem(profiles.PROFILES, "smoke", lambda: LIVE)
    found = runs.collect(asked, jobs=1)
    assert [isinstance(run, kept.Kept) for run in found] == [False, True, True, True]


def test_worlds_in_which_something_is_not_kept_are_left_out_and_a_row_kept_in_none_stands_alone(monkeypatch):
    both, first = runs.grid(LIVE, method="cam", seeds=(0, 1)), runs.grid(LIVE, method="ddt", seeds=(0, 1))
    assert {name: len(some) for name, some in kept.common({"CAM": both, "DDT": first}).items()} == {"CAM": 1, "DDT": 1}
    made(monkeypatch, both)
    found = kept.common({"CAM": both, "DDT": first})
    assert [request.seed for request in found["CAM"]] == [0, 1] and [request.seed for request in found["DDT"]] == [0]
    everything = runs.grid(PROFILE, method="ddt", seeds=(0, 1))
    assert kept.common({"DDT": everything}) == {"DDT": everything}


def test_a_name_follows_the_settings_and_not_the_evaluation_of_other_methods():
    (one,) = runs.grid(LIVE, method="cam", seeds=(0,))
    (other,) = runs.grid(override(LIVE, {"methods.cam.optimiser.learning_rate": 0.3}), method="cam", seeds=(0,))
    (same,) = runs.grid(override(LIVE, {"loss.kd": 0.5}), method="cam", seeds=(0,))
    assert kept.file(one) == kept.file(same) != kept.file(other)


def test_a_damaged_file_is_named(monkeypatch):
    (request,) = runs.grid(LIVE, method="cam", seeds=(0,))
    made(monkeypatch, [request])
    kept.file(request).write_bytes(b"PK")
    with pytest.raises(UserError, match="is damaged; restore it, or make it anew with `make evidence`"):
        kept.of(request)
    with pytest.raises(UserError, match="is damaged"):
        _ = kept.Kept(kept.file(request)).changes  # and not: its changes were not kept


def test_where_the_photos_are_not_a_live_method_is_read_too(monkeypatch):
    photos = profiles.get("imagenette-small")
    (request,) = runs.grid(photos, seeds=photos.seeds[:1])
    assert kept.is_live(request) == kept.at_hand(photos.data)
    for there in (True, False):
        monkeypatch.setattr(kept, "at_hand", lambda data, there=there: there)
        assert kept.is_live(request) == there


def test_the_log_of_a_training_is_kept_with_it(monkeypatch):
    (request,) = runs.grid(LIVE, seeds=(0,))
    (run,) = made(monkeypatch, [request])
    assert kept.of(request).log().equals(run.log())
