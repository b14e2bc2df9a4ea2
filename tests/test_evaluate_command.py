"""``python -m tedloc.evaluate``: the figures of folders that other code wrote, and one sentence for each bad input."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
import reference_protocol as reference

from tedloc import evaluate

IDS = [f"{kind}/{n:02d}.jpg" for kind in ("ant", "bee") for n in range(4)]


class Folder:
    """A metadata folder and score maps as a stranger would write them."""

    def __init__(self, root):
        self.root, rng = root, np.random.default_rng(0)
        self.maps, self.targets = {}, {}
        self.metadata = root / "metadata"
        for split in ("val", "test"):
            files = {name: [] for name in ("image_ids", "class_labels", "image_sizes", "localization")}
            for n, name in enumerate(IDS):
                width, height = (int(v) for v in rng.integers(60, 300, 2))
                x0, y0 = int(0.2 * width), int(0.1 * height * (n % 3))
                box = (x0, y0, x0 + width // 2, y0 + height // 2)
                files["image_ids"].append(name)
                files["class_labels"].append(f"{name},{n // 4}")
                files["image_sizes"].append(f"{name},{width},{height}")
                files["localization"].append(f"{name},{box[0]},{box[1]},{box[2]},{box[3]}")
                y, x = np.mgrid[0:1:15j, 0:1:15j]
                score_map = np.exp(-(((x - 0.45) / 0.3) ** 2) - ((y - 0.3) / 0.25) ** 2) + 0.3 * rng.random((15, 15))
                path = (self.maps_of(split) / name).with_suffix(".npy")
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, score_map.astype(np.float32))
                self.maps[split, name] = score_map.astype(np.float32)
                self.targets[split, name] = reference.grid_boxes([box], (width, height))
            folder = self.metadata / "CUB" / split
            folder.mkdir(parents=True)
            for name, lines in files.items():
                (folder / f"{name}.txt").write_text("\n".join(lines))
        self.scores = rng.random((len(IDS), 6)).round(2)

    def maps_of(self, split):
        return self.root / f"maps-{split}"

    def write_scores(self, suffix):
        file = self.root / f"scores{suffix}"
        if suffix == ".npy":
            np.save(file, self.scores)
        else:
            table = pd.DataFrame(self.scores, index=IDS).iloc[::-1]
            table.to_csv(file, index_label="image")
        return file

    def file(self, name, split="test"):
        return self.metadata / "CUB" / split / f"{name}.txt"

    def map_file(self, name):
        return (self.maps_of("test") / name).with_suffix(".npy")

    def run(self, *extra, split="test"):
        out = self.root / "out.json"
        out.unlink(missing_ok=True)
        evaluate.main(
            [
                "--scoremap-root",
                str(self.maps_of(split)),
                "--metadata-root",
                str(self.metadata),
                "--dataset",
                "CUB",
                "--split",
                split,
                "--json",
                str(out),
                *map(str, extra),
            ]
        )
        return json.loads(out.read_text())


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_figures_equal_the_reference(folder, capsys):
    result = folder.run("--step", 0.01)
    maps = [reference.grid_map(folder.maps["test", name]) for name in IDS]
    expected = reference.evaluate(maps, [folder.targets["test", name] for name in IDS], step=0.01)
    assert {name: result[name] for name in expected} == pytest.approx(expected)
    assert result["num_images"] == len(IDS)
    assert max(result["curve"]["BoxAcc@0.5"]) == result["MaxBoxAcc@0.5"]
    assert set(result["baselines"]) == {"full-image box", "centred box", "centred Gaussian"}
    printed = capsys.readouterr().out
    assert f"{result['MaxBoxAcc@0.5']:.2f}" in printed and "centred box" in printed


def test_all_contours_change_maxboxacc_but_not_v2(folder):
    maps = [reference.grid_map(folder.maps["test", name]) for name in IDS]
    accuracy = reference.accuracies(maps, [folder.targets["test", n] for n in IDS], step=0.02, multiple=True)
    result = folder.run("--step", 0.02, "--contours", "all")
    assert result["MaxBoxAcc@0.3"] == pytest.approx(100 * accuracy[0].max())
    assert result["MaxBoxAccV2"] == pytest.approx(100 * accuracy.max(axis=1).mean())
    assert folder.run("--step", 0.02)["MaxBoxAccV2"] == result["MaxBoxAccV2"]


def test_threshold_of_the_validation_maps_is_carried_over(folder):
    result = folder.run("--val-scoremap-root", folder.maps_of("val"), "--fixed-threshold", 0.5)
    assert result["threshold@0.5 (val threshold)"] == folder.run(split="val")["threshold@0.5"]
    assert result["MaxBoxAcc@0.5 (val threshold)"] <= result["MaxBoxAcc@0.5"]
    assert result["threshold@0.5 (fixed threshold)"] == 0.5


@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_class_scores_give_top_k(folder, suffix):
    result = folder.run("--scores", folder.write_scores(suffix), "--bootstrap", 20)
    labels = np.arange(len(IDS)) // 4
    assert result["Top-1 CL"] == 100 * (folder.scores.argmax(axis=1) == labels).mean()
    assert result["Top-1 Loc"] <= min(result["Top-1 CL"], result["MaxBoxAcc@0.5"])
    low, high = result["intervals"]["Top-5 CL"]
    assert low <= result["Top-5 CL"] <= high


def test_maps_may_keep_the_image_suffix_and_a_map_on_the_grid_is_used_as_it_is(folder):
    name = IDS[0]
    score_map = 0.2 + 0.5 * reference.grid_map(folder.maps["test", name])
    folder.map_file(name).unlink()
    np.save(folder.maps_of("test") / f"{name}.npy", score_map)
    maps = [score_map, *(reference.grid_map(folder.maps["test", name]) for name in IDS[1:])]
    expected = reference.evaluate(maps, [folder.targets["test", name] for name in IDS], step=0.02)
    result = folder.run("--step", 0.02)
    assert {name: result[name] for name in expected} == pytest.approx(expected)


def test_per_image_file_has_a_line_an_image(folder):
    folder.run("--per-image", folder.root / "images.csv")
    table = pd.read_csv(folder.root / "images.csv")
    assert sorted(table["id"]) == sorted(IDS)


def test_result_does_not_depend_on_workers_and_the_module_runs_as_a_command(folder):
    alone = folder.run()
    out = folder.root / "parallel.json"
    command = [
        sys.executable,
        "-m",
        "tedloc.evaluate",
        "--scoremap-root",
        folder.maps_of("test"),
        "--metadata-root",
        folder.metadata,
        "--dataset",
        "CUB",
        "--workers",
        "2",
        "--json",
        out,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text()) == alone


def test_allow_missing_evaluates_the_rest_and_says_how_many(folder, capsys):
    folder.map_file(IDS[2]).unlink()
    result = folder.run("--allow-missing", "--scores", folder.write_scores(".npy"))
    assert (result["num_images"], result["num_missing"]) == (len(IDS) - 1, 1)
    kept = [n for n in range(len(IDS)) if n != 2]
    assert result["Top-1 CL"] == 100 * (folder.scores[kept].argmax(axis=1) == np.array(kept) // 4).mean()
    assert "1 without a map left out" in capsys.readouterr().out


def test_masks_give_pxap(folder):
    rng, lines = np.random.default_rng(2), []
    masks = folder.root / "masks"
    masks.mkdir()
    expected = []
    for n, name in enumerate(IDS):
        object_mask, ignored = rng.random((224, 224)) > 0.8, rng.random((224, 224)) > 0.9
        cv2.imwrite(str(masks / f"{n}.png"), object_mask.astype(np.uint8) * 255)
        cv2.imwrite(str(masks / f"{n}_ignore.png"), ignored.astype(np.uint8) * 255)
        lines.append(f"{name},{n}.png,{n}_ignore.png" if n else f"{name},{n}.png,")
        expected.append(np.where(object_mask, 1, np.where(ignored & (n > 0), 255, 0)))
    folder.file("localization").write_text("\n".join(lines) + "\n")
    result = folder.run("--mask-root", masks, "--step", 0.01)
    maps = [reference.grid_map(folder.maps["test", name]) for name in IDS]
    assert result["PxAP"] == pytest.approx(reference.pixel_average_precision(maps, expected, 0.01))
    assert set(result["baselines"]["centred Gaussian"]) == {"PxAP"}
    assert "MaxBoxAcc@0.5" not in result


def change(name, line, text):
    def apply(folder):
        lines = folder.file(name).read_text().splitlines()
        lines[line - 1] = text
        folder.file(name).write_text("\n".join(lines))

    return apply


def save(array, name=IDS[1]):
    return lambda folder: np.save(folder.map_file(name), array)


def save_archive(folder):
    with folder.map_file(IDS[1]).open("wb") as file:
        np.savez(file, a=np.eye(3))


BAD = {
    "missing map": (lambda f: f.map_file(IDS[3]).unlink(), (), [IDS[3], "1 of 8", "--allow-missing"]),
    "no map at all": (lambda f: [f.map_file(n).unlink() for n in IDS], ("--allow-missing",), ["no score map"]),
    "extra map": (lambda f: np.save(f.maps_of("test") / "stray.npy", np.eye(3)), (), ["stray.npy"]),
    "two maps": (lambda f: np.save(f.maps_of("test") / f"{IDS[0]}.npy", np.eye(3)), (), [IDS[0], "two score maps"]),
    "NaN": (save(np.full((5, 5), np.nan)), (), ["ant/01.npy", "NaN"]),
    "infinite": (save(np.diag([1, np.inf])), (), ["ant/01.npy", "infinite"]),
    "constant map": (save(np.full((5, 5), 0.3)), (), ["ant/01.npy", "constant"]),
    "three dimensions": (save(np.ones((3, 5, 5))), (), ["ant/01.npy", "(3, 5, 5)"]),
    "empty map": (save(np.ones((0, 5))), (), ["ant/01.npy", "(0, 5)"]),
    "complex": (save(np.eye(3) * 1j), (), ["ant/01.npy", "complex"]),
    "pickled": (save(np.array([[{}]], dtype=object)), (), ["ant/01.npy"]),
    "no NumPy file": (lambda f: f.map_file(IDS[1]).write_bytes(b"garbage"), (), ["ant/01.npy"]),
    "cut off": (lambda f: f.map_file(IDS[1]).write_bytes(f.map_file(IDS[1]).read_bytes()[:200]), (), ["ant/01.npy"]),
    "archive": (save_archive, (), ["ant/01.npy", "archive"]),
    "damaged box": (change("localization", 2, f"{IDS[1]},1,2,x,4"), (), ["localization.txt, line 2"]),
    "infinite box": (change("localization", 2, f"{IDS[1]},1,2,inf,4"), (), ["localization.txt, line 2"]),
    "turned box": (change("localization", 3, f"{IDS[2]},9,9,1,20"), (), ["localization.txt, line 3"]),
    "no box": (change("localization", 5, ""), (), [IDS[4], "localization.txt"]),
    "short size line": (change("image_sizes", 4, f"{IDS[3]},50"), (), ["image_sizes.txt, line 4"]),
    "zero size": (change("image_sizes", 4, f"{IDS[3]},0,50"), (), [IDS[3], "size"]),
    "damaged label": (change("class_labels", 1, IDS[0]), (), ["class_labels.txt, line 1"]),
    "unknown image": (change("class_labels", 1, "x.jpg,0"), (), ["class_labels.txt, line 1", "x.jpg"]),
    "image listed twice": (change("image_ids", 2, IDS[0]), (), ["image_ids.txt", IDS[0]]),
    "missing file": (lambda f: f.file("image_sizes").unlink(), (), ["image_sizes.txt"]),
    "wrong data set": (lambda f: None, ("--dataset", "DOGS"), ["DOGS"]),
    "no such folder": (lambda f: None, ("--scoremap-root", "nowhere"), ["nowhere"]),
    "no scores file": (lambda f: None, ("--scores", "nowhere.csv"), ["nowhere.csv"]),
    "step too large": (lambda f: None, ("--step", "2"), ["step"]),
    "grid of one": (lambda f: None, ("--grid", "1"), ["grid"]),
    "threshold of one": (lambda f: None, ("--fixed-threshold", "1"), ["fixed threshold"]),
    "no workers": (lambda f: None, ("--workers", "0"), ["--workers"]),
    "output is a folder": (lambda f: None, ("--per-image", "."), ["folder"]),
    "mask list": (lambda f: None, ("--mask-root", "."), ["localization.txt, line 1"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_one_sentence_and_exit_code_2(folder, capsys, case):
    spoil, extra, said = BAD[case]
    spoil(folder)
    with pytest.raises(SystemExit) as ending:
        folder.run(*extra)
    error = [line for line in capsys.readouterr().err.splitlines() if line and "scoring" not in line]
    assert ending.value.code == 2
    assert len(error) == 1 and error[0].startswith("error: "), error
    assert all(words in error[0] for words in said), error[0]
    assert not list(folder.root.rglob("*out*.json"))


SCORES = {
    "missing image": (lambda text: "\n".join(text.splitlines()[:-1]), IDS[0]),
    "not a number": (lambda text: text.replace("\nbee/03.jpg,", "\nbee/03.jpg,high,"), "not all numbers"),
    "too few columns": (lambda text: text.rsplit(",", 1)[0], "scores, others have"),
    "second row": (lambda text: text + text.splitlines()[-1], "second row"),
    "NaN": (lambda text: text.rsplit(",", 1)[0] + ",nan", "NaN"),
}


@pytest.mark.parametrize("case", SCORES)
def test_bad_scores_file_is_named(folder, capsys, case):
    spoil, said = SCORES[case]
    file = folder.write_scores(".csv")
    text = spoil(file.read_text())
    if case == "not a number":  # in the second row, so that it is not taken for a header
        lines = file.read_text().splitlines()
        text = "\n".join([*lines[:2], f"{IDS[-2]},high,1,1,1,1,1", *lines[3:]])
    file.write_text(text)
    with pytest.raises(SystemExit) as ending:
        folder.run("--scores", file)
    error = capsys.readouterr().err
    assert ending.value.code == 2 and said in error and "scores.csv" in error


def test_constant_maps_are_scored_as_empty_boxes_when_allowed(folder):
    np.save(folder.map_file(IDS[1]), np.zeros((5, 5)))
    assert folder.run("--allow-constant")["num_images"] == len(IDS)


def test_bad_map_in_another_process_ends_as_in_this_one(folder, capsys):
    np.save(folder.map_file(IDS[1]), np.full((5, 5), np.nan))
    with pytest.raises(SystemExit) as ending:
        folder.run("--workers", 2)
    assert ending.value.code == 2
    assert "ant/01.npy holds NaN" in capsys.readouterr().err
