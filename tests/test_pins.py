"""pyproject.toml says what the package needs, requirements.lock which versions were used; they and CI agree."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import tedloc

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXACT = {"ruff"}  # another version lays out lines in another way


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
    every = [Requirement(line) for line in sum(extras, start=list(project["dependencies"]))]
    return [requirement for requirement in every if requirement.name != project["name"]]


def version_of(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==" and "*" not in specifier.version, f"{requirement} is not an exact pin"
    return specifier.version


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_every_dependency_under_every_python(project, lock, python):
    environment = default_environment() | {"python_version": python, "python_full_version": f"{python}.0"}
    pins: dict[str, set[str]] = {}
    for requirement, _ in lock:
        if requirement.marker is None or requirement.marker.evaluate(environment):
            pins.setdefault(canonicalize_name(requirement.name), set()).add(version_of(requirement))
    assert all(len(versions) == 1 for versions in pins.values()), "two versions of one package"
    for requirement in asked(project):
        (version,) = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}, locked: {version}"


def test_dependencies_have_a_lower_bound_and_an_upper_one_only_with_its_reason(project):
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    for requirement in asked(project):
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators == {"=="} if requirement.name in EXACT else ">=" in operators, requirement
        if operators != {">="}:
            (line,) = [line for line in lines if line.strip().startswith(f'"{requirement.name}>=')] or [
                line for line in lines if line.strip().startswith(f'"{requirement.name}==')
            ]
            assert "# " in line, f"say beside it why {requirement} is bounded above"


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


def test_conda_takes_its_packages_from_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock"]
    (python,) = [SpecifierSet(entry.removeprefix("python")) for entry in conda if entry.startswith("python")]
    assert {minor for minor in range(8, 20) if python.contains(f"3.{minor}")} == set(range(11, 15))


def test_the_same_pythons_are_named_everywhere(project):
    assert project["requires-python"] == f">={PYTHONS[0]}"
    classifiers = [line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert tuple(classifiers) == PYTHONS
    (tried,) = re.findall(r"^PYTHONS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert tried.split() == [f"python{version}" for version in reversed(PYTHONS)] + ["python3"]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert tuple(jobs["tests"]["strategy"]["matrix"]["python"]) == PYTHONS
    assert f"--universal --python-version {PYTHONS[0]}" in (ROOT / "requirements.lock").read_text()


def test_the_build_backend_comes_from_the_lock(lock):
    """The package is built with --no-build-isolation, so setuptools must be there."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    locked = {canonicalize_name(requirement.name): version_of(requirement) for requirement, _ in lock}
    for requirement in map(Requirement, build):
        assert Version(locked[requirement.name]) in requirement.specifier


def test_the_version_is_kept_in_one_place_and_cited(project):
    assert "version" in project["dynamic"] and "version" not in project
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == tedloc.__version__
    zenodo = json.loads((ROOT / ".zenodo.json").read_text())
    assert [zenodo[key] for key in ("version", "title", "license")] == [
        tedloc.__version__,
        citation["title"],
        citation["license"],
    ]
    assert [each["name"] for each in zenodo["creators"]] == [each["name"] for each in citation["authors"]]
