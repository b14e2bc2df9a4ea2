"""The exported graph says what PyTorch says."""

import hashlib
import json

import numpy as np
import pytest

from tedloc import onnx_export, predict
from tedloc.data import open_split

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'tedloc[onnx]'")


@pytest.fixture(scope="module")
def exported(small_run, tmp_path_factory):
    file = tmp_path_factory.mktemp("onnx") / "tedloc.onnx"
    onnx_export.main(["--checkpoint", str(small_run), str(file)])
    return file


def test_maps_scores_and_boxes_equal_those_of_pytorch(small_run, exported):
    localizer, images = predict.load(small_run), open_split("aviary", "test", per_class=4)
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    for index in range(0, 80, 8):
        image = images.image(index)
        score_map, scores = session.run(None, {"image": image.transpose(2, 0, 1)[None] / np.float32(255)})
        ours = localizer(image)
        assert np.abs(score_map[0] - ours.map).max() < 1e-4
        assert np.abs(scores[0] - ours.scores).max() < 1e-4
        assert localizer.cut(score_map[0], scores[0], (80, 80)).grid == ours.grid


def test_the_json_beside_it_tells_what_a_program_needs(small_run, exported):
    story, localizer = json.loads(exported.with_suffix(".json").read_text()), predict.load(small_run)
    content = exported.read_bytes()
    assert story["sha256"] == hashlib.sha256(content).hexdigest() and story["bytes"] == len(content)
    assert story["classes"] == localizer.class_names and story["threshold"] == localizer.threshold
    (entry,) = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).get_inputs()
    assert (entry.name, entry.shape) == (story["input"]["name"], story["input"]["shape"])
    assert story["model"]["commit"]
    assert sorted(file.name for file in exported.parent.iterdir()) == ["tedloc.json", "tedloc.onnx"]


def test_the_same_run_gives_the_same_file(small_run, exported, tmp_path):
    onnx_export.export(predict.load(small_run), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


def test_a_file_of_another_kind_is_refused(small_run, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        onnx_export.main(["--checkpoint", str(small_run), str(tmp_path / "model.json")])
    assert stop.value.code == 2 and "does not end in .onnx" in capsys.readouterr().err
