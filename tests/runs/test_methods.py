"""Every method keeps the same contract; runs are computed once, resume, and say what went wrong."""

import json
import threading
import time

import numpy as np
import pytest
import torch

from tedloc import profiles, runs, train
from tedloc.data import open_data
from tedloc.errors import UserError
from tedloc.methods import METHODS, Method, Route, create
from tedloc.metrics import baselines
from tedloc.runs import execute, schedule
from tedloc.settings import override

PROFILE = override(profiles.get("smoke"), {"data.per_class": 2, "evaluation.keep_maps": 5})
# head-cam needs a classifier of ImageNet: test_encoders.py and test_imagenette.py have one
AVIARY_METHODS = [name for name in METHODS if create(name, PROFILE).applies() and not create(name, PROFILE).lacks()]


@pytest.mark.parametrize("name", AVIARY_METHODS)
def test_a_method_predicts_every_image_once_with_one_map_and_one_row_of_scores(name):
    method = create(name, PROFILE, seed=1)
    method.fit()
    images = open_data(PROFILE.data, "test")
    labels, predictions = torch.from_numpy(images.labels), list(method.predict("test"))
    assert np.array_equal(np.concatenate([p.index for p in predictions]), np.arange(len(images)))
    assert len({tuple(p.routes) for p in predictions}) == 1
    for p in predictions:
        for route in p.routes.values():
            assert route.maps.ndim == 3 and len(route.maps) == len(p.index) and route.maps.isfinite().all()
            assert route.scores.shape == (len(p.index), len(images.class_names))
        if {"true", "pred"} <= p.routes.keys():  # the predicted class's map is the true one's where that is right
            true, predicted = p.routes["true"], p.routes["pred"]
            right = predicted.scores.argmax(1) == labels[p.index]
            assert torch.allclose(true.maps[right], predicted.maps[right], atol=1e-5)


def test_an_unknown_method_is_named():
    with pytest.raises(UserError, match="unknown method 'camm'"):
        create("camm", PROFILE)


def test_a_run_is_computed_once_and_repeats_under_its_seed():
    first = runs.ensure(runs.Request(PROFILE, "tedloc", 0))
    written = (first.folder / "metrics.json").stat().st_mtime_ns
    assert (runs.ensure(runs.Request(PROFILE, "tedloc", 0)).folder / "metrics.json").stat().st_mtime_ns == written
    (first.folder / "metrics.json").unlink(), (first.folder / "checkpoint.safetensors").unlink()
    again = runs.ensure(runs.Request(PROFILE, "tedloc", 0))
    assert {k: v for k, v in again.metrics["routes"].items()} == first.metrics["routes"]
    assert set(again.maps()) == {"index", *again.routes} and len(again.maps()["index"]) == 5
    assert len(again.per_image()) == len(open_data(PROFILE.data, "test"))
    assert again.meter().compute()["MaxBoxAcc@0.5"] == pytest.approx(again["MaxBoxAcc@0.5"])


def test_a_run_scores_the_routes_asked_for_and_adds_others_without_training_again(monkeypatch):
    few = runs.ensure(runs.Request(PROFILE, "tedloc", 3, routes=("g",)))
    assert list(few.metrics["routes"]) == ["g"] and list(few.maps()) == ["index", "g"]
    log = (few.folder / "log.jsonl").read_text()
    more = runs.ensure(runs.Request(PROFILE, "tedloc", 3, routes=("anchor-true",)))
    assert more.folder == few.folder and (more.folder / "log.jsonl").read_text() == log
    assert list(more.metrics["routes"]) == ["g", "anchor-true"]
    every = runs.ensure(runs.Request(PROFILE, "tedloc", 3))
    assert every.metrics["routes"] == runs.ensure(runs.Request(PROFILE, "tedloc", 3)).metrics["routes"]
    assert list(every.metrics["routes"]) == every.metrics["all routes"] == ["g", "anchor-true", "anchor-pred"]
    assert every.metrics["routes"]["g"] == few.metrics["routes"]["g"] and every["MaxBoxAcc@0.5"] == few["MaxBoxAcc@0.5"]
    with pytest.raises(UserError, match="unknown route"):
        runs.ensure(runs.Request(PROFILE, "tedloc", 3, routes=("anchor",)))


def test_requests_for_one_run_are_trained_once_with_the_routes_of_both():
    asked = [runs.Request(PROFILE, "cam", 4, routes=(name,)) for name in ("true", "pred")]
    first, second = runs.collect(asked, jobs=1)
    assert first.folder == second.folder and set(first.metrics["routes"]) == {"true", "pred"}


@pytest.mark.parametrize("places", [1, 2])
def test_no_more_runs_are_computed_at_a_time_than_there_are_places(tmp_path, monkeypatch, places):
    monkeypatch.setenv("TEDLOC_RUNS", str(tmp_path))
    at_work, most = [], []

    def work(request):
        at_work.append(request)
        most.append(len(at_work))
        time.sleep(0.1)
        at_work.pop()

    request = runs.Request(PROFILE, device="cpu")
    threads = [threading.Thread(target=schedule._in_place, args=(places, work, request)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 4 and max(most) == places


class Boxes(Method):
    """Predicts one box for every image."""

    title = "boxes"
    box = (0.25, 0.25, 0.75, 0.75)

    def localize(self, split, index):
        scores = torch.zeros(len(index), len(self.images(split).class_names))
        return {"box": Route(torch.zeros(len(index), 4, 4), scores, torch.tensor(self.box).expand(len(index), 4))}


def test_a_method_that_predicts_boxes_is_scored_by_them():
    p = PROFILE
    found = execute.evaluate(Boxes(p), p.data, "test", p.evaluation).meters["box"].compute()
    images = open_data(p.data, "test")
    expected = baselines.score(baselines.place((0.5, 0.5), images.sizes), images)
    assert found["MaxBoxAcc@0.5"] == expected["MaxBoxAcc@0.5"] and 0 < found["mean IoU"] == expected["mean IoU"]


def test_a_compared_methods_own_settings_change_by_name_and_keep_to_the_profiles_limit():
    p = override(profiles.get("aviary"), {"methods.cam.optimiser.learning_rate": 0.5})
    assert create("cam", p).own.optimiser.learning_rate == 0.5
    assert create("cam", override(p, {"max_epochs": 3})).own.optimiser.epochs == 3
    assert create("cam", profiles.get("cub")).own.optimiser.epochs == 50
    assert runs.Request(p, "cam").folder != runs.Request(profiles.get("aviary"), "cam").folder
    assert runs.Request(p, "tedloc").folder == runs.Request(profiles.get("aviary"), "tedloc").folder
    with pytest.raises(UserError, match="unknown setting 'optimizer.epochs'"):
        create("cam", override(p, {"methods.cam.optimizer.epochs": 3}))
    with pytest.raises(UserError, match="no settings of its own"):
        create("clip-es", override(p, {"methods.clip-es.epochs": 3}))


def test_a_run_that_breaks_is_told_apart_and_goes_on_when_asked_again(monkeypatch):
    request = runs.Request(PROFILE, "cam", 0)
    assert runs.status(request.folder) == "absent"

    def broken(*args):
        raise RuntimeError("the disk went away")

    with monkeypatch.context() as patched:
        patched.setattr(execute, "evaluate", broken)
        with pytest.raises(RuntimeError):
            runs.ensure(request)
    assert runs.status(request.folder) == "failed" and "disk went away" in (request.folder / "failed.txt").read_text()
    assert runs.ensure(request)["num_images"] == 40
    assert runs.status(request.folder) == "finished" and not (request.folder / "failed.txt").exists()


def test_the_train_command_writes_the_metrics_it_prints(tmp_path, capsys):
    file = tmp_path / "metrics.json"
    train.main(["--profile", "smoke", "--json", str(file), "--data.per-class", "2"])
    metrics, printed = json.loads(file.read_text()), capsys.readouterr().out
    for key in ("MaxBoxAcc@0.5", "Top-1 Loc", "Top-5 Loc", "Top-1 CL"):
        assert f"{metrics[key]:.1f}" in printed
        assert key in metrics["teacher"]
    assert "MaxBoxAcc@0.5" in metrics["centre box"]
    assert {"commit", "versions", "device", "seconds", "data"} <= set(metrics["provenance"])


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--profile", "cubs"], "unknown profile 'cubs'"),
        (["--profile", "smoke", "--method", "camm"], "unknown method 'camm'"),
        (["--profile", "smoke", "--encoder.name", "resnet"], "resnet"),
        (["--profile", "smoke", "--data.per-class", "2", "--anchors.orthogonaliser", "gram"], "orthogonaliser"),
        (["--profile", "imagenette-small"], "wsol_metadata.py fetch"),
    ],
)
def test_a_wrong_request_ends_in_one_sentence_and_code_2(arguments, sentence, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TEDLOC_DATA", str(tmp_path / "nothing"))
    with pytest.raises(SystemExit) as exit:
        train.main(arguments)
    error = capsys.readouterr().err
    assert exit.value.code == 2 and sentence in error and "Traceback" not in error
