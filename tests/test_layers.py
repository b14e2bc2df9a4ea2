"""The house has floors: a module imports from its own floor and from those below it, at its top, and in no circle."""

import ast
import subprocess
import sys

import pytest

from tedloc import fingerprints, paths

FLOORS = [  # what a name begins with, from the ground up; every module belongs to one
    ("errors", "paths", "fingerprints", "plots"),
    ("settings", "profiles"),
    ("paper", "data", "metrics"),
    ("backbones",),
    ("training",),
    ("model", "losses", "sampler", "anchors"),
    ("methods",),
    ("cost",),
    ("runs",),
    ("train", "evaluate", "predict", "tune", "export", "audit"),
    ("book",),
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
LOOK_UP = {
    "tedloc",
    "tedloc.fingerprints",
    "tedloc.data.registry",
    "tedloc.methods.registry",
}  # name modules in strings
IMPORTS = {}  # module -> the modules of the package that it imports
for name in fingerprints.every():
    tree = ast.parse(fingerprints.file_of(name).read_text())
    IMPORTS[name] = fingerprints.imports(name) if name not in LOOK_UP else set()
    inner = [
        n.lineno for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.col_offset and "tedloc" in n.module
    ]
    assert not inner, f"{name} imports the package inside a function, in line {inner[0]}"


def floor(module: str) -> int:
    return FLOOR[module.split(".")[1]] if "." in module else 0  # the package's face holds its version


@pytest.mark.parametrize("module", [name for name in IMPORTS if name != "tedloc"])
def test_a_module_imports_from_its_own_floor_and_below(module):
    above = [other for other in IMPORTS[module] if floor(other) > floor(module)]
    assert not above, f"{module} imports {above}"


def test_no_circle():
    done, open_ = set(), []

    def visit(module: str) -> None:
        assert module not in open_, f"a circle: {open_[open_.index(module) :]}"
        if module not in done:
            open_.append(module)
            for other in IMPORTS[module]:
                visit(other)
            done.add(open_.pop())

    for module in IMPORTS:
        visit(module)


def test_settings_are_data():
    assert IMPORTS["tedloc.settings"] == {"tedloc.errors"}


def test_no_more_than_16_modules_stand_at_the_top():
    assert len(list(paths.PACKAGE.glob("*.py"))) <= 16


@pytest.mark.parametrize("words", [["-c", "import tedloc.metrics"], ["-m", "tedloc.evaluate", "--help"]])
def test_scoring_maps_loads_no_torch(words):
    code = (
        "import runpy, sys; sys.argv = ['evaluate', '--help']; runpy.run_module('tedloc.evaluate', run_name='__main__')"
    )
    code = words[1] if words[0] == "-c" else f"try:\n    exec({code!r})\nexcept SystemExit:\n    pass"
    code += "\nimport sys; assert not {'torch', 'torchvision', 'timm', 'open_clip'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
