"""The built wheel, unpacked into a folder of its own: no command needs the checkout, nothing is written beside it.

The environment is the tests' own, so nothing is fetched; ``.ci/wheel`` installs into an empty one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import tedloc

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = "protocol"  # the one that is done soonest


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: building leaves traces in its source."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "CITATION.cff"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "tedloc", source / "tedloc", ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("dist")
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", out, source)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--no-compile", "--target", folder, wheel)
    return folder


def pip(*arguments) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PIP_NO_INDEX": "1"})
    assert done.returncode == 0, done.stderr


class Stranger:
    """Calls programs from an empty folder, with a home of their own and no variable of ours."""

    def __init__(self, installed: Path, folder: Path):
        self.installed, self.home, self.cwd = installed, folder / "home", folder / "empty"
        self.home.mkdir()
        self.cwd.mkdir()

    def run(self, *command, check: bool = True, **variables: str) -> subprocess.CompletedProcess:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TEDLOC_", "XDG_", "NUMBA_"))}
        own = {"PYTHONPATH": str(self.installed), "HOME": str(self.home), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            list(map(str, command)), cwd=self.cwd, env=kept | own | variables, capture_output=True, text=True
        )
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done

    def python(self, *arguments, **settings) -> subprocess.CompletedProcess:
        return self.run(sys.executable, *arguments, **settings)


@pytest.fixture
def stranger(installed, tmp_path) -> Stranger:
    return Stranger(installed, tmp_path)


@pytest.fixture
def maps(tmp_path) -> list:
    """Arguments that score four maps."""
    rng, ids = np.random.default_rng(0), [f"a/{n}.jpg" for n in range(4)]
    split = tmp_path / "metadata" / "CUB" / "test"
    split.mkdir(parents=True)
    for name, fields in (("image_ids", ""), ("class_labels", ",0"), ("image_sizes", ",60,40")):
        (split / f"{name}.txt").write_text("".join(f"{each}{fields}\n" for each in ids))
    (split / "localization.txt").write_text("".join(f"{each},5,5,{20 + 9 * n},35\n" for n, each in enumerate(ids)))
    (tmp_path / "maps" / "a").mkdir(parents=True)
    for each in ids:
        np.save((tmp_path / "maps" / each).with_suffix(".npy"), rng.random((9, 9)))
    return ["--scoremap-root", tmp_path / "maps", "--metadata-root", tmp_path / "metadata", "--dataset", "CUB"]


def listing(*folders: Path) -> list[str]:
    return sorted(str(path) for folder in folders for path in folder.rglob("*"))


def test_the_wheel_holds_its_data_its_licence_and_how_to_cite_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name: len(archive.read(name)) for name in archive.namelist()}
    for folder in ("weights", "paper", "tuning", "results"):
        for file in (ROOT / "tedloc" / folder).iterdir():
            of_worlds = re.search(r"-[2-9]\.safetensors$", file.name)  # a checkout has these, and the evidence of them
            if file.suffix in (".csv", ".json", ".safetensors") and not of_worlds:
                assert inside[f"tedloc/{folder}/{file.name}"] == file.stat().st_size
    about = f"tedloc-{tedloc.__version__}.dist-info"
    assert {f"{about}/licenses/LICENSE", f"{about}/licenses/CITATION.cff"} <= set(inside)
    assert not [name for name in inside if not name.startswith(("tedloc/", about))]


def test_the_console_script_and_the_module_score_alike_and_leave_nothing_beside_them(stranger, maps, tmp_path):
    before = listing(stranger.installed, tmp_path / "maps", tmp_path / "metadata")
    for command, out in (
        ([sys.executable, stranger.installed / "bin" / "tedloc-evaluate"], "script.json"),
        ([sys.executable, "-m", "tedloc.evaluate"], "module.json"),
    ):
        stranger.run(*command, *maps, "--json", tmp_path / out)
    assert (tmp_path / "script.json").read_text() == (tmp_path / "module.json").read_text()
    assert json.loads((tmp_path / "script.json").read_text())["num_images"] == 4
    assert listing(stranger.installed, tmp_path / "maps", tmp_path / "metadata") == before
    assert listing(stranger.cwd) == []
    where = "from tedloc import paths; print(paths.cache())"
    cache = Path(stranger.python("-c", where).stdout.strip())
    assert cache.is_relative_to(stranger.home) and list((cache / "numba").rglob("*.nbi"))


def test_a_cache_that_cannot_be_written_costs_seconds_and_one_sentence(stranger, maps, tmp_path):
    (tmp_path / "file").write_text("")
    done = stranger.python("-m", "tedloc.evaluate", *maps, TEDLOC_CACHE=str(tmp_path / "file" / "cache"))
    assert "4 images" in done.stdout
    assert done.stderr.count("Warning") == 1 and "set TEDLOC_CACHE to a folder that can be written" in done.stderr


def test_a_run_needs_no_checkout_and_goes_where_the_system_keeps_data(stranger, tmp_path):
    before = listing(stranger.installed)
    arguments = ["--profile", "smoke", "--pseudo-labels.teacher", "centre-prior", "--optimiser.epochs", "1"]
    stranger.run(
        sys.executable, stranger.installed / "bin" / "tedloc-train", *arguments, "--json", tmp_path / "result.json"
    )
    where = "from tedloc import paths; print(paths.runs()); print(paths.data())"
    runs, data = map(Path, stranger.python("-c", where).stdout.split())
    assert runs.is_relative_to(stranger.home) and data.is_relative_to(stranger.home)
    (metrics,) = runs.glob("smoke/tedloc-seed0-*/metrics.json")
    assert json.loads(metrics.read_text())["provenance"]["commit"] == "unknown"
    assert listing(stranger.cwd) == [] and listing(stranger.installed) == before


def test_notebooks_run_by_papermill_and_by_pytest_beside_an_installed_package(stranger, tmp_path):
    shutil.copytree(ROOT / "notebooks", stranger.cwd / "notebooks")
    variables = {f"TEDLOC_{name.upper()}": str(tmp_path / name) for name in ("runs", "cache")}
    done = tmp_path / "done.ipynb"
    source = stranger.cwd / "notebooks" / f"{NOTEBOOK}.ipynb"
    stranger.python("-m", "papermill", "--no-progress-bar", source, done, "-p", "profile", "smoke", **variables)
    said = done.read_text().replace(sys.prefix, "")  # a warning may name the environment, which may lie in the checkout
    assert str(ROOT) not in said
    options = ("-p", "no:cacheprovider", "--nbval-lax", "--nbval-cell-timeout=240")
    ended = stranger.python("-m", "pytest", "-q", *options, source, **variables)
    assert " passed" in ended.stdout and "failed" not in ended.stdout
