"""The model in the browser answers as PyTorch does, and its own steps are those of the package."""

import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from tedloc import paths
from tedloc.data import open_split
from tedloc.metrics import boxes
from tedloc.runs import execute, localizer

PAGE = "executed/try_it.html"
PHOTOS = 40


@pytest.fixture
def page(open_page, book_html):
    if not (book_html / PAGE).exists():
        pytest.skip(f"{PAGE} is not in the built book")
    if not (book_html / "_static" / "runtime" / "onnxruntime.js").exists():
        pytest.skip("ONNX Runtime is not in the built book: npm was missing when it was made")
    return open_page(PAGE).page


def chosen(page, sample: str, file: str = "") -> dict:
    """The page's state once it has answered for a sample, or for a picture of one's own (``own``) of that name."""
    page.wait_for_selector(f'.try-it[data-state="ready"][data-sample="{sample}"][data-file="{file}"]', timeout=60_000)
    return page.evaluate("({...document.querySelector('.try-it').dataset})")


def told(page) -> dict:
    """What the page was told of models and samples."""
    return json.loads(page.locator(".try-it script").text_content())


@pytest.fixture
def photo_model(page):
    """PyTorch's own, where the page has it: it answers for a reader's pictures in the book's profile."""
    if told(page)["models"][-1]["path"] != "try-it/photos.js":
        pytest.skip("the built book has no model of photos: its own profile is one of photos, or a package was missing")
    return localizer.load(paths.PHOTO_MODEL)


def grid_of(state: dict) -> list[int]:
    return [int(edge) for edge in state["grid"].split(",")]


def test_every_sample_gets_pytorch_s_box_and_class(page):
    samples = told(page)["samples"]
    assert len(samples) > 3
    page.locator(".try-it-samples button").first.click()
    chosen(page, "0")  # the first loads the model, and warms the program up
    for number in [*range(1, len(samples)), 0]:
        page.locator(".try-it-samples button").nth(number).click()
        state, pytorch = chosen(page, str(number)), samples[number]["pytorch"]
        assert grid_of(state) == pytorch["grid"]
        assert int(state["class"]) == pytorch["class"]
        assert float(state["score"]) == pytest.approx(pytorch["score"], abs=1e-4)
        assert "the same box, the same class" in page.locator(".try-it-words").text_content()


def test_nothing_is_loaded_before_a_picture_is_chosen(open_page, book_html):
    if not (book_html / PAGE).exists():
        pytest.skip(f"{PAGE} is not in the built book")
    opened = open_page(PAGE)
    assert not [url for url in opened.requests if "/_static/runtime/" in url or "/_static/try-it/" in url]


def own_picture(folder, name: str = "own.png"):
    pixels = np.random.default_rng(0).integers(0, 256, (61, 143, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return folder / name


@pytest.mark.parametrize("way", ["#try-it-file", "#try-it-camera"])
def test_a_picture_of_one_s_own_is_answered_in_its_own_pixels(page, tmp_path, way):
    page.locator(way).set_input_files(own_picture(tmp_path))
    state = chosen(page, "own", "own.png")
    assert state["model"] == told(page)["models"][-1]["path"]
    scale = np.array([143, 61, 143, 61]) / 224
    assert np.allclose([float(edge) for edge in state["box"].split(",")], np.array(grid_of(state)) * scale)
    assert "nothing else" in page.locator(".try-it-words").text_content()


def test_on_a_phone_and_only_there_the_camera_is_offered(open_page, page):
    camera = ".try-it-camera"
    assert page.locator(camera).is_hidden()
    phone = open_page(PAGE, width=390).page
    assert phone.locator(camera).is_visible()
    assert phone.locator("#try-it-camera").get_attribute("capture") == "environment"


def test_photos_get_pytorch_s_boxes_and_classes(page, photo_model, shared, monkeypatch):
    """IoU of at least 0.95 between the two programs' boxes, on test photos spread over all classes."""
    if not (shared / "imagenette2").is_dir():
        pytest.skip("no Imagenette in ../shared/data")
    monkeypatch.setenv("TEDLOC_DATA", str(shared))
    images, found, waited = open_split("imagenette", "test"), [], []
    for index in np.linspace(0, len(images) - 1, PHOTOS).round().astype(int):
        file = images.folder / images.places[index]
        page.locator("#try-it-file").set_input_files(file)
        state, ours = chosen(page, "own", file.name), photo_model(images.image(index))
        found.append(boxes.iou(np.array(grid_of(state)), np.array(ours.grid)))
        waited.append(float(state["ms"]))
        assert int(state["class"]) == ours.scores.argmax()
        assert float(state["familiarity"]) == pytest.approx(photo_model.familiarity(ours), abs=0.02)
    print(f"IoU {min(found):.3f} at least; {np.median(waited[1:]):.0f} ms in the median, {max(waited[1:]):.0f} at most")
    assert len(found) == PHOTOS and min(found) >= 0.95


def test_a_picture_unlike_anything_known_is_said_to_be(page, photo_model, tmp_path):
    file = own_picture(tmp_path)
    ours = photo_model.familiarity(photo_model(np.asarray(Image.open(file))))
    page.locator("#try-it-file").set_input_files(file)
    state = chosen(page, "own", "own.png")
    assert float(state["familiarity"]) == pytest.approx(ours, abs=0.02)
    assert (state["unlike"] == "true") == (float(state["familiarity"]) < localizer.UNLIKE)
    assert page.locator(".try-it-unlike").count() == (state["unlike"] == "true")


def test_the_page_ranks_scores_and_maps_as_the_package_does(page):
    rng = np.random.default_rng(0)
    highest = rng.normal(size=(300, 2)).round(1)  # with many ties
    known = execute.familiar(highest)
    for score, top in [*highest[:40], (-9, 0), (0, -9), (9, 9), (known["score"][0], known["map"][100])]:
        ranks = localizer._below(score, known["score"]), localizer._below(top, known["map"])
        expected = localizer._below(min(ranks), known["both"])
        ours = page.evaluate("([s, m, k]) => tedlocTryIt.familiarity([s, s - 1], [m - 1, m], k)", [score, top, known])
        assert ours == pytest.approx(expected, abs=1e-9)


def test_where_a_server_isolates_the_page_it_uses_threads_and_answers_the_same(browsers, page, book_html, tmp_path):
    class Isolating(SimpleHTTPRequestHandler):
        def end_headers(self):
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

        def log_message(self, *arguments):
            pass

    file = own_picture(tmp_path)
    page.locator("#try-it-file").set_input_files(file)
    alone = chosen(page, "own", "own.png")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Isolating, directory=book_html)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        served = browsers("light", False).new_page()
        try:
            served.goto(f"http://127.0.0.1:{server.server_port}/{PAGE}", wait_until="load")
            served.locator("#try-it-file").set_input_files(file)
            together = chosen(served, "own", "own.png")
            threads = served.evaluate("[ort.env.wasm.numThreads, Math.min(4, navigator.hardwareConcurrency)]")
        finally:
            served.close()
            server.shutdown()
    assert threads[0] == threads[1] and page.evaluate("ort.env.wasm.numThreads") == 1
    assert together["grid"] == alone["grid"] and together["class"] == alone["class"]


def test_a_file_that_is_no_picture_gets_a_sentence(page, tmp_path):
    (tmp_path / "words.png").write_text("no picture")
    page.locator("#try-it-file").set_input_files(tmp_path / "words.png")
    page.wait_for_selector('.try-it[data-state="ready"]', timeout=60_000)
    assert "cannot read this file" in page.locator(".try-it-status").text_content()


def test_without_javascript_the_figure_and_a_sentence_are_there(open_page, book_html):
    if not (book_html / PAGE).exists():
        pytest.skip(f"{PAGE} is not in the built book")
    page = open_page(PAGE, javascript=False).page
    assert "takes JavaScript" in page.locator(".try-it").text_content()
    assert page.locator(".cell_output img").count() >= 1


@pytest.mark.parametrize("wide, high", [(80, 80), (37, 91), (300, 200), (79, 81), (1, 5), (120, 161)])
def test_pictures_are_resized_as_pillow_does_it(page, wide, high):
    image = np.random.default_rng(0).integers(0, 256, (high, wide, 4), dtype=np.uint8)
    ours = page.evaluate(
        "([rgba, w, h]) => Array.from(tedlocTryIt.resize(rgba, w, h, 80))", [image.ravel().tolist(), wide, high]
    )
    theirs = Image.fromarray(image[..., :3]).resize((80, 80), Image.Resampling.BILINEAR)
    assert np.array_equal(ours, np.asarray(theirs).ravel())


@pytest.mark.parametrize("side", [20, 10, 224])
def test_maps_become_bytes_and_boxes_as_in_the_protocol(page, side):
    rng = np.random.default_rng(side)
    for number in range(4 if side == 224 else 9):
        score_map = rng.random((side, side)).astype(np.float32)
        if number % 3 == 0:
            score_map = (score_map > 0.6).astype(np.float32)  # many equal areas, holes and thin lines
        threshold = float(rng.random())
        levels, box = page.evaluate(
            "([map, n, t]) => { const b = tedlocTryIt.toBytes(Float32Array.from(map), n, n, 224);"
            " return [Array.from(b), tedlocTryIt.largestBox(b, 224, t)]; }",
            [score_map.ravel().tolist(), side, threshold],
        )
        expected = boxes.to_bytes(boxes.to_grid(score_map, 224))
        assert np.array_equal(levels, expected.ravel())
        assert box == list(boxes.largest_box(expected, int(boxes.level_of(threshold, expected.max()))))


def test_a_flat_map_has_no_box(page):
    box = page.evaluate("tedlocTryIt.largestBox(tedlocTryIt.toBytes([1, 1, 1, 1], 2, 2, 224), 224, 0.5)")
    assert box == [0, 0, 0, 0]
