"""Where everything lies. No other module spells a path.

``TEDLOC_DATA``   folder that holds the data sets (``tiny-imagenet-200/``, ``CUB_200_2011/``, ``ILSVRC/``, ...)
``TEDLOC_RUNS``   folder for runs (checkpoints, per-image results, metrics)
``TEDLOC_CACHE``  folder for what can be computed again (pseudo-labels, features, rendered images)

Unset, they are ``data/``, ``runs/`` and ``cache/`` in the checkout, or in the working directory when the
package is installed without one.
"""

import os
from contextlib import contextmanager
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
WEIGHTS = PACKAGE / "weights"  # towers trained by data_scripts/, shipped with the package
TUNING = PACKAGE / "tuning"  # every trial behind the settings of the small profiles, by tedloc.tune
PAPER = PACKAGE / "paper"  # the paper's tables as data


def root() -> Path:
    """The checkout, or the working directory when there is none."""
    checkout = PACKAGE.parent
    return checkout if (checkout / "pyproject.toml").exists() else Path.cwd()


def data() -> Path:
    return Path(os.environ.get("TEDLOC_DATA") or root() / "data").expanduser()


def runs() -> Path:
    return Path(os.environ.get("TEDLOC_RUNS") or root() / "runs").expanduser()


def cache() -> Path:
    return Path(os.environ.get("TEDLOC_CACHE") or root() / "cache").expanduser()


def notebooks() -> Path:
    """Sources of the notebooks, ``NAME.py`` paired with ``NAME.ipynb``."""
    return root() / "notebooks"


def book() -> Path:
    """The book's own pages and settings; executed notebooks go below it, into ``executed/``."""
    return root() / "book"


@contextmanager
def replacing(target: Path):
    """Yield a scratch path beside ``target``; rename it over ``target`` only if the block ends well.

    The scratch name keeps the suffix (writers that look at it agree) but starts with a dot.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield scratch
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)
