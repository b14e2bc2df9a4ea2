"""What the README says is what the stored results, the plan and the programs say."""

import importlib
import importlib.util
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tedloc import profiles
from tedloc.book import __main__ as book
from tedloc.book import findings, readme
from tedloc.errors import UserError
from tedloc.methods.registry import METHODS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["results", "hours"])
def test_the_tables_are_those_of_the_stored_results_and_of_the_plan(name):
    counted = f"torch=={torch.__version__.partition('+')[0]} "
    if name == "hours" and counted not in (ROOT / "requirements.lock").read_text():
        pytest.skip("operators of a training step are counted on the PyTorch of requirements.lock")
    made = readme.sections()[name]
    assert readme.renewed(TEXT, {name: made}) == TEXT, "run: python -m tedloc.book readme"


def test_a_table_of_results_names_the_best_of_the_others_and_what_is_missing():
    def method(name, role, box, n=1, sd=None, **more):
        return {"method": name, "role": role, "metrics": {"MaxBoxAcc": {"mean": box, "sd": sd, "n": n}, **more}}

    results = {
        "provenance": {"num_images": 600, "seeds": [0, 1]},
        "methods": [
            method("TeD-Loc", "ours", 81.0, 2, 1.41),
            method("CLIP-ES", "teacher", 75.5),
            method("BAS", "compared", 60.0),
            method("GenPromp", "compared", 61.0),
        ],
    }
    verdicts = [
        {"id": "over-teacher", "holds": True, "label": "holds", "evidence": "", "about": ""},
        {"id": "over-cam", "holds": False, "label": "no", "evidence": "", "about": ""},
    ]
    chapter = {"title": "T", "commit": "abc", "date": "2026-01-02", "verdicts": verdicts}
    text = readme.results({"aviary": {"profile": "aviary", "chapters": {"c": chapter}, "results": results}})
    assert "over the worlds 1, or one value" in text  # world 0 is where settings were chosen
    assert "| TeD-Loc | 81.0 ± 1.4 | – |" in text and "| 61.0 (GenPromp) |" in text and "| 75.5 |" in text
    assert "synthetic birds, 600 test images" in text and "computed 2026-01-02 at commit abc" in text
    assert "holds: 1, does not hold: 0" in text  # the control does not count
    assert "No results are stored" in readme.results({})


def test_markers_that_are_gone_are_missed():
    with pytest.raises(UserError, match="<!-- results -->"):
        readme.renewed("# Title\n", {"results": "x"})
    assert readme.renewed("a\n<!-- x -->\nold\n<!-- end of x -->\nb", {"x": r"n\1w"}) == (
        "a\n<!-- x -->\nn\\1w\n<!-- end of x -->\nb"
    )


def test_the_pictures_are_there_and_light():
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    assert [ROOT / link for link in links] == [ROOT / "book" / file for file in readme.PICTURES.values()]
    for link in links:
        assert (ROOT / link).stat().st_size < 300_000
        with Image.open(ROOT / link) as picture:
            assert picture.width >= 700


def test_a_picture_of_photos_holds_none_of_their_pixels():
    photo, box = np.random.default_rng(0).integers(0, 200, (6, 8, 3), dtype=np.uint8), [[1, 1, 4, 4]]
    images = SimpleNamespace(picture=lambda index: photo, boxes=[box])
    shown = {
        name: SimpleNamespace(panel=lambda index: {"image": photo, "gt_boxes": box}) for name in ("CAM", "TeD-Loc")
    }
    here, elsewhere = (readme.panels(shown, images, 0, with_image) for with_image in (True, False))
    assert len(here) == 3 and all(panel["image"] is photo for panel in here)
    assert len(elsewhere) == 2 and all((panel["image"] == readme.PLAIN).all() for panel in elsewhere)
    assert all(panel["image"].shape == photo.shape and panel["gt_boxes"] == box for panel in elsewhere)


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!https?://)([^)]+)\)", TEXT)
    assert links and all((ROOT / link).exists() for link in links)


def test_every_method_and_profile_is_named():
    assert all(f"`{name}`" in TEXT for name in profiles.PROFILES)
    named = set(re.findall(r"`([^`\n]+)`", TEXT))
    assert {name for name in METHODS if name not in named} == set()


def program_lines() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines() if "-m tedloc." in line]


@pytest.mark.parametrize("words", program_lines(), ids=" ".join)
def test_the_options_of_our_programs_exist(words, capsys):
    """Each option stands in the program's own help, or is a setting of the profile."""
    name = words[words.index("-m") + 1]
    module = importlib.import_module(
        f"{name}.__main__" if importlib.util.find_spec(name).submodule_search_locations else name
    )
    settings = [index for index, word in enumerate(words) if word.startswith("--") and "." in word]
    profiles.from_command_line(
        profiles.get("photos"), [word for index in settings for word in words[index : index + 2]]
    )
    with pytest.raises(SystemExit) as end:
        verb = words[words.index("-m") + 2 :][:1]
        module.main([*(word for word in verb if not word.startswith("-")), "--help"])
    assert end.value.code == 0
    usage = capsys.readouterr().out
    for option in words[words.index("-m") + 2 :]:
        if option.startswith("--") and "." not in option:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", usage), f"{' '.join(words)}: no option {option}"


def test_the_commands_that_write_the_readme_exist(capsys, monkeypatch):
    for verb in re.findall(r"python -m tedloc\.book (\w+)", TEXT):
        with pytest.raises(SystemExit) as end:
            book.main([verb, "--help"])
        assert end.value.code == 0
    monkeypatch.setattr(findings, "record", lambda: ["aviary"])
    monkeypatch.setattr(readme, "write", lambda: Path("README.md"))
    book.main(["record"])
    assert "aviary.json" in capsys.readouterr().out
