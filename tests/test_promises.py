"""What the book's page "The evaluator in your code" promises for all versions 1.x is what the evaluator does."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
from test_evaluate_command import IDS, Folder

import tedloc
from tedloc import evaluate

PAGE = (Path(__file__).resolve().parent.parent / "book" / "evaluator.md").read_text()
SECTION = PAGE[PAGE.index("% promised") : PAGE.index("% end")]


def promised(title: str) -> list[str]:
    """The names in the item that begins with ``title``."""
    (item,) = [item for item in SECTION.split("\n- ") if item.startswith(f"**{title}**")]
    return re.findall(r"`([^`]+)`", re.sub(r"\s*\n\s*", " ", item))


RULES = ("(val threshold)", "(fixed threshold)", "(own threshold)")
METRICS = [name for name in promised("Metric names") if name not in RULES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("promises"))


@pytest.fixture(scope="module")
def scored(folder):
    """JSON and table of images of an evaluation that asks for everything that boxes allow."""
    table = folder.root / "images.csv"
    asked = ("--val-scoremap-root", folder.maps_of("val"), "--fixed-threshold", 0.4, "--bootstrap", 5)
    result = folder.run(*asked, "--scores", folder.write_scores(".npy"), "--per-image", table)
    return result, pd.read_csv(table)


def test_metrics_have_the_names_that_are_promised(scored):
    result, _ = scored
    plain = {re.sub(r"( \((val|fixed|own) threshold\))+$", "", name) for name in result}
    assert set(METRICS) - {"PxAP"} == plain & set(METRICS)
    assert all(any(name.endswith(rule) for name in result) for rule in RULES)
    others = {"num_images", "num_missing", "baselines", "curve", "intervals", "evaluated"}
    assert plain - set(METRICS) == others, "a new key: promise it"


def test_the_json_has_the_keys_that_are_promised(scored):
    result, _ = scored
    names = promised("Keys of `--json`")
    assert set(result["baselines"]) == {name for name in names if name.startswith(("full", "centred"))}
    assert set(result["curve"]) == {name for name in names if name.startswith(("thresholds", "BoxAcc"))}
    assert {"num_images", "num_missing", "baselines", "curve", "intervals", "evaluated"} <= set(names) & set(result)


def test_the_table_of_images_has_the_columns_that_are_promised(scored):
    _, table = scored
    assert list(table.columns) == promised("Columns of `--per-image`")[1:]
    assert sorted(table["id"]) == sorted(IDS)


def test_the_names_of_the_python_interface_are_there():
    meter, *names = promised("From Python")
    assert meter == "tedloc.LocalizationMeter"
    for name in names:
        if "." not in name:
            assert callable(getattr(tedloc.LocalizationMeter, name))
        elif "torch_metric" not in name:  # needs its extra; its tests are with the loops
            module, _, thing = name.rpartition(".")
            assert callable(getattr(import_module(module), thing))


def test_exit_codes_are_those_that_are_promised(folder):
    assert folder.run()["num_images"] == len(IDS)
    command = [
        sys.executable,
        "-m",
        "tedloc.evaluate",
        "--scoremap-root",
        "nowhere",
        "--metadata-root",
        folder.metadata,
    ]
    done = subprocess.run([*map(str, command), "--dataset", "CUB"], capture_output=True, text=True, cwd=folder.root)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_options_are_those_that_the_help_lists():
    """An option that is taken away breaks somebody's script: it is deprecated first (CONTRIBUTING)."""
    options = {action.option_strings[-1] for action in evaluate._parser()._actions}
    assert options >= {
        "--scoremap-root",
        "--suffix",
        "--scale",
        "--predicted-boxes",
        "--boxes",
        "--val-boxes",
        "--metadata-root",
        "--dataset",
        "--split",
        "--step",
        "--grid",
        "--contours",
        "--val-scoremap-root",
        "--val-split",
        "--fixed-threshold",
        "--scores",
        "--mask-root",
        "--allow-missing",
        "--allow-constant",
        "--bootstrap",
        "--seed",
        "--workers",
        "--json",
        "--per-image",
    }


def test_the_version_is_one_that_the_promise_is_for():
    assert tedloc.__version__.split(".")[0] == "1"
