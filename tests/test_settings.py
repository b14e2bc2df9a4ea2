"""Profiles and their settings: all known, changed by name, refused by name."""

import dataclasses
import subprocess

import pytest

from tedloc import fingerprints, paths, profiles, runs
from tedloc.errors import UserError
from tedloc.methods import create, optimisers
from tedloc.settings import DataSettings, as_record, override


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_profile_can_be_made_and_fingerprinted(name):
    profile = profiles.get(name)
    assert profile.name == name and len(fingerprints.digest(profile)) == 64


def test_numbers_mean_something_in_every_profile_but_smoke_and_no_fingerprint_depends_on_that():
    assert [name for name in profiles.PROFILES if not profiles.get(name).meaningful] == ["smoke"]
    assert "meaningful" not in {field.name for field in dataclasses.fields(profiles.get("smoke"))}


def test_how_many_processes_read_photos_is_in_no_fingerprint():
    one, two = (
        runs.Request(profiles.get("smoke", {"data.workers": count}), "cam", device="cpu") for count in (None, 2)
    )
    assert one.profile != two.profile and one.folder == two.folder
    with pytest.raises(UserError, match="data.workers is -1"):
        DataSettings(workers=-1)


def test_an_unknown_profile_is_named_with_those_that_exist():
    with pytest.raises(UserError, match="unknown profile 'cubs'.*aviary.*cub"):
        profiles.get("cubs")


def test_settings_change_by_dotted_name():
    profile = override(profiles.get("smoke"), {"loss.kd": 0, "pseudo_labels.clip_es.affinity": False})
    assert profile.loss.kd == 0.0 and isinstance(profile.loss.kd, float)
    assert profile.pseudo_labels.clip_es.affinity is False


def test_settings_that_are_several_values_may_come_as_json():
    profile = profiles.get("smoke", '{"seeds": [3, 4], "data.only_classes": ["imagewoof"]}')
    assert profile.seeds == (3, 4) and profile.data.only_classes == ("imagewoof",)
    with pytest.raises(UserError, match="setting 'loss.kd' cannot be"):
        profiles.get("smoke", '{"loss.kd": [1.0]}')


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"loss.lambda": 1.0}, "unknown setting 'loss.lambda'"),
        ({"los.kd": 1.0}, "unknown setting 'los.kd'"),
        ({"loss.kd.x": 1.0}, "unknown setting 'loss.kd.x'"),
        ({"loss.kd": "much"}, "setting 'loss.kd' cannot be 'much'"),
        ({"optimiser.epochs": True}, "cannot be True"),
    ],
)
def test_a_wrong_change_is_refused_by_name(change, complaint):
    with pytest.raises(UserError, match=complaint):
        override(profiles.get("smoke"), change)


def test_settings_may_come_as_papermill_hands_over_its_parameter():
    assert profiles.get("smoke", '{"optimiser.epochs": 7, "loss.kd": 0}').optimiser.epochs == 7
    assert profiles.get("smoke", "") == profiles.get("smoke", "{}") == profiles.get("smoke")


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ("{'optimiser.epochs': 7}", r"are no JSON .*; write -p settings '\{\"optimiser.epochs\": 1\}', or -y"),
        ("optimiser.epochs=7", "are no JSON"),
        ("[1, 2]", "settings are \\[1, 2\\], which are no settings by name"),
        (7, "settings are 7, which are no settings by name"),
        ('{"optimiser.epochs": "7"}', "setting 'optimiser.epochs' cannot be '7'"),
    ],
)
def test_a_parameter_that_is_no_dictionary_is_refused(changes, complaint):
    with pytest.raises(UserError, match=complaint):
        profiles.get("smoke", changes)


def test_the_command_line_changes_settings():
    changes = ["--loss.kd", "0.5", "--anchors.orthogonaliser", "polar"]
    profile = profiles.from_command_line(profiles.get("smoke"), changes)
    assert profile.loss.kd == 0.5 and profile.anchors.orthogonaliser == "polar"


def test_an_unknown_setting_on_the_command_line_ends_with_code_2(capsys):
    with pytest.raises(SystemExit) as exit:
        profiles.from_command_line(profiles.get("smoke"), ["--loss.lambda", "1"])
    assert exit.value.code == 2 and "loss.lambda" in capsys.readouterr().err


def test_variants_share_the_runs_of_methods_that_the_change_does_not_touch():
    profile, changed = profiles.get("smoke"), override(profiles.get("smoke"), {"loss.patch": 0.0})
    assert runs.Request(profile, "cam").folder == runs.Request(changed, "cam").folder
    assert runs.Request(profile, "tedloc").folder != runs.Request(changed, "tedloc").folder
    other_images = override(profile, {"data.seed": 1})
    assert runs.Request(profile, "cam").folder != runs.Request(other_images, "cam").folder


@pytest.mark.parametrize("method", ["grad-cam", "ddt", "psol", "c2am", "genpromp", "dips"])
def test_what_builds_on_cams_classifier_depends_on_its_settings(method):
    profile, changed = profiles.get("smoke"), profiles.get("smoke", {"methods.cam.optimiser.learning_rate": 0.3})
    assert runs.Request(profile, method).folder != runs.Request(changed, method).folder
    assert runs.Request(profile, "bas").folder == runs.Request(changed, "bas").folder


def test_a_change_for_a_method_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="unknown method 'cams'"):
        create("cam", profiles.get("smoke", {"methods.cams.optimiser.learning_rate": 0.3}))


def test_the_limit_on_epochs_reaches_every_stage_of_a_method():
    made = create("c2am", profiles.get("smoke"))
    assert {name: each.epochs for name, each in optimisers(made.own).items()} == {"optimiser": 1, "contrast": 1}


def test_provenance_says_when_the_code_is_not_that_of_its_commit(tmp_path, monkeypatch):
    package = tmp_path / "tedloc"
    package.mkdir()
    (package / "inner.py").write_text("a = 1\n")
    (tmp_path / "pyproject.toml").touch()  # what a checkout is known by
    own = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], [*own, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    monkeypatch.setattr(paths, "PACKAGE", package)
    committed = runs.provenance()["commit"]
    assert len(committed) == 12
    (package / "inner.py").write_text("a = 2\n")
    assert runs.provenance()["commit"] == f"{committed}+changes"


def test_a_setting_that_came_later_does_not_count_while_it_stands_at_its_default():
    plain, other = DataSettings(), DataSettings(root="photos")
    assert "root" not in as_record(plain) and as_record(other) == as_record(plain) | {"root": "photos"}
    assert as_record(profiles.get("smoke").pseudo_labels)["clip_es"]["template"] == "ted-loc"  # all the way down


FIRST_EDITION = {
    "encoder.name": "aviary/encoder",
    "loss.kd": 1.0,
    "loss.patch": 1.0,
    "loss.image": 1.0,
    "optimiser.momentum": 0.9,
    "optimiser.weight_decay": 1e-4,
    "pseudo_labels.clip_es.siblings": True,
    "pseudo_labels.clip_es.background": "aviary",
    "methods.cam.optimiser.learning_rate": 0.05,
}


@pytest.mark.parametrize(
    "method, key",
    [
        ("tedloc", "f656abb85e114fe7"),
        ("cam", "5f76758bf7ddec1f"),
    ],
)
def test_checkpoints_of_the_first_edition_still_carry_the_key_of_their_settings(method, key):
    assert fingerprints.digest(create(method, profiles.get("aviary", FIRST_EDITION)).settings()).startswith(key)


def test_a_world_draws_other_images_and_takes_other_towers_of_the_aviary_alone():
    profile, photos = profiles.get("aviary"), profiles.get("photos")
    third = profile.in_world(3)
    assert (third.data.seed, third.encoder.name) == (3, "aviary/cnn-3")
    assert third.anchors.text == third.pseudo_labels.clip == "aviary/clip-3"
    assert profile.in_world(0) == profile and photos.in_world(3) == photos
    assert override(profile, {"anchors.text": "minilm"}).in_world(1).anchors.text == "minilm"
    assert profile.judged == profile.seeds[1:] and photos.judged == photos.seeds
    asked = runs.grid(profile, seeds=(0, 3))
    assert [(request.seed, request.profile.data.seed) for request in asked] == [(0, 0), (3, 3)]
