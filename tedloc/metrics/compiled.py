"""Functions that numba compiles, with a cache on the disk where there is a place for one."""

import os
from collections.abc import Callable

import numba


def compiled(function: Callable) -> Callable:
    """``numba.njit`` without the interpreter's lock; kept in ``__pycache__``, or where ``NUMBA_CACHE_DIR`` says.

    Where neither that nor the home folder can be written, every process compiles anew, which takes some seconds.
    Without a home folder numba would take the folder that a command is called from, which may be that of the maps.
    """
    keep = bool(numba.config.CACHE_DIR) or os.path.isabs(os.path.expanduser("~"))
    try:
        return numba.njit(cache=keep, nogil=True)(function)
    except RuntimeError:  # "no locator available": no folder can be written
        return numba.njit(nogil=True)(function)
