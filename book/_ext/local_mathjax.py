"""Formulas without a network: serve MathJax's one file from the book itself when npm has installed it.

The file must not lie below ``_static``: Jupyter Book 1 adds every script there to every page.
"""

import shutil
from pathlib import Path

INSTALLED = Path("node_modules", "mathjax", "es5", "tex-svg-full.js")
SERVED = Path("mathjax", "tex-svg-full.js")


def serve(app):
    source = Path(app.srcdir, INSTALLED)
    if app.builder.format != "html" or not source.exists():
        return  # Sphinx's own address stays: formulas then need a network
    target = Path(app.outdir, "_static", SERVED)
    if not target.exists() or target.stat().st_size != source.stat().st_size:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    app.config.mathjax_path = SERVED.as_posix()


def setup(app):
    app.connect("builder-inited", serve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
