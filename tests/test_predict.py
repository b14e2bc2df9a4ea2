"""A trained run applied to images that nobody measured it on."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from tedloc import predict, runs
from tedloc.data import open_split
from tedloc.errors import UserError
from tedloc.metrics import boxes


@pytest.fixture(scope="module")
def localizer(small_run):
    return predict.load(small_run)


@pytest.fixture
def bird() -> np.ndarray:
    return open_split("aviary", "test", per_class=4).image(7)


def call(capsys, *arguments) -> tuple[int, str, str]:
    try:
        predict.main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as stop:
        code = stop.code
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_the_boxes_are_those_that_the_run_was_scored_with(localizer, small_run):
    images = open_split("aviary", "test", per_class=4)
    scored = runs.Run(small_run).meter("g").per_image(localizer.threshold).set_index("id")
    for index in range(0, 80, 8):
        row, found = scored.loc[images.ids[index]], localizer(images.image(index))
        assert int(found.scores.argmax()) == row["predicted"]
        theirs = row[["grid_x0", "grid_y0", "grid_x1", "grid_y1"]].astype(int)
        assert boxes.iou(np.array(found.grid), np.array(theirs)) > 0.95  # float32 here, a float16 cache there


def test_an_image_gets_a_box_in_its_own_pixels_and_ranked_classes(localizer, bird, tmp_path):
    wide = Image.fromarray(bird).resize((320, 160), Image.Resampling.NEAREST)
    wide.save(tmp_path / "wide.png")
    story = predict.apply(localizer, tmp_path / "wide.png", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "wide.json").read_text()) == story
    assert (story["width"], story["height"]) == (320, 160)
    grid = np.array(story["box on grid"])
    assert np.allclose(story["box"], grid * np.array([320, 160, 320, 160]) / 224, atol=0.01)
    assert story["threshold"] == localizer.threshold and story["model"]["profile"] == "smoke"
    scores = [each["score"] for each in story["classes"]]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True)
    assert story["classes"][0]["name"] == localizer.class_names[story["classes"][0]["index"]]
    drawn = np.array(Image.open(tmp_path / "out" / "wide.png").convert("RGB")).reshape(-1, 3)
    assert len(np.unique(drawn, axis=0)) > 1000


def test_the_threshold_is_the_one_that_validation_chose(localizer, small_run):
    assert localizer.threshold == runs.Run(small_run).meter("g", "val").best_threshold()


def test_another_threshold_gives_another_box(localizer, bird):
    low, high = (localizer(bird, threshold).grid for threshold in (0.05, 0.9))
    assert (low[2] - low[0]) * (low[3] - low[1]) > (high[2] - high[0]) * (high[3] - high[1]) > 0


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "I;16", "RGBA", "CMYK"])
def test_every_kind_of_image_is_read_as_people_see_it(bird, tmp_path, mode):
    grey = Image.fromarray(bird).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.array(grey).astype(np.uint16) * 257)
    else:
        image = (Image.fromarray(bird) if mode in ("P", "RGBA", "CMYK") else grey).convert(mode)
    suffix = ".tiff" if mode == "CMYK" else ".png"
    image.save(tmp_path / f"photo{suffix}")
    read = predict.read_photo(tmp_path / f"photo{suffix}")
    assert read.shape == (80, 80, 3) and read.dtype == np.uint8
    expected = bird if mode in ("P", "RGBA", "CMYK") else np.array(grey)[..., None]
    tolerance = 130 if mode == "1" else 30 if mode == "P" else 2
    assert np.abs(read.astype(int) - expected).mean() < tolerance


def test_a_photo_is_turned_by_its_tag_and_what_is_transparent_is_white(bird, tmp_path):
    tags = Image.Exif()
    tags[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(bird[:40]).save(tmp_path / "turned.png", exif=tags)
    assert np.array_equal(predict.read_photo(tmp_path / "turned.png"), np.rot90(bird[:40], -1))
    clear = np.dstack([bird, np.zeros((80, 80), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert (predict.read_photo(tmp_path / "clear.png") == 255).all()


def test_what_cannot_be_read_gets_a_sentence_and_the_others_go_on(small_run, bird, tmp_path, capsys):
    Image.fromarray(bird).save(tmp_path / "fine.png")
    content = (tmp_path / "fine.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "words.txt").write_text("no image")
    images = [tmp_path / name for name in ("cut.png", "words.txt", "absent.png", "fine.png")]
    code, out, err = call(capsys, "--checkpoint", small_run, *images, "--out", tmp_path / "out")
    assert code == 2
    lines = err.strip().splitlines()
    assert [line.partition(" (")[0].replace(str(tmp_path), "") for line in lines] == [
        "error: image /cut.png cannot be read",
        "error: image /words.txt cannot be read",
        "error: image /absent.png does not exist; correct the path",
    ]
    assert out.count("\n") == 1 and "fine.png: " in out
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["fine.json", "fine.png"]


def test_results_are_replaced_only_on_demand_and_an_image_never(small_run, bird, tmp_path, capsys):
    Image.fromarray(bird).save(tmp_path / "a.png")
    arguments = ["--checkpoint", small_run, tmp_path / "a.png", "--out", tmp_path / "out"]
    assert call(capsys, *arguments)[0] == 0
    before = (tmp_path / "out" / "a.json").stat().st_mtime_ns
    code, _, err = call(capsys, *arguments)
    assert code == 2 and "a.json exists; give --force" in err
    assert (tmp_path / "out" / "a.json").stat().st_mtime_ns == before
    assert call(capsys, *arguments, "--force")[0] == 0
    code, _, err = call(capsys, "--checkpoint", small_run, tmp_path / "a.png", "--out", tmp_path, "--force")
    assert code == 2 and "is the image itself" in err
    assert np.array_equal(np.array(Image.open(tmp_path / "a.png")), bird)


def test_a_run_that_cannot_be_used_is_refused(small_run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(small_run, copy)
    settings = json.loads((copy / "settings.json").read_text())

    def refusal() -> str:
        with pytest.raises(UserError) as caught:
            predict.load(copy)
        return str(caught.value)

    (copy / "settings.json").write_text(json.dumps(settings | {"seed": 1}))
    assert "trained under other settings" in refusal()
    (copy / "settings.json").write_text(json.dumps(settings | {"method": "cam"}))
    assert "a run of 'cam'; only runs of 'tedloc'" in refusal()
    (copy / "settings.json").write_text(json.dumps(settings))
    with safe_open(copy / "checkpoint.safetensors", "pt") as opened:
        about, weights = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}
    weights["1.decoder.earlier"] = weights.pop("1.decoder.0.weight")
    save_file(weights, copy / "checkpoint.safetensors", about)
    assert "another state of the code (commit " in refusal()
    (copy / "checkpoint.safetensors").unlink()
    assert "checkpoint.safetensors is missing" in refusal()
    (copy / "metrics.json").unlink()
    assert "holds no finished run (unfinished)" in refusal()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["a/x.jpg", "b/x.png"], "several images are called 'x'"),
        (["x.jpg", "--threshold", "1"], "--threshold is 1.0; give one from 0"),
        (["x.jpg"], "absent holds no finished run (absent)"),
    ],
)
def test_bad_arguments_get_one_sentence(capsys, arguments, message):
    code, _, err = call(capsys, "--checkpoint", "absent", *arguments)
    assert code == 2 and err.startswith("error: ") and message in err and err.count("\n") == 1
