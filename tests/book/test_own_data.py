"""The page "Run it on your data" keeps its word: its layout is read, its commands exist, its run ends."""

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from tedloc import errors, evaluate, predict, profiles, train, tune
from tedloc.data import aviary, open_split

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "book" / "your_data.md"
CLASSES = ("001.Red_Mug", "002.Coffee_Pot")
PHOTOS = 2  # a class and split


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """A folder with photos of two classes and the page's lists; drawn birds stand for the mugs."""
    drawn = aviary.open("test", per_class=3 * PHOTOS)
    for number, split in enumerate(("train", "val", "test")):
        lists = {"image_ids": [], "class_labels": [], "image_sizes": [], "localization": []}
        for label, folder in enumerate(CLASSES):
            own = [i for i in range(len(drawn)) if drawn.labels[i] == label][PHOTOS * number : PHOTOS * (number + 1)]
            for i in own:
                name = f"{folder}/{split}-{i}.jpg"
                file = tmp_path / "CUB" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(drawn.image(i)).resize((100, 60)).save(file)
                x0, y0, x1, y1 = drawn.boxes[i][0]
                lists["image_ids"].append(name)
                lists["class_labels"].append(f"{name},{label}")
                lists["image_sizes"].append(f"{name},100,60")
                lists["localization"].append(f"{name},{x0},{y0 * 3 // 4},{x1},{y1 * 3 // 4}")
        needed = ("image_ids", "class_labels") if split == "train" else lists
        for kind in needed:
            file = tmp_path / "wsol-metadata" / "CUB" / split / f"{kind}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(lists[kind]) + "\n")
    monkeypatch.setenv("TEDLOC_DATA", str(tmp_path))
    return tmp_path


def test_the_pages_layout_is_read(photos):
    images = open_split("cub", "test")
    assert images.class_names == ["red mug", "coffee pot"] and len(images) == 2 * PHOTOS
    assert images.image(0).shape == (60, 100, 3)
    assert not any(map(len, open_split("cub", "train").boxes))  # none needed


def test_own_photos_are_trained_on_and_scored(photos, capsys):
    result = photos / "result.json"
    train.main(
        [
            "--profile",
            "smoke",
            "--data.name",
            "cub",
            "--pseudo-labels.teacher",
            "centre-prior",
            "--device",
            "cpu",
            "--json",
            str(result),
        ]
    )
    metrics = json.loads(result.read_text())
    assert metrics["provenance"]["num_images"] == 2 * PHOTOS and 0 <= metrics["MaxBoxAcc@0.5"] <= 100


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("python ")]


def test_the_page_shows_each_way_in():
    assert {words[2] for words in commands()} == {"tedloc.train", "tedloc.predict", "tedloc.evaluate", "tedloc.tune"}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_page_is_understood(words, monkeypatch):
    """Each is parsed by its own program up to where it would begin to work."""

    class Understood(Exception):
        pass

    def stop(*_, **__):
        raise Understood

    module, arguments = importlib.import_module(words[2]), words[3:]
    for place, name in ((train.runs, "ensure"), (predict, "load"), (evaluate, "evaluate"), (tune, "search")):
        monkeypatch.setattr(place, name, stop)
    with pytest.raises(Understood):
        module.main.__wrapped__(arguments) if hasattr(module.main, "__wrapped__") else module.main(arguments)


def test_settings_that_the_page_names_exist():
    named = re.findall(r"`--([a-z-]+\.[a-z-_]+)`", PAGE.read_text())
    assert named
    for name in named:
        value = 0.5
        profiles.get("cub", {name.replace("-", "_"): value})
    with pytest.raises(errors.UserError):
        profiles.get("cub", {"sampler.no_such": 1})
