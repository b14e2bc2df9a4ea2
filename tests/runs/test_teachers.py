"""Any method that maps the true class can teach TeD-Loc, and is trained once, in a run of its own."""

import numpy as np
import pytest

from tedloc import profiles, runs
from tedloc.errors import UserError
from tedloc.methods.pseudo_labels import pseudo_label_cams, teacher_of
from tedloc.settings import override
from tedloc.training import engine

SMALL = override(profiles.get("smoke"), {"data.per_class": 2, "evaluation.keep_maps": 2})


def taught_by(teacher, **changes):
    return override(SMALL, {"pseudo_labels.teacher": teacher} | changes)


@pytest.mark.parametrize(
    "teacher, method, route",
    [
        ("cam", "cam", "true"),
        ("bas", "bas", "true"),
        ("c2am", "c2am", "map"),
        ("ts-cam", "ts-cam", "true"),
        ("tedloc:cam", "tedloc", "g"),
    ],
)
def test_a_teacher_is_trained_once_and_stands_beside_its_student(teacher, method, route, monkeypatch):
    trained, train = [], engine.train
    monkeypatch.setattr(engine, "train", lambda net, *rest: trained.append(type(net[1]).__name__) or train(net, *rest))
    run = runs.ensure(runs.Request(taught_by(teacher), device="cpu", routes=("g",)))
    asked = runs.Request(taught_by(teacher), device="cpu").teacher()
    assert (asked.method, asked.routes) == (method, (route,))
    assert run.metrics["teacher"] == runs.ensure(asked).route(route)
    before = len(trained)
    cams = pseudo_label_cams(taught_by(teacher), folder=asked.folder)
    assert len(trained) == before == len(set(trained)) + (teacher == "tedloc:cam")
    assert cams.dtype == np.uint8 and (cams.max((1, 2)) == 255).mean() > 0.5


def test_a_teacher_without_a_run_is_trained_beside_its_cams():
    first = pseudo_label_cams(taught_by("cam"))
    assert np.array_equal(
        first,
        pseudo_label_cams(
            taught_by("cam"), folder=runs.ensure(runs.Request(taught_by("cam"), device="cpu").teacher()).folder
        ),
    )


def test_students_of_one_seed_have_the_teacher_of_that_seed_if_it_has_seeds():
    seeds = {name: teacher_of(taught_by(name), seed=3).seed for name in ("cam", "clip-es", "tedloc:bas")}
    assert seeds == {"cam": 3, "clip-es": 0, "tedloc:bas": 3}
    assert teacher_of(taught_by("centre-prior")) is None


def test_another_teacher_or_another_setting_of_it_makes_another_run():
    folders = {runs.Request(taught_by(name), device="cpu").folder for name in ("cam", "bas", "clip-es", "tedloc:cam")}
    faster = taught_by("cam", **{"methods.cam.optimiser.learning_rate": 0.3})
    assert len(folders | {runs.Request(faster, device="cpu").folder}) == 5
    assert runs.Request(override(SMALL, {"methods.cam.optimiser.learning_rate": 0.3}), device="cpu").folder in folders


def test_shuffled_cams_come_from_the_same_teacher():
    shuffled = taught_by("cam", **{"pseudo_labels.shuffled": True})
    assert runs.Request(shuffled, device="cpu").teacher() == runs.Request(taught_by("cam"), device="cpu").teacher()


@pytest.mark.parametrize(
    "teacher, sentence",
    [("kam", "unknown teacher 'kam'"), ("tedloc", "needs a teacher itself"), ("tedloc:kam", "unknown teacher 'kam'")],
)
def test_a_teacher_that_there_is_not_is_named(teacher, sentence):
    with pytest.raises(UserError, match=sentence):
        teacher_of(taught_by(teacher))


def test_a_method_that_predicts_boxes_alone_cannot_teach():
    with pytest.raises(UserError, match="PSOL has no map of a class"):
        runs.ensure(runs.Request(taught_by("psol"), device="cpu"))
