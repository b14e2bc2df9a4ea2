"""Settings are searched on validation only, by the same number of trials, each made once."""

import json

import filelock
import pandas as pd
import pytest

from tedloc import data, paths, profiles, tune
from tedloc.errors import UserError
from tedloc.methods import METHODS, create, optimisers
from tedloc.methods.cam import LinearCAM
from tedloc.settings import override

PROFILE = override(profiles.get("smoke"), {"data.per_class": 2})


def test_points_are_drawn_by_seed_from_the_methods_own_grid():
    first = tune.points(PROFILE, "cam", 4, seed=1)
    assert first == tune.points(PROFILE, "cam", 4, seed=1) and len(first) == 4
    assert {p["methods.cam.optimiser.learning_rate"] for p in first} == {0.01, 0.02, 0.05, 0.1}
    assert first[:2] == tune.points(PROFILE, "cam", 2, seed=1)


def test_no_trial_is_begun_once_the_minutes_are_used(monkeypatch):
    monkeypatch.setattr(tune.runs, "ready", lambda request: LinearCAM(request.profile))
    monkeypatch.setattr(LinearCAM, "share", lambda method: None)
    monkeypatch.setattr(
        tune, "trial", lambda request, point, wait=True: {"seconds": 40.0} | dict.fromkeys(tune.CRITERION, 1.0)
    )
    assert len(tune.search(PROFILE, "cam", trials=4, device="cpu", minutes=1.0)) == 2
    assert len(tune.search(PROFILE, "cam", trials=4, device="cpu", minutes=9.0)) == 4


@pytest.mark.parametrize("small, trials", [(True, 3), (False, 4)])
def test_the_minutes_of_small_profiles_do_not_end_a_search_at_the_papers_scale(monkeypatch, small, trials):
    monkeypatch.setattr(tune.runs, "ready", lambda request: LinearCAM(request.profile))
    monkeypatch.setattr(LinearCAM, "share", lambda method: None)
    monkeypatch.setattr(
        tune, "trial", lambda request, point, wait=True: {"seconds": 100.0} | dict.fromkeys(tune.CRITERION, 1.0)
    )
    changed = override(PROFILE, {"small": small})
    monkeypatch.setattr(tune, "points", lambda *asked: [{}] * 4)
    assert len(tune.search(changed, "cam", trials=4, device="cpu")) == trials


def test_a_best_value_at_the_edge_of_its_grid_is_named():
    name = "methods.cam.optimiser.learning_rate"
    assert tune.on_edge(PROFILE, "cam", {name: 0.1}) == [name] and tune.on_edge(PROFILE, "cam", {name: 0.05}) == []


def test_tedlocs_lambdas_are_searched_in_small_profiles_too_and_all_ones_are_tried():
    first, *rest = tune.points(PROFILE, "tedloc", 8)
    assert all(first[name] == 1 for name in tune.LAMBDAS)
    assert all(0 < point[name] <= 1 for point in rest for name in tune.LAMBDAS)


def test_at_full_size_the_papers_ranges_are_searched():
    found = tune.points(profiles.get("cub"), "tedloc", 200)
    rates = [p["optimiser.learning_rate"] for p in found]
    assert 1e-6 <= min(rates) < 1e-5 and 1e-3 < max(rates) <= 1e-2
    assert all(0 < p[name] <= 1 for p in found for name in ("loss.kd", "loss.patch", "loss.image"))


def test_a_search_looks_at_no_test_image_and_makes_each_trial_once(monkeypatch):
    def refuse(settings, split):
        assert split != "test", "the search opened the test split"
        return opened(settings, split)

    opened = data.open_data
    for module in ("tedloc.methods", "tedloc.runs.execute"):
        monkeypatch.setattr(f"{module}.open_data", refuse)
    monkeypatch.setattr(LinearCAM, "share", lambda method: None)
    found = tune.search(PROFILE, "cam", trials=2, device="cpu")
    assert list(found["criterion"]) == sorted(found["criterion"], reverse=True) and len(found) == 2
    monkeypatch.setattr(tune, "evaluate", None)  # a second search only reads
    assert tune.search(PROFILE, "cam", trials=2, device="cpu").equals(found)


def test_a_trial_that_another_process_is_at_is_left_to_it():
    request, (point,) = tune.runs.Request(PROFILE, "cam", 0, "cpu"), tune.points(PROFILE, "cam", 1)
    done = tune.trial(request, point)
    (lock,) = (paths.runs() / PROFILE.name / "tuning").glob("*/.lock")
    with filelock.FileLock(lock):
        assert tune.trial(request, point, wait=False) is None
    assert tune.trial(request, point, wait=False) == done


def test_a_trial_shortens_every_stage():
    full, half = profiles.get("aviary"), tune.shortened(profiles.get("aviary"), "c2am", 0.5)
    epochs = [{name: each.epochs for name, each in optimisers(create("c2am", p).own).items()} for p in (full, half)]
    assert epochs == [{"optimiser": 10, "contrast": 5}, {"optimiser": 5, "contrast": 2}]
    assert tune.shortened(full, "tedloc", 0.5).optimiser.epochs == full.optimiser.epochs / 2
    stepped = override(full, {"optimiser.steps": 100})
    assert tune.shortened(stepped, "tedloc", 0.5).optimiser == override(stepped, {"optimiser.steps": 50}).optimiser


def test_trials_of_changed_settings_are_not_recorded_as_the_profiles(capsys):
    with pytest.raises(SystemExit) as stop:
        tune.main(["--profile", "smoke", "--method", "cam", "--record", "--data.seed", "1"])
    assert (
        stop.value.code == 2 and "keeps the trials of a profile as it is; drop --data.seed" in capsys.readouterr().err
    )


def test_a_method_without_settings_is_refused_by_name():
    with pytest.raises(UserError, match="'grad-cam' has no settings"):
        tune.space(PROFILE, "grad-cam")


def test_the_record_is_read_with_settings_in_words_and_the_chosen_trial_of_each_method():
    found = tune.recorded("aviary")
    assert set(found.loc[found["chosen"], "method"]) == set(found["method"])
    for _, trials in found.groupby("method"):
        assert trials.loc[trials["chosen"], "criterion"].eq(trials["criterion"].max()).all()
    assert "learning_rate 0.005, area 0.8" in set(found.loc[found["method"] == "bas", "settings"])
    assert not found["settings"].str.contains("{").any()
    assert tune._words('{"methods.da-wsol.width": null}') == "width none"


@pytest.mark.parametrize("method", [name for name in METHODS if ":" not in name or name == "ddt:whitened"])
def test_the_small_settings_are_the_best_of_the_recorded_trials(method):
    record = pd.read_csv(paths.TUNING / "aviary.csv")
    trials = record[record["method"] == method]
    made = create(method, profiles.get("aviary"))
    searches = 2 if method in ("ts-cam", "scm", "lctr", "catr") else 1  # of these every trial of both is recorded
    assert len(trials) == (min(searches * tune.TRIALS, len(trials)) if made.search() else 0)
    if made.search():
        holds_the_best(made, trials)


def holds_the_best(made, trials):
    """The method's settings are those of the best trial."""
    best = json.loads(trials.sort_values("criterion", ascending=False, kind="stable")["settings"].iloc[0])
    for name, value in best.items():
        thing = made.profile if made.own is None else made.own
        for part in name.removeprefix(f"methods.{made.base_name}.").split("."):
            thing = getattr(thing, part)
        assert thing == (tuple(value) if isinstance(value, list) else value), name


def test_on_photos_each_method_that_needs_no_hub_has_the_best_of_its_recorded_trials():
    record, photos = pd.read_csv(paths.TUNING / "imagenette-small.csv"), profiles.get("imagenette-small")
    assert set(record["method"]) == {"tedloc", "cam", "ddt:whitened", "psol", "c2am", "da-wsol", "bas"}
    for method, trials in record.groupby("method"):
        holds_the_best(create(method, photos), trials)
        assert set(tune.edges(photos)) == set(record["method"])
