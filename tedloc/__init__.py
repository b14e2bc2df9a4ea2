"""TeD-Loc: text distillation for weakly supervised object localization, and the methods it is compared with."""

import sys

__version__ = "1.0.0"

if sys.version_info < (3, 11):  # noqa: UP036 (pip refuses an older one; a checkout is met by whatever python3 is)
    print("error: tedloc needs Python 3.11 or newer, and this is %d.%d" % sys.version_info[:2], file=sys.stderr)  # noqa: UP031
    sys.exit(2)

from tedloc import installation  # noqa: E402

installation.explain_what_is_missing()
