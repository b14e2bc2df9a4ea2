"""What was exported says what the run says: a folder for this package, a graph for any other program."""

import hashlib
import json

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tedloc import export, predict, profiles, runs
from tedloc.data import open_split
from tedloc.errors import UserError
from tedloc.settings import override


@pytest.fixture(scope="module")
def onnxruntime():
    return pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'tedloc[onnx]'")


def test_a_folder_answers_as_the_run_does_without_run_or_data(small_run, tmp_path):
    export.main(["--checkpoint", str(small_run), str(tmp_path / "model")])
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == ["model.json", "model.safetensors"]
    ours, theirs = predict.load(small_run), predict.load(tmp_path / "model")
    images = open_split("aviary", "test", per_class=4)
    for index in range(0, 80, 16):
        one, other = ours(images.image(index)), theirs(images.image(index))
        assert np.array_equal(one.map, other.map) and np.array_equal(one.scores, other.scores) and one.box == other.box
        assert ours.familiarity(one) == theirs.familiarity(other)
    assert theirs.class_names == images.class_names and theirs.about == ours.about
    assert predict.about(theirs) == predict.about(ours)


def test_the_weights_in_the_folder_are_those_that_count(small_run, tmp_path):
    """Not those that the package ships, nor any of a hub."""
    export.main(["--checkpoint", str(small_run), str(tmp_path / "model")])
    file, story = tmp_path / "model" / "model.safetensors", tmp_path / "model" / "model.json"
    weights = load_file(file)
    name = next(name for name in weights if name.startswith("encoder.") and weights[name].ndim == 4)
    save_file(weights | {name: weights[name] + 1}, file)
    with pytest.raises(UserError, match="is not the file that model.json beside it describes; copy the folder again"):
        predict.load(tmp_path / "model")
    told = json.loads(story.read_text()) | {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    story.write_text(json.dumps(told))
    image = open_split("aviary", "test", per_class=4).image(0)
    assert not np.array_equal(predict.load(small_run)(image).map, predict.load(tmp_path / "model")(image).map)


def test_a_tapped_encoder_stays_tapped(tmp_path):
    profile = override(profiles.get("smoke"), {"encoder.name": "aviary/vit", "encoder.tap": 2, "data.per_class": 2})
    (run,) = runs.collect([runs.Request(profile, "tedloc", 0, "cpu")])
    export.main(["--checkpoint", str(run.folder), str(tmp_path / "model")])
    ours, theirs = predict.load(run.folder), predict.load(tmp_path / "model")
    image = open_split("aviary", "test", per_class=2).image(0)
    assert theirs.encoder.tap == 2 and np.array_equal(ours(image).map, theirs(image).map)


def test_a_model_is_not_overwritten(small_run, tmp_path, capsys):
    export.main(["--checkpoint", str(small_run), str(tmp_path / "model")])
    with pytest.raises(SystemExit) as stop:
        export.main(["--checkpoint", str(small_run), str(tmp_path / "model")])
    assert stop.value.code == 2 and "holds a model already; give another folder" in capsys.readouterr().err


@pytest.fixture(scope="module")
def exported(small_run, tmp_path_factory, onnxruntime):
    file = tmp_path_factory.mktemp("onnx") / "tedloc.onnx"
    export.main(["--checkpoint", str(small_run), str(file)])
    return file


def test_maps_scores_and_boxes_equal_those_of_pytorch(small_run, exported, onnxruntime):
    localizer, images = predict.load(small_run), open_split("aviary", "test", per_class=4)
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    for index in range(0, 80, 8):
        image = images.image(index)
        score_map, scores = session.run(None, {"image": image.transpose(2, 0, 1)[None] / np.float32(255)})
        ours = localizer(image)
        assert np.abs(score_map[0] - ours.map).max() < 1e-4
        assert np.abs(scores[0] - ours.scores).max() < 1e-4
        assert localizer.cut(score_map[0], scores[0], (80, 80)).grid == ours.grid


def test_the_json_beside_it_tells_what_a_program_needs(small_run, exported, onnxruntime):
    story, localizer = json.loads(exported.with_suffix(".json").read_text()), predict.load(small_run)
    content = exported.read_bytes()
    assert story["sha256"] == hashlib.sha256(content).hexdigest() and story["bytes"] == len(content)
    assert story["classes"] == localizer.class_names and story["threshold"] == localizer.threshold
    (entry,) = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).get_inputs()
    assert (entry.name, entry.shape) == (story["input"]["name"], story["input"]["shape"])
    assert story["model"]["commit"]
    assert sorted(file.name for file in exported.parent.iterdir()) == ["tedloc.json", "tedloc.onnx"]


def test_the_same_run_gives_the_same_file(small_run, exported, tmp_path):
    export.to_onnx(predict.load(small_run), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


def test_a_file_of_another_kind_is_refused(small_run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        export.main(["--checkpoint", str(small_run), str(tmp_path / "model.json")])
    assert stop.value.code == 2 and "neither a folder's name nor one that ends in .onnx" in capsys.readouterr().err
