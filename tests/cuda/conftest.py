"""The GPU under test. ``TEDLOC_TEST_GPU=cpu pytest -m cuda`` tries the tests themselves where there is none."""

import os
import sys

import pytest
import torch


@pytest.fixture(scope="session")
def gpu() -> str:
    """Its name for ``--device``; tests are skipped where there is none."""
    chosen = os.environ.get("TEDLOC_TEST_GPU", "cuda")
    if chosen != "cpu" and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA GPU that torch can use; run `pytest -m cuda` on one that has")
    return chosen


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Convolutions in float32 keep all of its digits, so that results can be held against the CPU's."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def pytest_runtest_logreport(report):
    """Why a test failed is printed at once: ``benchmarks/gpu_box.py`` ends what takes too long."""
    if report.failed:
        print(f"\n{report.nodeid}\n{report.longreprtext}", file=sys.__stdout__, flush=True)
