"""``python -m tedloc.evaluate``: the figures of folders that other code wrote, and one sentence for each bad input."""

import json
import os
import subprocess
import sys
import unicodedata

import cv2
import numpy as np
import pandas as pd
import pytest
import reference_protocol as reference

from tedloc import evaluate
from tedloc.metrics import scoring

IDS = [f"{kind}/{n:02d}.jpg" for kind in ("ant", "bee") for n in range(4)]
LABELS = np.repeat([0, 5], 4)  # two of six classes


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
                x0, y0 = int(0.2 * width), int(0.15 * height * (n % 4))
                box = (x0, y0, x0 + width // 2, y0 + height // 2)
                files["image_ids"].append(name)
                files["class_labels"].append(f"{name},{LABELS[n]}")
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
    assert result["Top-1 CL"] == 100 * (folder.scores.argmax(axis=1) == LABELS).mean()
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


def test_the_next_files_are_announced_before_the_ones_at_hand_are_scored(folder, monkeypatch):
    if not hasattr(os, "posix_fadvise"):
        pytest.skip("this system takes no advice about files")
    order, announce, score_chunk = [], scoring._announce, scoring.score_chunk
    monkeypatch.setattr(scoring, "CHUNK", 3)
    monkeypatch.setattr(scoring, "_announce", lambda work: (order.append("announced"), announce(work)))
    monkeypatch.setattr(scoring, "score_chunk", lambda work: (order.append("scored"), score_chunk(work))[1])
    folder.run()
    assert order == ["announced", "announced", "scored"] * 1 + ["announced", "scored"] * 2  # the last is None


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
    assert result["Top-1 CL"] == 100 * (folder.scores[kept].argmax(axis=1) == LABELS[kept]).mean()
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


def recode(file, encoding, before=""):
    file.write_bytes((before + file.read_text()).encode(encoding))


def link(file):
    file.unlink()
    file.symlink_to("nowhere")


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
    "header line": (
        change("localization", 1, "image,x0,y0,x1,y1"),
        (),
        ["localization.txt, line 1", "remove the header line"],
    ),
    "semicolons": (change("class_labels", 2, f"{IDS[1]};0"), (), ["class_labels.txt, line 2", "write commas"]),
    "tabs": (change("image_sizes", 2, f"{IDS[1]}\t60\t60"), (), ["image_sizes.txt, line 2", "write commas"]),
    "shares for a box": (
        change("localization", 2, f"{IDS[1]},0.1,0.2,0.7,0.8"),
        (),
        ["line 2", "not shares of the image"],
    ),
    "the whole image as shares": (change("localization", 2, f"{IDS[1]},0,0,1,1"), (), ["line 2", "is not in pixels"]),
    "thousandths for a box": (change("localization", 2, f"{IDS[1]},100,100,999,999"), (), ["line 2", "other units"]),
    "half a pixel": (change("localization", 2, f"{IDS[1]},10.5,2,30,40"), (), ["line 2", "numbers are whole"]),
    "box without object": (
        change("localization", 2, f"{IDS[1]},0,0,0,0"),
        (),
        ["line 2", "leave an image without an object out"],
    ),
    "negative box": (change("localization", 2, f"{IDS[1]},-1,2,30,40"), (), ["line 2", "begins outside its image"]),
    "width and height for a box": (
        change("localization", 2, f"{IDS[1]},40,40,20,30"),
        (),
        ["line 2", "not x, y, width, height"],
    ),
    "class of words": (change("class_labels", 3, f"{IDS[2]},ant"), (), ["class_labels.txt, line 3"]),
    "half a class": (change("class_labels", 3, f"{IDS[2]},0.5"), (), ["class_labels.txt, line 3", "classes from 0"]),
    "class too large for a number": (change("class_labels", 3, f"{IDS[2]},{10**30}"), (), ["class_labels.txt, line 3"]),
    "negative class": (change("class_labels", 3, f"{IDS[2]},-1"), (), ["class_labels.txt", "count from 0"]),
    "size with a thousands separator": (
        change("image_sizes", 2, f"{IDS[1]},1,024,768"),
        (),
        ["image_sizes.txt, line 2"],
    ),
    "huge size": (change("image_sizes", 2, f"{IDS[1]},99999999,50"), (), ["image_sizes.txt, line 2", "has no size"]),
    "backslashes": (
        change("image_ids", 2, r"ant\01.jpg"),
        (),
        ["image_ids.txt, line 2", "path of Windows", "ant/01.jpg"],
    ),
    "absolute path": (change("image_ids", 2, "/data/ant/01.jpg"), (), ["image_ids.txt, line 2", "leads out"]),
    "dot before a path": (change("image_ids", 2, f"./{IDS[1]}"), (), ["image_ids.txt, line 2", "write 'ant/01.jpg'"]),
    "capitals": (change("image_ids", 2, "ant/01.JPG"), (), ["image 'ant/01.jpg'", "there is 'ant/01.JPG'"]),
    "UTF-16": (lambda f: recode(f.file("image_ids"), "utf-16"), (), ["image_ids.txt is UTF-16 text"]),
    "Latin-1": (lambda f: recode(f.file("image_ids"), "latin-1", "ä"), (), ["image_ids.txt, line 1", "not UTF-8"]),
    "empty list": (lambda f: f.file("localization").write_text("\n \n"), (), ["localization.txt", "no box"]),
    "folder for a list": (lambda f: [f.file("image_ids").unlink(), f.file("image_ids").mkdir()], (), ["is a folder"]),
    "dangling link for a list": (lambda f: link(f.file("image_ids")), (), ["is a link that leads to no file"]),
    "dangling link for a map": (lambda f: link(f.map_file(IDS[1])), (), ["ant/01.npy cannot be read"]),
    "map in capitals": (
        lambda f: f.map_file(IDS[1]).rename(f.map_file("ant/01.x").with_name("01.NPY")),
        (),
        [IDS[1], "1 of 8"],
    ),
    "map named in capitals": (
        lambda f: (f.maps_of("test") / "ant").rename(f.maps_of("test") / "Ant"),
        (),
        ["not in this split", "there is 'ant/00.npy'"],
    ),
    "objects for a map": (save(np.array([[None, 1]], dtype=object)), (), ["ant/01.npy holds Python objects"]),
    "half floats that overflowed": (save(np.array([[1, np.inf]], np.float16)), (), ["ant/01.npy", "infinite"]),
    "words for a map": (save(np.array([["a", "b"]])), (), ["ant/01.npy", "<U1"]),
    "scores are a folder": (lambda f: None, ("--scores", "."), ["--scores", "is a folder"]),
    "maps are a file": (lambda f: None, ("--scoremap-root", __file__), ["no folder"]),
    "output is a device": (lambda f: None, ("--per-image", "/dev/null"), ["--per-image", "no plain file"]),
    "grid too large": (lambda f: None, ("--grid", "40000"), ["grid", "4096"]),
    "step too small": (lambda f: None, ("--step", "1e-9"), ["step"]),
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


def test_a_map_with_width_first_is_refused(folder, capsys):
    width, height = (int(side) for side in folder.file("image_sizes").read_text().splitlines()[1].split(",")[1:])
    assert width != height
    np.save(folder.map_file(IDS[1]), np.random.default_rng(0).random((height, width)))
    folder.run()
    np.save(folder.map_file(IDS[1]), np.random.default_rng(0).random((width, height)))
    with pytest.raises(SystemExit):
        folder.run()
    assert "which is (width, height) of its image; turn it over" in capsys.readouterr().err


def test_boxes_given_as_width_and_height_are_remarked_on(folder, recwarn):
    lines = (line.split(",") for line in folder.file("localization").read_text().splitlines())
    boxes = [(name, *map(int, box)) for name, *box in lines]
    text = "\n".join(f"{name},{x0},{y0},{x1 - x0},{y1 - y0}" for name, x0, y0, x1, y1 in boxes)
    assert folder.run()["num_images"] == len(IDS) and not recwarn.list
    folder.file("localization").write_text(text)
    with pytest.warns(UserWarning, match="were they given as x, y, width, height"):
        try:
            folder.run()
        except SystemExit:
            pass  # some of them are turned over


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte-order mark"])
@pytest.mark.parametrize("end", ["\r\n", "  \n\n"], ids=["CRLF", "trailing blanks"])
def test_lists_of_any_editor_give_the_same_figures(folder, mark, end):
    before = folder.run("--scores", folder.write_scores(".csv"))
    for file in [*folder.metadata.rglob("*.txt"), folder.root / "scores.csv"]:
        blanks = end if file.suffix == ".txt" else end.lstrip(" ")
        file.write_bytes(mark + file.read_text().replace("\n", blanks).encode())
    assert folder.run("--scores", folder.root / "scores.csv") == before


def test_numbers_may_be_written_as_floats_and_names_in_either_form(folder):
    before = folder.run()
    name = "ant/Möwe.jpg"
    for kind in ("image_sizes", "localization"):
        file = folder.file(kind)
        lines = (line.split(",") for line in file.read_text().splitlines())
        file.write_text(
            "\n".join(", ".join([name, *(f"{number}.0" for number in numbers)]) for name, *numbers in lines)
        )
    assert folder.run() == before
    for number, file in enumerate((folder.metadata / "CUB" / "test").iterdir()):
        form = ("NFC", "NFD")[number % 2]
        file.write_text(file.read_text().replace(IDS[1], unicodedata.normalize(form, name)))
    folder.map_file(IDS[1]).rename(folder.map_file(unicodedata.normalize("NFD", name)))
    assert folder.run()["MaxBoxAccV2"] == before["MaxBoxAccV2"]


def test_maps_are_found_through_links_but_not_round_in_circles(folder):
    before, root = folder.run(), folder.maps_of("test")
    (root / "ant").rename(folder.root / "ants")
    (root / "ant").symlink_to(folder.root / "ants")
    (root / "bee" / "round").symlink_to(root)
    folder.map_file(IDS[0]).rename(folder.root / "0.npy")
    folder.map_file(IDS[0]).symlink_to(folder.root / "0.npy")
    assert folder.run() == before


def test_masks_need_no_sizes_and_one_mask_may_be_shared(folder):
    masks = folder.root / "masks"
    masks.mkdir()
    cv2.imwrite(str(masks / "a,b.png"), np.eye(224, dtype=np.uint16))
    folder.file("localization").write_text("\n".join(f"{name},a.png," for name in IDS))
    (masks / "a,b.png").rename(masks / "a.png")
    folder.file("image_sizes").unlink()
    assert 0 < folder.run("--mask-root", masks)["PxAP"] < 100


def test_a_column_for_the_background_is_noticed_where_the_classes_are_known(folder, capsys):
    """Labels with gaps are a part of a larger numbering, and scores may have more columns; labels without may not."""
    assert "Top-1 CL" in folder.run("--scores", folder.write_scores(".npy"))
    for split in ("val", "test"):
        file = folder.file("class_labels", split)
        file.write_text(file.read_text().replace(",5", ",1"))
    for columns in (1, 3):
        np.save(folder.root / "scores.npy", folder.scores[:, :columns])
        with pytest.raises(SystemExit):
            folder.run("--scores", folder.root / "scores.npy")
        assert f"scores for {columns} classes, the split has 2 (0 to 1)" in capsys.readouterr().err
    np.save(folder.root / "scores.npy", folder.scores[:, :2])
    assert folder.run("--scores", folder.root / "scores.npy")["Top-5 CL"] == 100
    for split in ("val", "test"):
        file = folder.file("class_labels", split)
        file.write_text(file.read_text().replace(",1", ",2").replace(",0", ",1"))
    with pytest.raises(SystemExit):
        folder.run("--scores", folder.root / "scores.npy")
    assert "the split has the class 2, and classes count from 0" in capsys.readouterr().err


MASKS = {
    "absent": ("b.png,", "b.png is missing"),
    "out of the folder": ("../b.png,", "leads out of its folder"),
    "backslashes": (r"x\b.png,", "is a path of Windows"),
    "no mask": (",", "is not image,mask,ignore"),
}


@pytest.mark.parametrize("case", MASKS)
def test_a_bad_list_of_masks_is_named(folder, capsys, case):
    fields, said = MASKS[case]
    cv2.imwrite(str(folder.root / "a.png"), np.eye(224, dtype=np.uint8))
    folder.file("localization").write_text("\n".join([f"{IDS[0]},{fields}", *(f"{name},a.png," for name in IDS[1:])]))
    with pytest.raises(SystemExit):
        folder.run("--mask-root", folder.root)
    assert said in capsys.readouterr().err


SCORES = {
    "index column": (lambda text: "\n".join(f"{n},{line}" for n, line in enumerate(text.splitlines())), "is an index"),
    "semicolons": (lambda text: text.replace(",", ";"), "separated by semicolons"),
    "decimal commas": (lambda text: text.replace(",", ";").replace(".", ","), "separated by semicolons"),
    "tabs": (lambda text: text.replace(",", "\t"), "separated by tabs"),
    "underscores": (lambda text: text.replace(",0.", ",1_0.", 1), "not all numbers"),
    "infinity": (lambda text: text.rsplit(",", 1)[0] + ",inf", "an infinite value"),
    "capitals": (lambda text: text.replace(IDS[0], IDS[0].upper()), f"there is '{IDS[0].upper()}'"),
    "columns of numbers in another order": (
        lambda text: "image,1,0,2,3,4,5\n" + text.partition("\n")[2],
        "sort them by class number",
    ),
    "columns of folders in another order": (
        lambda text: "image,bee,b,c,d,e,ant\n" + text.partition("\n")[2],
        "column 2 is called 'bee', which is class 5",
    ),
    "an open quote": (lambda text: text + '\n"x', "is not CSV"),
    "nothing": (lambda text: "", "no class scores for image"),
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
