"""CONTRIBUTING keeps its word: the house is as it is drawn, and the example of a method runs."""

import re
import sys

import pytest

from tedloc import data, paths, profiles
from tedloc.methods import create, registry
from tedloc.runs.execute import evaluate

TEXT = (paths.root() / "CONTRIBUTING.md").read_text()
TREE = re.search(r"```\n(tedloc/\n.*?)```", TEXT, re.DOTALL)[1]


def test_the_tree_names_every_room_and_every_module_at_the_top_and_nothing_else():
    lines = TREE.splitlines()
    assert len(lines) <= 40
    inside = [
        word
        for line in lines[1:]
        if line.startswith("  ")
        for word in re.findall(r"[\w.]+(?:/|\.py)", line[2:].split("  ")[0])
    ]
    rooms = {f"{each.name}/" for each in paths.PACKAGE.iterdir() if each.is_dir() and each.name != "__pycache__"}
    files = {each.name for each in paths.PACKAGE.glob("*.py")} - {"__init__.py"}
    assert sorted(inside) == sorted(rooms | files)


def test_tests_lie_in_the_rooms_of_what_they_test():
    rooms = {each.name for each in paths.PACKAGE.iterdir() if each.is_dir()}
    folders = {
        each.name for each in (paths.root() / "tests").iterdir() if each.is_dir() and any(each.glob("test_*.py"))
    }
    assert (
        folders - {"browser", "cuda"} <= rooms and {"data", "metrics", "training", "methods", "runs", "book"} <= folders
    )


def test_the_example_of_a_method_is_cam_in_one_file_and_one_line(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "the_example.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.METHODS, "example", "the_example:LinearCAM")
    profile = profiles.get("smoke", {"data.per_class": 2})

    def scores(name):
        method = create(name, profile)
        method.fit()
        meters = evaluate(method, profile.data, "test", profile.evaluation).meters
        return {route: meter.compute() for route, meter in meters.items()}

    found, expected = scores("example"), scores("cam")
    assert found.keys() == {"true", "pred"} and len(data.open_data(profile.data, "test")) == 40
    for route, metrics in expected.items():
        assert found[route] == pytest.approx(metrics, nan_ok=True)
    sys.modules.pop("the_example")
