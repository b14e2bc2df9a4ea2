"""The page that runs the model in a browser: what Python puts into it, and how it reaches the built book."""

import base64
import gzip
import io
import json
import re
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from PIL import Image
from test_book import load_extension

from tedloc import predict
from tedloc.book import try_it
from tedloc.data import open_split

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'tedloc[onnx]'")


@pytest.fixture(scope="module")
def page(small_run) -> try_it.Page:
    localizer = predict.load(small_run)
    return try_it.Page(localizer, try_it.samples(localizer, open_split("aviary", "test", per_class=4), count=3))


@pytest.fixture(scope="module")
def displayed(page) -> tuple[dict, dict]:
    """An output's data and metadata."""
    return page._repr_mimebundle_()


@pytest.fixture(scope="module")
def shown(displayed) -> dict:
    return displayed[0]


@pytest.fixture(scope="module")
def assets(displayed) -> dict[str, str]:
    return displayed[1][try_it.ASSETS]


def payload(shown: dict) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', shown["text/html"])[1])


def test_the_model_that_travels_with_the_page_is_the_one_that_answered(page, shown, assets):
    data = payload(shown)
    ((path, packed),), (told,) = assets.items(), data["models"]
    assert path == told["path"] == "try-it/smoke.js" and abs(told["megabytes"] - len(packed) / 1e6) < 0.06
    model = gzip.decompress(base64.b64decode(packed))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for sample in data["samples"]:
        image = np.array(Image.open(io.BytesIO(base64.b64decode(sample["src"].partition(",")[2]))))
        score_map, scores = session.run(None, {"image": image.transpose(2, 0, 1)[None] / np.float32(255)})
        found = page.localizer.cut(score_map[0], scores[0], image.shape[1::-1])
        assert list(found.grid) == sample["pytorch"]["grid"]
        assert scores.argmax() == sample["pytorch"]["class"]


def test_the_page_says_what_a_script_needs_and_is_small(page, shown):
    data = payload(shown)
    (told,) = data["models"]
    assert told["threshold"] == page.localizer.threshold and told["grid"] == 224 and told["size"] == 80
    assert told["familiar"] == page.localizer.familiar and told["unlike"] == 0.05
    assert len(told["classes"]) == 20 and len(data["colours"]) == try_it.STOPS
    assert [sample["target"] is None for sample in data["samples"]] == [False, False, False, True]
    assert len(shown["text/html"]) < 200_000
    assert "<noscript>" in shown["text/html"] and shown["text/html"].count("</script>") == 1


def test_a_model_for_the_reader_s_own_pictures_comes_last_and_has_a_file_of_its_own(page):
    shown, metadata = try_it.Page(page.localizer, page.samples, page.localizer)._repr_mimebundle_()
    names = [told["path"] for told in payload(shown)["models"]]
    assert names == ["try-it/smoke.js", "try-it/photos.js"] == list(metadata[try_it.ASSETS])
    sizes = [len(packed) for packed in metadata[try_it.ASSETS].values()]
    assert sizes[1] < 0.6 * sizes[0]  # its weights are kept in fewer bits


def test_a_model_that_is_too_large_for_a_page_stays_out_of_it(page, monkeypatch):
    monkeypatch.setattr(try_it, "LARGEST", 1e6)
    shown, metadata = page._repr_mimebundle_()
    assert not metadata and "too much to be run in a page" in shown["text/html"]


@pytest.fixture
def built(tmp_path, displayed):
    """A function that ends a build of a book with one executed notebook, with or without ONNX Runtime."""
    extension = load_extension("page_assets")
    output = nbformat.v4.new_output("display_data", data=displayed[0], metadata=displayed[1])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("page", outputs=[output])])
    nbformat.write(notebook, tmp_path / "try_it.ipynb")

    def build(runtime: bool):
        if runtime:
            folder = tmp_path / extension.RUNTIME
            folder.mkdir(parents=True)
            for name in ("ort.wasm.min.js", "ort-wasm-simd-threaded.wasm", "ort-wasm-simd-threaded.mjs"):
                (folder / name).write_text(name)
        app = SimpleNamespace(
            builder=SimpleNamespace(format="html"),
            outdir=tmp_path / "html",
            srcdir=tmp_path,
            env=SimpleNamespace(found_docs={"try_it"}, doc2path=lambda name: tmp_path / f"{name}.ipynb"),
        )
        extension.serve(app, None)
        return tmp_path / "html" / "_static"

    return build


def brought(file) -> bytes:
    """What a script puts into ``window.tedlocAssets``, unpacked."""
    packed = re.fullmatch(r'\(window\.tedlocAssets \?\?= \{\}\)\["[^"]+"\] = "([^"]+)";\n', file.read_text())[1]
    return gzip.decompress(base64.b64decode(packed))


def test_the_built_book_brings_model_and_runtime_as_scripts(built, assets):
    static = built(runtime=True)
    assert brought(static / "try-it" / "smoke.js") == gzip.decompress(base64.b64decode(*assets.values()))
    assert (static / "runtime" / "onnxruntime.js").read_text() == "ort.wasm.min.js"
    assert brought(static / "runtime" / "wasm.js") == b"ort-wasm-simd-threaded.wasm"
    assert brought(static / "runtime" / "mjs.js") == b"ort-wasm-simd-threaded.mjs"


def test_without_npm_the_book_is_built_all_the_same(built):
    static = built(runtime=False)
    assert (static / "try-it" / "smoke.js").exists() and not (static / "runtime").exists()


def test_python_and_the_extension_agree_on_the_key():
    assert load_extension("page_assets").ASSETS == try_it.ASSETS


def test_the_class_named_for_a_picture_is_the_best_and_comes_with_its_share(page):
    for sample in page.samples:
        shares = page.localizer.shares(sample.found.scores)
        name = page.localizer.class_names[shares.argmax()]
        assert try_it.describe(page.localizer, sample) == f"{name}, softmax {100 * shares.max():.0f} %"


def test_as_many_pictures_are_unlike_anything_known_as_are_less_familiar_than_the_rule_allows(page, monkeypatch):
    pictures = [sample.image for sample in page.samples]
    familiar = sorted(page.localizer.familiarity(page.localizer(picture)) for picture in pictures)
    for count in (0, 1, len(pictures)):
        bound = familiar[count] if count < len(pictures) else 1.01
        monkeypatch.setattr(try_it, "UNLIKE", bound)
        assert try_it.unlike(page.localizer, pictures) == np.mean([value < bound for value in familiar])
