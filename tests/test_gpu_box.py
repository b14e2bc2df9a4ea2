"""benchmarks/gpu_box.py keeps what a part found however it ended, names what is missing, and goes on."""

import importlib
import json
import sys
from types import ModuleType

import pytest

from conftest import ROOT
from tedloc.cost import measured
from tedloc.errors import UserError


@pytest.fixture
def gpu_box(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.gpu_box")


def ended(gpu_box, tmp_path, monkeypatch, part) -> dict:
    """What is kept of a part after it did its work in this process."""
    monkeypatch.setitem(gpu_box.PARTS, "part", (7.0, part))
    monkeypatch.setattr(gpu_box.signal, "signal", lambda *_: None)
    gpu_box.work_on("part", gpu_box.Box("cpu", True, 7.0, tmp_path / "part.json"))
    kept = gpu_box.taken(tmp_path / "part.json", "no word")
    assert kept.pop("seconds") >= 0 and not list(tmp_path.iterdir())
    return kept


def raising(error: BaseException, **found):
    def part(box) -> None:
        box.keep(**found)
        raise error

    return part


def test_what_a_part_found_is_kept_however_it_ended(gpu_box, tmp_path, monkeypatch):
    def ending(part):
        return ended(gpu_box, tmp_path, monkeypatch, part)

    assert ending(lambda box: box.keep(a=1)) == {"state": "done", "found": {"a": 1}}
    stopped = {"state": "stopped", "why": "its share of 7 s was spent", "found": {"a": 1}}
    assert ending(raising(gpu_box.TimeIsUp(), a=1)) == stopped
    failed = {"state": "failed", "why": "ZeroDivisionError: division by zero", "found": {"a": 1}}
    assert ending(raising(ZeroDivisionError("division by zero"), a=1)) == failed


def test_what_a_part_lacks_is_named_with_its_remedy(gpu_box, tmp_path, monkeypatch):
    lacking = ModuleNotFoundError("No module named 'open_clip'", name="open_clip")
    kept = ended(gpu_box, tmp_path, monkeypatch, raising(lacking))
    assert kept == {"state": "skipped", "why": "the part 'part' needs open_clip: pip install 'tedloc[train]'"}
    kept = ended(gpu_box, tmp_path, monkeypatch, raising(UserError("it needs diffusers: install them")))
    assert (kept["state"], kept["why"]) == ("skipped", "it needs diffusers: install them")


def test_a_part_that_was_killed_leaves_what_it_had_found(gpu_box, tmp_path):
    (tmp_path / "part.json").write_text('{"a": 1}')
    assert gpu_box.taken(tmp_path / "part.json", "killed") == {"state": "stopped", "why": "killed", "found": {"a": 1}}
    assert gpu_box.taken(tmp_path / "part.json", "killed") == {"state": "failed", "why": "killed"}


def test_the_shares_fit_into_six_minutes(gpu_box):
    assert sum(seconds for seconds, _ in gpu_box.PARTS.values()) <= 360


def test_a_small_box_runs_goes_on_and_is_not_mistaken_for_a_measurement(gpu_box, tmp_path, monkeypatch, capfd):
    file = tmp_path / "box.json"
    words = ["gpu_box", "--json", str(file), "--small", "--device", "cpu", "--only", "clip-es"]
    monkeypatch.setattr(sys, "argv", words)
    gpu_box.main()
    part = json.loads(file.read_text())["parts"]["clip-es"]
    assert part["state"] == "done" and set(part["found"]["CLIP-ES (images/s)"]) == {"float32", "bf16"}
    assert all(value > 0 for value in part["found"]["plain (images/s)"].values())
    gpu_box.main()
    assert "clip-es: kept" in capfd.readouterr().out
    monkeypatch.setitem(measured.FILES, measured.GPU_BOX, file)
    assert measured.on_gpu("clip-es") is None and measured.gpu().startswith("not measured")
    box = json.loads(file.read_text())
    box["small"], box["conditions"]["device"], box["conditions"]["driver"] = False, "A GPU", "580.1"
    box["parts"]["latency of TS-CAM"] = {"state": "done", "found": {"bf16": {"an image (ms)": 3.5}}}
    file.write_text(json.dumps(box))
    assert measured.on_gpu("clip-es") == part["found"] and measured.latency("TS-CAM", "bf16") == 3.5
    assert measured.latency("TS-CAM", "float32") is None and measured.latency("GenPromp", "bf16") is None
    assert measured.gpu().startswith("measured on A GPU, driver 580.1, PyTorch")
    with pytest.raises(SystemExit):
        gpu_box.main()  # the result of another machine
    assert "holds a result of another machine or version" in capfd.readouterr().err


def test_the_cpu_alone_is_refused_for_the_whole(gpu_box, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["gpu_box", "--json", str(tmp_path / "box.json"), "--device", "cpu"])
    with pytest.raises(SystemExit) as ending:
        gpu_box.main()
    assert ending.value.code == 2 and "give --small with it" in capfd.readouterr().err
