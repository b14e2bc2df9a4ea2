"""Where everything lies. No other module spells a path.

``TEDLOC_DATA``   folder that holds the data sets (``imagenette2-320/``, ``CUB_200_2011/``, ``ILSVRC/``, ...)
``TEDLOC_RUNS``   folder for runs (checkpoints, per-image results, metrics)
``TEDLOC_CACHE``  folder for what can be computed again (pseudo-labels, features, rendered images)

Unset, they are ``data/``, ``runs/`` and ``cache/`` in the checkout; without one, where the system keeps a user's data
and caches (on Linux ``~/.local/share/tedloc/`` and ``~/.cache/tedloc/``). A relative path counts from the working
directory where there is such a folder, otherwise from the checkout: so commands agree with notebooks, whose kernels
work in ``notebooks/``. What the first process finds, the processes that it starts inherit.
"""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from tedloc.errors import UserError

PACKAGE = Path(__file__).resolve().parent
WEIGHTS = PACKAGE / "weights"  # towers trained by data_scripts/, shipped with the package
PHOTO_MODEL = WEIGHTS / "photos"  # TeD-Loc for photos, without its encoder: python -m tedloc.export --without-encoder
TUNING = PACKAGE / "tuning"  # every trial behind the settings of the small profiles, by tedloc.tune
EVIDENCE = PACKAGE / "results" / "evidence"  # every run behind the verdicts, by `make evidence`
PAPER = PACKAGE / "paper"  # the paper's tables as data


def checkout() -> Path | None:
    """The folder of a checkout that the package is in; None for an installed package."""
    return PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else None


def root() -> Path:
    """Where notebooks and pages are: the checkout, or the working directory when there is none."""
    return checkout() or Path.cwd()


def _folder(name: str, kind: str, *below: str) -> Path:
    if given := os.environ.get(f"TEDLOC_{name.upper()}"):
        place = Path(given).expanduser()
        return place.absolute() if place.is_absolute() or place.is_dir() else root() / place
    if here := checkout():
        return here / name
    import platformdirs  # here, so that a checkout runs on a machine without it

    return getattr(platformdirs, kind)("tedloc", False).joinpath(*below)


def data() -> Path:
    return _folder("data", "user_data_path", "data")


def runs() -> Path:
    return _folder("runs", "user_data_path", "runs")


def cache() -> Path:
    return _folder("cache", "user_cache_path")


for _name, _place in {"DATA": data, "RUNS": runs, "CACHE": cache}.items():
    if os.environ.get(f"TEDLOC_{_name}"):
        os.environ[f"TEDLOC_{_name}"] = str(_place())


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


def no_file(path: Path) -> str | None:
    """Why there is no file to read at ``path``, as the end of a sentence; None if there is one."""
    if os.path.isfile(path):
        return None
    if os.path.isdir(path):
        return "is a folder where a file is expected"
    if os.path.islink(path):
        return "is a link that leads to no file"
    return "is no plain file" if os.path.exists(path) else "is missing"


def writable_file(path: Path | None, option: str) -> None:
    """Raise ``UserError`` unless a file can be written at ``path``; for before the work whose result it takes.

    option: ``--json``, for the sentence. None: nothing is to be written
    """
    if path is None:
        return
    if os.path.isdir(path):
        raise UserError(f"{option} {path} is a folder; name the file to write")
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{option} {path} is no plain file and would be replaced by one; name another")
    _writable(path.absolute().parent, f"{option} {path}")


def writable_folder(path: Path, option: str) -> None:
    """Raise ``UserError`` unless files can be written into the folder ``path``, which need not be there yet."""
    _writable(path.absolute(), f"{option} {path}")


def _writable(folder: Path, what: str) -> None:
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not os.path.isdir(folder):
        raise UserError(f"{what} cannot be written: {folder} is no folder; name another place")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{what} cannot be written: {folder}: {error.strerror}; name another place") from None
