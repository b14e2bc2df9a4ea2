"""TeD-Loc: text distillation for weakly supervised object localization, and the methods it is compared with.

To read the paper's method, read these four first, in this order:

    model.py     decoder D, patch classifier g, pooling (section 3)
    losses.py    L = λ1 L_KD + λ2 P_CL + λ3 I_CL (Eq. 1 to 5)
    sampler.py   foreground and background patches from a CAM (appendix A)
    anchors.py   class texts, orthogonalised (section 3.2)

Behind them: ``settings`` and ``profiles`` (every choice, as data), the commands ``train``, ``predict``, ``evaluate``,
``tune``, and rooms in the order that data flow: ``data``, ``metrics``, ``backbones``, ``training``, ``methods``,
``cost``, ``runs``; then ``paper`` and ``audit``, and ``book``, which shows it all.

What outsiders use is at hand here, loaded when it is asked for (so that the evaluator needs no torch).
"""

import sys
from importlib import import_module
from typing import Any

__version__ = "1.0.0"

if sys.version_info < (3, 11):  # noqa: UP036 (pip refuses an older one; a checkout is met by whatever python3 is)
    print(
        f"error: tedloc needs Python 3.11 or newer, and this is {'.'.join(map(str, sys.version_info[:2]))}",
        file=sys.stderr,
    )
    sys.exit(2)

from tedloc.errors import installation  # noqa: E402

installation.explain_what_is_missing()

_PLACES = {
    "LocalizationMeter": "tedloc.metrics.meter",
    "TeDLoc": "tedloc.model",
    "anchor_maps": "tedloc.model",
    "orthogonalise": "tedloc.anchors",
    "pools": "tedloc.sampler",
    "sample": "tedloc.sampler",
    "total": "tedloc.losses",
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'tedloc' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
