"""``tedloc.evaluate`` with boxes from COCO or CSV in place of the benchmark's lists, and boxes in place of maps."""

import csv
import json

import numpy as np
import pytest
from test_evaluate_command import IDS, Folder

from tedloc import evaluate
from tedloc.data.benchmark import read_split

OWN = ("--scoremap-root", "--metadata-root", "--dataset")


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def coco(folder, split="test"):
    """The split's boxes as COCO; ids and categories in another order than in the lists."""
    truth = read_split(folder.metadata, "CUB", split)
    images = [
        {"id": 100 - n, "file_name": name, "width": int(w), "height": int(h)}
        for n, (name, (w, h)) in enumerate(zip(truth.ids, truth.sizes, strict=True))
    ]
    annotations = [
        {"id": n, "image_id": 100 - n, "category_id": int(7 * label + 1), "bbox": [x0, y0, x1 - x0 + 1, y1 - y0 + 1]}
        for n, (label, ((x0, y0, x1, y1),)) in enumerate(zip(truth.labels, (b.tolist() for b in truth.boxes)))
    ]
    categories = [{"id": 7 * n + 1, "name": f"kind {n}"} for n in reversed(range(6))]
    return {"images": images[::-1], "annotations": annotations, "categories": categories}


def table(folder, split="test"):
    content = coco(folder, split)
    of = {image["id"]: image for image in content["images"]}
    rows = [["image", "x0", "y0", "x1", "y1", "class", "width", "height"]]
    for entry in content["annotations"]:
        image, (x, y, w, h) = of[entry["image_id"]], entry["bbox"]
        number = entry["category_id"] // 7
        rows.append([image["file_name"], x, y, x + w, y + h, number, image["width"], image["height"]])
    return rows


def write(file, content):
    if file.suffix == ".json":
        file.write_text(json.dumps(content))
    else:
        with file.open("w", newline="") as lines:
            csv.writer(lines).writerows(content)
    return file


def run(folder, *arguments):
    out = folder.root / "out.json"
    out.unlink(missing_ok=True)
    evaluate.main([*map(str, arguments), "--json", str(out)])
    return json.loads(out.read_text())


def figures(result):
    return {name: value for name, value in result.items() if name != "evaluated"}


@pytest.mark.parametrize("kind", ["boxes.json", "boxes.csv"])
def test_boxes_from_one_file_give_the_figures_of_the_lists(folder, kind):
    make = coco if kind.endswith("json") else table
    scores = folder.write_scores(".csv")
    usual = folder.run("--scores", scores, "--val-scoremap-root", folder.maps_of("val"))
    found = run(
        folder,
        *("--scoremap-root", folder.maps_of("test"), "--boxes", write(folder.root / kind, make(folder))),
        *("--val-scoremap-root", folder.maps_of("val")),
        *("--val-boxes", write(folder.root / f"val-{kind}", make(folder, "val")), "--scores", scores),
    )
    assert figures(found) == figures(usual)


def results(folder, shift=0.0):
    """COCO results: each image's own box, shifted, and a worse one of lower score."""
    content = coco(folder)
    return [
        {"image_id": entry["image_id"], "category_id": 1, "bbox": box, "score": score}
        for entry in content["annotations"]
        for box, score in (
            ([1, 1, 9, 9], 0.2),
            ([entry["bbox"][0] + shift, *entry["bbox"][1:3], entry["bbox"][3] - shift], 0.9),
        )
    ]


def predicted(folder, content, *arguments, truth=None, kind="results.json"):
    file = write(folder.root / kind, content)
    truth = ("--boxes", write(folder.root / "truth.json", truth or coco(folder)))
    return run(folder, "--predicted-boxes", file, *truth, *arguments)


def test_predicted_boxes_are_scored_the_best_one_of_an_image(folder, capsys):
    result = predicted(folder, results(folder), "--scores", folder.write_scores(".csv"), "--bootstrap", 5)
    assert result["MaxBoxAcc@0.7"] == result["MaxBoxAccV2"] == 100
    assert result["Top-1 Loc"] == result["Top-1 CL"] and result["mean IoU"] > 95
    assert result["intervals"]["MaxBoxAcc@0.5"] == [100, 100]
    assert "threshold@0.5" not in result and "curve" not in result
    assert "full-image box" in capsys.readouterr().out


def test_predicted_boxes_beside_the_lists_are_named_by_image(folder):
    names = {image["id"]: image["file_name"] for image in coco(folder)["images"]}
    content = [entry | {"image_id": names[entry["image_id"]]} for entry in results(folder)]
    file = write(folder.root / "named.json", content)
    usual = predicted(folder, results(folder))
    found = run(folder, "--predicted-boxes", file, "--metadata-root", folder.metadata, "--dataset", "CUB")
    found["baselines"].pop("centred box")  # has a validation split to be sized on
    for each in (found, usual):
        each["baselines"] = {n: {k: v for k, v in b.items() if "val" not in k} for n, b in each["baselines"].items()}
    assert figures(found) == figures(usual)


def test_predicted_boxes_from_a_csv_and_from_a_coco_file_with_scores(folder):
    names = {image["id"]: image["file_name"] for image in coco(folder)["images"]}
    rows = [["image", "x0", "y0", "x1", "y1", "score"]]
    for entry in results(folder):
        x, y, w, h = entry["bbox"]
        rows.append([names[entry["image_id"]], x, y, x + w, y + h, entry["score"]])
    usual = figures(predicted(folder, results(folder)))
    assert figures(predicted(folder, rows, kind="results.csv")) == usual
    whole = coco(folder) | {"annotations": results(folder)}
    assert figures(predicted(folder, whole)) == usual


def test_images_without_a_predicted_box_are_said(folder, capsys):
    content = results(folder)[2:]
    with pytest.raises(SystemExit):
        predicted(folder, content)
    assert "results.json lacks the boxes of 1 of 8 images" in capsys.readouterr().err
    result = predicted(folder, content, "--allow-missing", "--scores", folder.write_scores(".csv"))
    assert (result["num_images"], result["num_missing"]) == (7, 1)


def damaged(change):
    def made(folder):
        content = coco(folder)
        change(content)
        return content

    return made


BAD_TRUTH = {
    "no size": (damaged(lambda c: c["images"][0].pop("width")), "without one size"),
    "box outside": (damaged(lambda c: c["annotations"][0].update(bbox=[1, 1, 9999, 5])), "outside its photo"),
    "no width": (damaged(lambda c: c["annotations"][0].update(bbox=[1, 1, 0, 5])), "ends before it begins"),
    "leads out": (damaged(lambda c: c["images"][0].update(file_name="../x.jpg")), "leads out of its folder"),
    "no box at all": (damaged(lambda c: c["annotations"].clear()), "no box"),
    "not COCO": (lambda folder: [1, 2], "not COCO's"),
}


@pytest.mark.parametrize("case", BAD_TRUTH)
def test_what_is_wrong_with_a_file_of_boxes_is_said(folder, capsys, case):
    make, said = BAD_TRUTH[case]
    with pytest.raises(SystemExit) as ending:
        run(folder, "--scoremap-root", folder.maps_of("test"), "--boxes", write(folder.root / "b.json", make(folder)))
    error = capsys.readouterr().err
    assert ending.value.code == 2 and said in error and "b.json" in error


def test_classes_are_needed_for_top_k_only(folder, capsys):
    def two(content):
        content["annotations"].append(content["annotations"][0] | {"category_id": 36})

    truth = ("--boxes", write(folder.root / "b.json", damaged(two)(folder)))
    assert run(folder, "--scoremap-root", folder.maps_of("test"), *truth)["num_images"] == 8
    with pytest.raises(SystemExit):
        run(folder, "--scoremap-root", folder.maps_of("test"), *truth, "--scores", folder.write_scores(".csv"))
    assert "an image with boxes of two classes" in capsys.readouterr().err
    rows = [row[:5] + row[6:] for row in table(folder)]
    truth = ("--boxes", write(folder.root / "b.csv", rows))
    with pytest.raises(SystemExit):
        run(folder, "--scoremap-root", folder.maps_of("test"), *truth, "--scores", folder.write_scores(".csv"))
    assert "without the number of its class" in capsys.readouterr().err


BAD_RESULTS = {
    "other image": (lambda r: r[0].update(image_id=5), "of an image that is not in this split"),
    "no score": (lambda r: r[0].pop("score"), "without image_id, bbox"),
    "tie": (lambda r: r[0].update(score=0.9), "two best boxes"),
    "outside": (lambda r: r[1].update(bbox=[0, 0, 9999, 9]), "outside its photo"),
}


@pytest.mark.parametrize("case", BAD_RESULTS)
def test_what_is_wrong_with_predicted_boxes_is_said(folder, capsys, case):
    spoil, said = BAD_RESULTS[case]
    content = results(folder)
    spoil(content)
    with pytest.raises(SystemExit) as ending:
        predicted(folder, content)
    error = capsys.readouterr().err
    assert ending.value.code == 2 and said in error and "results.json" in error


PAIRS = {
    "nothing predicted": (("--boxes", "b.json"), "either --scoremap-root or --predicted-boxes"),
    "no truth": (("--scoremap-root", "m"), "either --metadata-root with --dataset, or --boxes"),
    "half a truth": (("--scoremap-root", "m", "--metadata-root", "x"), "either --metadata-root with --dataset"),
    "two truths": (("--scoremap-root", "m", "--metadata-root", "x", "--dataset", "d", "--boxes", "b"), "or --boxes"),
    "a threshold for boxes": (
        ("--predicted-boxes", "r.json", "--boxes", "b.json", "--fixed-threshold", "0.5"),
        "have no threshold",
    ),
    "validation without boxes": (
        ("--scoremap-root", "m", "--boxes", "b.json", "--val-scoremap-root", "v"),
        "without --val-boxes",
    ),
    "another kind": (("--predicted-boxes", "r.txt", "--boxes", "b.json"), "b.json"),
}


@pytest.mark.parametrize("case", PAIRS)
def test_options_that_do_not_go_together_are_refused(tmp_path, monkeypatch, capsys, case):
    arguments, said = PAIRS[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ending:
        evaluate.main(list(arguments))
    error = capsys.readouterr().err
    assert ending.value.code == 2 and error.startswith("error: ") and said in error


def test_maps_of_other_kinds_are_scored_alike(folder):
    usual = folder.run()
    for name in IDS:
        file = folder.map_file(name)
        np.savez(file.with_suffix(".npz"), np.load(file))
        file.unlink()
    assert figures(folder.run()) == figures(usual)
