"""Errors a user can mend, and how commands report them."""

import functools
import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input: one sentence that names the file or setting and the remedy."""


def command(main: Callable[..., None]) -> Callable[..., None]:
    """Turn a ``UserError`` into one line on stderr and exit code 2, and Ctrl-C into exit code 130."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs) -> None:
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted; run the same command again to go on from here", file=sys.stderr)
            sys.exit(130)

    return wrapped


def choose(kind: str, name: str, known) -> None:
    """Raise ``UserError`` unless ``name`` is one of ``known``; the sentence lists what is."""
    if name not in known:
        raise UserError(f"unknown {kind} {name!r}; choose one of: {', '.join(sorted(known))}")
