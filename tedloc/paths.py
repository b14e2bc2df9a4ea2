"""Where everything lies. No other module spells a path.

``TEDLOC_DATA``   folder that holds the data sets (``tiny-imagenet-200/``, ``CUB_200_2011/``, ``ILSVRC/``, ...)
``TEDLOC_RUNS``   folder for runs (checkpoints, per-image results, metrics)
``TEDLOC_CACHE``  folder for what can be computed again (pseudo-labels, features, rendered images)

Unset, they are ``data/``, ``runs/`` and ``cache/`` in the checkout; without one, where the system keeps a user's data
and caches (on Linux ``~/.local/share/tedloc/`` and ``~/.cache/tedloc/``).
"""

import os
from contextlib import contextmanager
from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).resolve().parent
WEIGHTS = PACKAGE / "weights"  # towers trained by data_scripts/, shipped with the package
TUNING = PACKAGE / "tuning"  # every trial behind the settings of the small profiles, by tedloc.tune
PAPER = PACKAGE / "paper"  # the paper's tables as data


def checkout() -> Path | None:
    """The folder of a checkout that the package is in; None for an installed package."""
    return PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else None


def root() -> Path:
    """Where notebooks and pages are: the checkout, or the working directory when there is none."""
    return checkout() or Path.cwd()


def _folder(name: str, installed: Path) -> Path:
    here = checkout()
    return Path(os.environ.get(f"TEDLOC_{name.upper()}") or (here / name if here else installed)).expanduser()


def data() -> Path:
    return _folder("data", platformdirs.user_data_path("tedloc", False) / "data")


def runs() -> Path:
    return _folder("runs", platformdirs.user_data_path("tedloc", False) / "runs")


def cache() -> Path:
    return _folder("cache", platformdirs.user_cache_path("tedloc", False))


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
