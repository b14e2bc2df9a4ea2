"""Errors a user can mend, and how commands report them."""

import errno
import functools
import sys
import warnings
from collections.abc import Callable


class UserError(Exception):
    """Bad input: one sentence that names the file or setting and the remedy."""


# What the system answers where a place, its rights or its disk are at fault; other answers are a program's mistake.
PLACES = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
PLACES |= {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG, errno.ESTALE}


# Training and evaluation name their own batch size (tedloc.training.engine.memory); this is for what comes before.
FULL_GPU = (
    "the GPU ran out of memory before training, while a network was loaded or images were embedded; end what else "
    "holds its memory, embed fewer images or smaller ones at a time, or give --device cpu"
)


def command(main: Callable[..., None]) -> Callable[..., None]:
    """Turn a ``UserError``, a place that the system refuses or a GPU that is full into one line on stderr and exit code
    2, and Ctrl-C into exit code 130."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs) -> None:
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            if error.errno not in PLACES or not error.filename:
                raise
            print(f"error: {error.filename}: {error.strerror}; see to its place, rights and disk", file=sys.stderr)
            sys.exit(2)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported for this
                raise
            print(f"error: {FULL_GPU}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted; run the same command again to go on from here", file=sys.stderr)
            sys.exit(130)

    return wrapped


_said: set[str] = set()


def remark(doubt: str) -> None:
    """Warn of something that may be wrong and cannot be known to be, once in a process; as of the caller's caller."""
    if doubt not in _said:
        _said.add(doubt)
        warnings.warn(doubt, stacklevel=3)


def choose(kind: str, name: str, known) -> None:
    """Raise ``UserError`` unless ``name`` is one of ``known``; the sentence lists what is."""
    if name not in known:
        raise UserError(f"unknown {kind} {name!r}; choose one of: {', '.join(sorted(known))}")
