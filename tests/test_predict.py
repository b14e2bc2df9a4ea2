"""A trained run applied to images that nobody measured it on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from tedloc import predict, runs
from tedloc.data import box_files, open_split
from tedloc.data.images import read_image
from tedloc.data.problems import Problems
from tedloc.errors import UserError
from tedloc.metrics import boxes
from tedloc.runs.localizer import Found


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
    (story,) = predict.predict(localizer, {Path("wide"): tmp_path / "wide.png"}, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "wide.json").read_text())
    assert {name: written[name] for name in story} == story
    assert (story["width"], story["height"]) == (320, 160)
    grid = np.array(story["box on grid"])
    assert np.allclose(story["box"], grid * np.array([320, 160, 320, 160]) / 224, atol=0.01)
    assert written["threshold"] == localizer.threshold and written["model"]["profile"] == "smoke"
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


def test_what_cannot_be_read_gets_a_sentence_and_the_others_go_on(small_run, bird, tmp_path, capsys):
    Image.fromarray(bird).save(tmp_path / "fine.png")
    content = (tmp_path / "fine.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "words.txt").write_text("no image")
    images = [tmp_path / name for name in ("cut.png", "words.txt", "absent.png", "fine.png")]
    code, out, err = call(capsys, "--checkpoint", small_run, *images, "--out", tmp_path / "out")
    assert code == 2
    said = [part.split("\n")[0] for part in err.split("error: image ")[1:]]
    assert [part.partition(" (")[0].replace(str(tmp_path), "") for part in said] == [
        "/cut.png cannot be read",
        "/words.txt cannot be read",
        "/absent.png is missing; correct the path",
    ]
    assert out.count("\n") == 1 and "fine.png: " in out
    assert names(tmp_path / "out") == ["fine.json", "fine.png", "predictions.jsonl"]


def names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def album(tmp_path) -> Path:
    """Five pictures in two folders, and a file that is none."""
    images = open_split("aviary", "test", per_class=4)
    for n, name in enumerate(("a/one.png", "a/two.jpg", "b/one.PNG", "b/deep/er.webp", "three.bmp")):
        file = tmp_path / "album" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.image(9 * n)).resize((80 + 10 * n, 60)).save(file)
    (tmp_path / "album" / "notes.txt").write_text("no photo")
    return tmp_path / "album"


def test_a_folder_is_answered_for_to_its_bottom(small_run, album, tmp_path, capsys):
    out = tmp_path / "out"
    code, shown, _ = call(capsys, "--checkpoint", small_run, album, "--out", out, "--overlay", "jpg")
    assert code == 0 and "5 of 5 photos have a box" in shown and predict.LIMITS in shown
    stems = ("a/one", "a/two", "b/deep/er", "b/one", "three")
    assert names(out) == sorted([f"{s}.json" for s in stems] + [f"{s}.jpg" for s in stems] + ["predictions.jsonl"])
    with Image.open(out / "a" / "one.jpg") as drawn:
        assert drawn.format == "JPEG"


def test_a_pattern_is_answered_for(small_run, album, tmp_path, capsys):
    pattern = f"{album}/*/*.[pP]*"
    code, _, _ = call(capsys, "--checkpoint", small_run, pattern, "--out", tmp_path / "out", "--overlay", "none")
    assert code == 0 and names(tmp_path / "out") == ["a/one.json", "b/one.json", "predictions.jsonl"]


@pytest.mark.parametrize("kind", ["csv", "coco", "voc"])
def test_answers_read_back_as_box_files(localizer, album, tmp_path, kind):
    stories = predict.predict(localizer, predict.photos([str(album)]), tmp_path / "out", kind=kind, overlay="none")
    place = tmp_path / "out" / {"csv": "predictions.csv", "coco": "predictions.json", "voc": ""}[kind]
    problems = Problems(place)
    found = list(box_files.read(place, problems, (".xml",) if kind == "voc" else ()))
    problems.check()
    assert len(found) == 5
    by_name = {Path(story["image"]).relative_to(album).with_suffix("").as_posix(): story for story in stories}
    for each in found:
        story = next(story for name, story in by_name.items() if name in each.image)
        assert np.allclose(each.box, story["box"], atol=0.51 if kind == "voc" else 0.011)
        assert each.kind == story["classes"][0]["name"]
        assert each.size in (None, (story["width"], story["height"]))


def test_boxes_lie_within_their_photo(localizer, album, tmp_path):
    for threshold in (0.0, 0.3, 0.9):
        folder = tmp_path / str(threshold)
        for story in predict.predict(
            localizer, predict.photos([str(album)]), folder, overlay="none", threshold=threshold
        ):
            x0, y0, x1, y1 = story["box"]
            assert 0 <= x0 < x1 <= story["width"] and 0 <= y0 < y1 <= story["height"]


def test_batches_answer_as_single_photos_do(localizer, album):
    images = [read_image(path) for path in predict.photos([str(album)]).values()]
    for one, many in zip(map(localizer, images), localizer.many(images), strict=True):
        assert np.abs(one.map - many.map).max() < 1e-4 and np.abs(one.scores - many.scores).max() < 1e-4


def test_a_killed_command_goes_on_and_another_format_costs_nothing(small_run, album, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    arguments = ["--checkpoint", small_run, album, "--out", out, "--overlay", "none"]
    assert call(capsys, *arguments)[0] == 0
    journal = out / "predictions.jsonl"
    whole = journal.read_text()
    journal.write_text(whole[: whole.rindex('{"image')][:-200])  # two answers and a half are lost
    (out / "three.json").unlink()
    code, shown, _ = call(capsys, *arguments)
    assert code == 0 and "3 of 5 photos are done already" in shown and shown.count("softmax") == 2
    assert (out / "three.json").exists() and len(journal.read_text().splitlines()) == 6
    monkeypatch.setattr(predict.Localizer, "many", None)  # would fail
    code, shown, _ = call(capsys, *arguments, "--format", "coco")
    assert code == 0 and "5 of 5 photos are done already" in shown and (out / "predictions.json").exists()


def test_results_of_other_settings_are_refused(small_run, album, tmp_path, capsys):
    arguments = ["--checkpoint", small_run, album / "three.bmp", "--out", tmp_path / "out", "--overlay", "none"]
    assert call(capsys, *arguments)[0] == 0
    before = (tmp_path / "out" / "three.json").read_bytes()
    code, _, err = call(capsys, *arguments, "--threshold", "0.9")
    assert code == 2 and "predictions.jsonl holds results of other settings (threshold " in err
    assert "or --force to replace" in err and (tmp_path / "out" / "three.json").read_bytes() == before
    assert call(capsys, *arguments, "--threshold", "0.9", "--force")[0] == 0
    assert json.loads((tmp_path / "out" / "three.json").read_text())["threshold"] == 0.9


def test_a_photo_that_changed_is_answered_for_again(small_run, album, tmp_path, capsys, bird):
    arguments = ["--checkpoint", small_run, album / "three.bmp", "--out", tmp_path / "out", "--overlay", "none"]
    call(capsys, *arguments)
    Image.fromarray(bird).save(album / "three.bmp")
    call(capsys, *arguments)
    assert json.loads((tmp_path / "out" / "three.json").read_text())["width"] == 80


def test_a_journal_of_something_else_is_not_overwritten(small_run, album, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.jsonl").write_text("dear diary\n")
    code, _, err = call(capsys, "--checkpoint", small_run, album, "--out", tmp_path / "out")
    assert code == 2 and "predictions.jsonl is damaged; delete it, or give another folder by --out" in err
    assert (tmp_path / "out" / "predictions.jsonl").read_text() == "dear diary\n"


def test_a_picture_never_replaces_a_photo(small_run, bird, tmp_path, capsys):
    folder = tmp_path / "album"
    folder.mkdir()
    Image.fromarray(bird).save(folder / "a.png")
    code, _, err = call(capsys, "--checkpoint", small_run, folder / "a.png", "--out", folder, "--force")
    assert code == 2 and "is a photo itself" in err
    assert np.array_equal(np.array(Image.open(folder / "a.png")), bird) and names(folder) == ["a.png"]


def test_familiarity_is_the_share_of_validation_photos_that_are_less_usual(localizer):
    images = open_split("aviary", "val", per_class=4)
    answers = [localizer(images.image(i)) for i in range(len(images))]
    found = np.array([localizer.familiarity(each) for each in answers])
    two = np.array([[each.scores.max(), each.map.max()] for each in answers]).argsort(0).argsort(0).min(axis=1)
    ranks = two.argsort().argsort() / (len(found) - 1)
    assert np.abs(found - ranks).max() < 0.06
    for scores, score_map in ((-99.0, 1.0), (99.0, 0.0)):  # a class without an object, an object of no class
        unlike = Found(np.full((4, 4), score_map), np.full(20, scores), None, None)
        assert localizer.familiarity(unlike) == 0.0


def test_what_scores_too_low_is_refused(localizer, album, tmp_path):
    sources = predict.photos([str(album)])
    free = predict.predict(localizer, sources, tmp_path / "free", overlay="none")
    bound = sorted(story["familiarity"] for story in free)[2] + 0.001
    strict = predict.predict(localizer, sources, tmp_path / "strict", kind="csv", overlay="jpg", min_score=bound)
    for before, after in zip(free, strict, strict=True):
        assert (after["box"] is None) == (before["familiarity"] < bound)
        assert after["no box because"] == (None if after["box"] else "it is less familiar than --min-score")
    assert len((tmp_path / "strict" / "predictions.csv").read_text().splitlines()) == 1 + 2
    assert all((tmp_path / "strict" / f"{name}.jpg").exists() for name in sources)


def test_a_box_in_the_last_column_has_a_width(localizer):
    corner = np.zeros((224, 224))
    corner[100:, 223] = 1
    found = localizer.cut(corner, np.zeros(20), (448, 224), 0.5)
    assert found.grid == (223, 100, 223, 223) and found.box == (446, 100, 448, 223)


def test_a_flat_map_has_no_box(localizer):
    found = localizer.cut(np.full((10, 10), 0.3), np.zeros(20), (80, 60))
    assert found.box is None and found.grid is None


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
        (["a/x.jpg", "b/x.png"], "a/x.jpg and b/x.png would share one result; rename one"),
        (["x.jpg"], "absent holds no finished run (absent)"),
        (["absent/*.jpg"], "absent/*.jpg: no photo there (.jpg "),
    ],
)
def test_bad_arguments_get_one_sentence(capsys, arguments, message):
    code, _, err = call(capsys, "--checkpoint", "absent", *arguments)
    assert code == 2 and err.startswith("error: ") and message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"threshold": 1.0}, "--threshold is 1.0; give one from 0"),
        ({"min_score": -0.1}, "--min-score is -0.1; give a share of validation photos"),
    ],
)
def test_bad_settings_get_one_sentence(localizer, settings, message):
    with pytest.raises(UserError, match=message):
        predict.about(localizer, **settings)
