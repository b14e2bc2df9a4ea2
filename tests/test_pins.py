"""pyproject.toml, requirements.lock and environment.yml name the same versions."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def lock() -> list[tuple[Requirement, list[str]]]:
    """Each pinned package with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    entries = text.replace("\\\n", " ").strip().splitlines()
    return [(Requirement(entry.split(" --hash")[0]), re.findall(r"--hash=(\S+)", entry)) for entry in entries]


def asked(project: dict) -> list[Requirement]:
    extras = project["optional-dependencies"].values()
    return [Requirement(line) for line in sum(extras, start=list(project["dependencies"]))]


def version_of(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==" and "*" not in specifier.version, f"{requirement} is not an exact pin"
    return specifier.version


def test_every_dependency_is_an_exact_pin_and_the_lock_has_the_same(project, lock):
    locked = {}
    for requirement, _ in lock:
        locked.setdefault(canonicalize_name(requirement.name), set()).add(version_of(requirement))
    for requirement in asked(project):
        assert locked.get(canonicalize_name(requirement.name)) == {version_of(requirement)}, requirement


def test_every_package_of_the_lock_is_held_by_a_hash(lock):
    assert len(lock) > 100
    for requirement, hashes in lock:
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes), requirement


def test_the_lock_names_no_registry():
    assert "://" not in (ROOT / "requirements.lock").read_text()
    assert "://" not in (ROOT / "book" / "package-lock.json").read_text()


def test_the_lock_has_one_opencv(lock):
    wheels = {requirement.name for requirement, _ in lock if requirement.name.startswith("opencv")}
    assert wheels == {"opencv-python"}


def test_conda_takes_its_packages_from_the_lock(project):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock"]
    (python,) = [entry.split("=")[1] for entry in conda if entry.startswith("python=")]
    assert project["requires-python"] == f">={python},<{python.split('.')[0]}.{int(python.split('.')[1]) + 1}"
    assert f"--python-version {python}" in (ROOT / "requirements.lock").read_text()
    assert f"sys.version_info[:2] != ({python.replace('.', ', ')})" in (ROOT / "Makefile").read_text()


def test_the_build_backend_comes_from_the_lock(lock):
    """The package is built with --no-build-isolation, so setuptools must be there."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    locked = {canonicalize_name(requirement.name): version_of(requirement) for requirement, _ in lock}
    for requirement in map(Requirement, build):
        assert Version(locked[requirement.name]) in requirement.specifier
