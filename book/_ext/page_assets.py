"""What a page fetches only when its reader asks for it, as scripts below ``_static``.

A page that is opened from the disk may load a script, and nothing else: browsers refuse it every other file. So data
travels as a script that puts it, gzipped and in base64, into ``window.tedlocAssets`` by its path below ``_static``.

Notebooks bring such data in the metadata of their outputs (see ``tedloc.book.try_it``). ONNX Runtime, which runs a
model in the browser, comes from npm like MathJax; where npm has not installed it, it is left out, and the page says so.
No such file may lie below the book's own ``_static``: Jupyter Book 1 adds every script there to every page.
"""

import base64
import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

ASSETS = "tedloc-assets"
RUNTIME = Path("node_modules", "onnxruntime-web", "dist")


def script(path: str, packed: str) -> str:
    """The script that puts ``packed`` (gzip, base64) where a page finds it."""
    return f"(window.tedlocAssets ??= {{}})[{json.dumps(path)}] = {json.dumps(packed)};\n"


def assets_of(notebook: Path) -> Iterator[tuple[str, str]]:
    """The assets that a notebook's outputs bring: path below ``_static``, and the packed data."""
    text = notebook.read_text(encoding="utf-8")
    if ASSETS not in text:
        return
    for cell in json.loads(text)["cells"]:
        for output in cell.get("outputs", []):
            yield from output.get("metadata", {}).get(ASSETS, {}).items()


def write(file: Path, content: str) -> None:
    if not file.exists() or file.read_text(encoding="utf-8") != content:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")


def serve_runtime(source: Path, target: Path) -> None:
    """ONNX Runtime's program as it is, and its WebAssembly with the module that starts it, packed."""
    program, served = source / "ort.wasm.min.js", target / "onnxruntime.js"
    if not program.exists() or served.exists() and served.stat().st_mtime >= program.stat().st_mtime:
        return
    target.mkdir(parents=True, exist_ok=True)
    for kind in ("wasm", "mjs"):
        content = (source / f"ort-wasm-simd-threaded.{kind}").read_bytes()
        packed = base64.b64encode(gzip.compress(content, mtime=0)).decode()
        write(target / f"{kind}.js", script(f"runtime/{kind}.js", packed))
    shutil.copyfile(program, served)


def serve(app, exception) -> None:
    if app.builder.format != "html" or exception:
        return
    static = Path(app.outdir, "_static")
    found = False
    for document in sorted(app.env.found_docs):
        source = Path(app.env.doc2path(document))
        if source.suffix == ".ipynb":
            for path, packed in assets_of(source):
                write(static / path, script(path, packed))
                found = True
    if found:
        serve_runtime(Path(app.srcdir, RUNTIME), static / "runtime")


def setup(app):
    app.connect("build-finished", serve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
