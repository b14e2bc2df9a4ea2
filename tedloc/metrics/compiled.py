"""Functions that numba compiles, and where the machine code is kept.

In a checkout numba keeps it beside the source, in ``__pycache__``. An installed package keeps it below the cache folder
(:mod:`tedloc.paths`): a package's own folder is no place for it, and may be read-only.
"""

import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numba

from tedloc import paths


def compiled(function: Callable) -> Callable:
    """``numba.njit`` without the interpreter's lock, compiled at the first call and kept for later processes.

    Where the folder cannot be written, or numba finds none, a warning says so in one sentence, and every process
    compiles anew. ``NUMBA_CACHE_DIR`` names another folder, as everywhere in numba.
    """
    chosen = numba.config.CACHE_DIR
    folder = Path(chosen) if chosen else None if paths.checkout() else paths.cache() / "numba"
    # without a home folder numba would take the folder that a command is called from, which may be that of the maps
    keep = folder is not None or os.path.isabs(os.path.expanduser("~"))
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                numba.config.CACHE_DIR = str(folder)
        return numba.njit(cache=keep, nogil=True)(function)
    except (OSError, RuntimeError) as error:
        _say_once(f"{folder or paths.PACKAGE} ({error})")
        return numba.njit(nogil=True)(function)
    finally:
        numba.config.CACHE_DIR = chosen


_said: list[str] = []


def _say_once(where: str) -> None:
    if not _said and multiprocessing.parent_process() is None:
        _said.append(where)
        warnings.warn(
            f"numba cannot keep its machine code in {where}: every start takes some seconds more; set TEDLOC_CACHE to "
            "a folder that can be written",
            RuntimeWarning,
            stacklevel=3,
        )
