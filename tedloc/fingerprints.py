"""Fingerprints: everything a result depends on, as one hash, so that a stale number is never shown as current.

Code counts by what it does. Of a module and of all of ``tedloc`` that it imports, at any depth, the syntax trees are
hashed: comments, docstrings and layout do not count, nor where a file lies. Names of modules in strings
(``"tedloc.methods.cam:LinearCAM"``) are followed as imports are; registries are not, so whoever looks a module up by
name hands it in. A module that does not exist raises ``ModuleNotFoundError``: nothing is left out in silence.
"""

import ast
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from tedloc import paths

# Modules that say where, when and at what cost something runs, or look others up; not what it computes.
PLUMBING = (
    "tedloc.cost.complexity",
    "tedloc.data.processes",
    "tedloc.data.registry",
    "tedloc.errors",
    "tedloc.fingerprints",
    "tedloc.errors.installation",
    "tedloc.methods.registry",
    "tedloc.metrics.compiled",
    "tedloc.paths",
    "tedloc.profiles",
    "tedloc.runs.run",
    "tedloc.runs.schedule",
    "tedloc.training.devices",
)

EXECUTION = "tedloc.runs.execute"  # what every run is made by, beside its method

_MODULE = re.compile(r"(tedloc(?:\.\w+)+)(:\w+)?")  # a whole string that names one, and perhaps a class in it


def digest(thing: Any) -> str:
    """sha256 of a thing's JSON."""
    return hashlib.sha256(json.dumps(thing, sort_keys=True, default=str).encode()).hexdigest()


@functools.cache
def code(*modules: str, package: Path = paths.PACKAGE) -> str:
    """sha256 over the modules and what they import of ``package``, plumbing apart."""
    return digest(sorted(_read(file, package)[0] for file in closure(*modules, package=package).values()))


def environment(*modules: str) -> str:
    """Code of the modules, and the records of the weights that ship with the package."""
    return digest([code(*modules), [file.read_text() for file in sorted(paths.WEIGHTS.glob("*.json"))]])


def closure(*modules: str, package: Path = paths.PACKAGE) -> dict[str, Path]:
    """The modules and all of ``package`` that they import, at any depth, with their files; plumbing apart."""
    plumbing = {name: file_of(name, package) for name in PLUMBING}
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found and name not in plumbing:
            found[name] = file_of(name, package)
            waiting += imports(name, package)
    return found


def imports(module: str, package: Path = paths.PACKAGE) -> set[str]:
    """The modules of ``package`` that a module names."""
    return _read(file_of(module, package), package)[1]


def alone(*modules: str) -> str:
    """sha256 over the modules themselves, nothing of what they import: for who knows all that was imported."""
    return digest(sorted(_read(file_of(name), paths.PACKAGE)[0] for name in modules))


def every() -> list[str]:
    """The names of all modules of the package."""
    files = (file.relative_to(paths.PACKAGE.parent).with_suffix("") for file in paths.PACKAGE.rglob("*.py"))
    return sorted(".".join(file.parts).removesuffix(".__init__") for file in files)


def _find(name: str, package: Path) -> Path | None:
    base = package.joinpath(*name.split(".")[1:])
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.exists()), None)


def file_of(name: str, package: Path = paths.PACKAGE) -> Path:
    """The file of a module. Raises ``ModuleNotFoundError`` for one that does not exist."""
    if (file := _find(name, package)) is None:
        raise ModuleNotFoundError(f"there is no module {name} in {package}, though its code is to be hashed")
    return file


@functools.cache
def _read(file: Path, package: Path) -> tuple[str, set[str]]:
    """What counts of a file, as a hash, and the modules that it names."""
    dump, names = _Names(package).read(file.read_text(encoding="utf-8"))
    return hashlib.sha256(dump.encode()).hexdigest(), names


class _Names(ast.NodeTransformer):
    """Takes imports of the package out of a syntax tree and keeps what they bind, by the last part of its module's
    name: so neither a file's place nor the order of imports counts."""

    def __init__(self, package: Path):
        self.package, self.modules, self.bound = package, set[str](), set[str]()

    def read(self, source: str) -> tuple[str, set[str]]:
        """The tree as text, and the modules it names."""
        tree = ast.parse(source)
        for node in ast.walk(tree):  # docstrings
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
                    body[0].value.value = ""
        dump = ast.dump(self.visit(tree))
        return "\n".join([dump, *sorted(self.bound)]), self.modules

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        return self._taken(node, [(alias.name, alias) for alias in node.names])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return self._taken(node, [(f"{node.module}.{alias.name}", alias) for alias in node.names])

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        named = _MODULE.fullmatch(node.value) if isinstance(node.value, str) else None
        if named:
            self.modules.add(named[1])
            return ast.Constant(f"{named[1].rpartition('.')[2]}{named[2] or ''}")
        return node

    def _taken(self, node: ast.stmt, each: list[tuple[str, ast.alias]]) -> ast.AST | None:
        if each[0][0].split(".")[0] != "tedloc":
            return node
        for name, alias in each:  # a module, or what a module defines
            module = name if _find(name, self.package) else name.rpartition(".")[0]
            self.modules.add(module)
            place = name.split(".") if module != name else name.split(".")[-1:]
            self.bound.add(f"{'.'.join(place[-2:])} as {alias.asname or alias.name}")
        return None
