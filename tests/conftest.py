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
