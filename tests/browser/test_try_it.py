"""The model in the browser answers as PyTorch does, and its own steps are those of the package."""

import json

import numpy as np
import pytest
from PIL import Image

from tedloc.metrics import boxes

PAGE = "executed/try_it.html"


@pytest.fixture
def page(open_page, book_html):
    if not (book_html / PAGE).exists():
        pytest.skip(f"{PAGE} is not in the built book")
    if not (book_html / "_static" / "runtime" / "onnxruntime.js").exists():
        pytest.skip("ONNX Runtime is not in the built book: npm was missing when it was made")
    return open_page(PAGE).page


def chosen(page, sample: str) -> dict:
    """The page's state once it has answered for a sample, or for a picture of one's own (``own``)."""
    page.wait_for_selector(f'.try-it[data-state="ready"][data-sample="{sample}"]', timeout=60_000)
    return page.evaluate("({...document.querySelector('.try-it').dataset})")


def grid_of(state: dict) -> list[int]:
    return [int(edge) for edge in state["grid"].split(",")]


def test_every_sample_gets_pytorch_s_box_and_class_in_under_a_second(page):
    samples = json.loads(page.locator(".try-it script").text_content())["samples"]
    assert len(samples) > 3
    page.locator(".try-it-samples button").first.click()
    chosen(page, "0")  # the first loads the model, and warms the program up
    for number in [*range(1, len(samples)), 0]:
        page.locator(".try-it-samples button").nth(number).click()
        state, pytorch = chosen(page, str(number)), samples[number]["pytorch"]
        assert grid_of(state) == pytorch["grid"]
        assert int(state["class"]) == pytorch["class"]
        assert float(state["score"]) == pytest.approx(pytorch["score"], abs=1e-4)
        assert float(state["ms"]) < 1000
        assert "the same box, the same class" in page.locator(".try-it-words").text_content()


def test_nothing_is_loaded_before_a_picture_is_chosen(open_page, book_html):
    if not (book_html / PAGE).exists():
        pytest.skip(f"{PAGE} is not in the built book")
    opened = open_page(PAGE)
    assert not [url for url in opened.requests if "/_static/runtime/" in url or "/_static/try-it/" in url]


def test_a_picture_of_one_s_own_is_answered_in_its_own_pixels(page, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (61, 143, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "own.png")
    page.locator("#try-it-file").set_input_files(tmp_path / "own.png")
    state = chosen(page, "own")
    scale = np.array([143, 61, 143, 61]) / 224
    assert np.allclose([float(edge) for edge in state["box"].split(",")], np.array(grid_of(state)) * scale)
    assert "nothing else" in page.locator(".try-it-words").text_content()


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
