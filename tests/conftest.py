"""Fixtures for all tests. Nothing here needs data or a network."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real photos and benchmark split files that may lie beside the checkout; tests skip without them."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the checkout: real photos and split files are not here")
    return folder


@pytest.fixture(autouse=True)
def scratch_folders(tmp_path, monkeypatch, request):
    """Every test gets its own runs and cache, so that no test reads or leaves anything in the checkout."""
    monkeypatch.setenv("TEDLOC_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("TEDLOC_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Path:
    """The folder of a finished run of TeD-Loc in the smoke profile, with the cheapest teacher; only to be read."""
    from tedloc import profiles, runs

    folder = tmp_path_factory.mktemp("small-run")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TEDLOC_RUNS", str(folder / "runs"))
        environment.setenv("TEDLOC_CACHE", str(folder / "cache"))
        profile = profiles.get("smoke", {"pseudo_labels.teacher": "centre-prior", "optimiser.epochs": 20})
        return runs.ensure(runs.Request(profile, device="cpu")).folder
