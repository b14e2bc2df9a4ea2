"""Where the notebooks' kernels keep what they compute while pytest runs them.

A folder of this test session's own, which both test processes share (a run that two notebooks ask for is computed
once) and which goes away at the end: a fresh clone passes, and nothing reaches the user's runs.
"""

import os
import shutil
import tempfile

SCRATCH = "TEDLOC_TEST_SCRATCH"  # set by the process that starts the others, inherited by them


def pytest_configure(config):
    if SCRATCH not in os.environ:
        os.environ[SCRATCH] = config._tedloc_scratch = tempfile.mkdtemp(prefix="tedloc-test-")
    for name in ("RUNS", "CACHE"):
        os.environ[f"TEDLOC_{name}"] = os.path.join(os.environ[SCRATCH], name.lower())
    # Two test processes share the cores; set before torch is imported, here and in the kernels.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_unconfigure(config):
    own = getattr(config, "_tedloc_scratch", None)
    if own:
        os.environ.pop(SCRATCH, None)
        shutil.rmtree(own, ignore_errors=True)
