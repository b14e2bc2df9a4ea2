"""What was exported says what the run says: a folder for this package, a graph for any other program."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tedloc import export, predict, profiles, runs
from tedloc.data import open_split
from tedloc.errors import UserError
from tedloc.metrics import boxes
from tedloc.runs import localizer as localizers
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


def test_a_folder_without_its_encoder_is_small_and_answers_as_the_run_does(small_run, tmp_path):
    export.main(["--checkpoint", str(small_run), "--without-encoder", str(tmp_path / "model")])
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert not any(name.startswith("encoder.") for name in weights)
    assert {str(value.dtype) for value in weights.values() if value.ndim in (2, 4)} == {"torch.float16"}
    ours, theirs = predict.load(small_run), predict.load(tmp_path / "model")
    images = open_split("aviary", "test", per_class=4)
    for index in range(0, 80, 16):
        one, other = ours(images.image(index)), theirs(images.image(index))
        assert np.abs(one.map - other.map).max() < 0.01 and one.scores.argmax() == other.scores.argmax()
        assert boxes.iou(np.array(one.grid), np.array(other.grid)) > 0.95
    assert theirs.class_names == images.class_names and theirs.about == ours.about and theirs.scored == ours.scored


def test_a_folder_tells_what_the_run_scored(small_run, tmp_path):
    export.main(["--checkpoint", str(small_run), str(tmp_path / "model")])
    scored, metrics = predict.load(tmp_path / "model").scored, runs.Run(small_run).metrics["routes"]["g"]
    assert list(scored) == list(localizers.SCORES) and scored == {name: metrics[name] for name in scored}


def test_the_terms_of_imagenet_s_photos_are_told(small_run):
    drawn = predict.load(small_run)
    assert drawn.terms is None
    assert "not commercial" in dataclasses.replace(drawn, about=drawn.about | {"dataset": "imagenette"}).terms


def test_an_encoder_that_comes_in_no_package_is_not_left_out(small_run, tmp_path):
    localizer = predict.load(small_run)
    own = dataclasses.replace(localizer, settings={"encoder": localizer.settings["encoder"] | {"weights": "own.pt"}})
    with pytest.raises(UserError, match="come in no package; export the model with its encoder"):
        localizers.save(own, tmp_path / "model", encoder=False)
    assert not (tmp_path / "model").exists()


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


@pytest.mark.parametrize("kind, share, off", [("float16", 0.55, 0.01), ("float15", 0.55, 0.02), ("int8", 0.33, 0.1)])
def test_a_graph_with_small_weights_is_small_and_answers_nearly_the_same(
    small_run, exported, tmp_path, onnxruntime, kind, share, off
):
    file = tmp_path / "small.onnx"
    export.main(["--checkpoint", str(small_run), "--weights", kind, str(file)])
    assert file.stat().st_size < share * exported.stat().st_size
    assert json.loads(file.with_suffix(".json").read_text())["weights"] == kind
    whole, small = (
        onnxruntime.InferenceSession(str(each), providers=["CPUExecutionProvider"]) for each in (exported, file)
    )
    images = open_split("aviary", "test", per_class=4)
    for index in range(0, 80, 16):
        image = {"image": images.image(index).transpose(2, 0, 1)[None] / np.float32(255)}
        for one, other in zip(whole.run(None, image), small.run(None, image), strict=True):
            assert 0 < np.abs(one - other).max() < off * max(1, np.abs(one).max())


def test_a_shortened_half_is_off_by_a_1024th_at_most_and_ends_in_a_zero():
    values = (np.random.default_rng(0).normal(size=5000) * np.logspace(-4, 3, 5000)).astype(np.float16)
    short = export.shortened(values)
    assert not (short.view(np.uint16) & 1).any() and (short != values).any()
    off, allowed = np.abs(short.astype(np.float64) - values), np.abs(values.astype(np.float64)) / 1024
    assert (off <= np.maximum(allowed, 2.0**-23)).all()  # the smallest halves are 2 ** -24 apart
    assert not export.shortened(np.zeros(2, np.float16)).any()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_quantised_weight_is_off_by_half_a_step_of_its_channel_at_most(axis):
    values = np.random.default_rng(0).normal(size=(6, 5, 3, 3)).astype(np.float32)
    values *= np.logspace(-6, 2, values.shape[axis], dtype=np.float32).reshape(
        [-1 if i == axis else 1 for i in range(4)]
    )
    codes, scale = export.quantised(values, axis)
    assert codes.dtype == np.int8 and scale.size == values.shape[axis]
    assert (np.abs(codes * scale - values) <= 0.5001 * scale).all()
    assert not export.quantised(np.zeros((2, 3), np.float32), axis)[0].any()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["model.json"], "neither a folder's name nor one that ends in .onnx"),
        (["model", "--weights", "int8"], "--weights int8 is for a file that ends in .onnx"),
        (["model.onnx", "--without-encoder"], "--without-encoder is for a folder"),
    ],
)
def test_a_target_or_an_option_that_does_not_fit_is_refused(small_run, tmp_path, capsys, arguments, sentence):
    target, *options = arguments
    with pytest.raises(SystemExit) as stop:
        export.main(["--checkpoint", str(small_run), str(tmp_path / target), *options])
    assert stop.value.code == 2 and sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
