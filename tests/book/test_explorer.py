"""What the page Explore hands to the browser: the protocol's own boxes, the meters' own curves, valid and small."""

import base64
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from tedloc import anchors
from tedloc.book import anchors_explorer, explorer
from tedloc.data import ImageSet
from tedloc.errors import UserError
from tedloc.metrics import boxes
from tedloc.metrics.meter import LocalizationMeter
from tedloc.runs import Run

STATIC = Path(__file__).resolve().parents[2] / "book" / "_static"
IMAGES, CLASSES, WIDTH, HEIGHT = 9, 3, 60, 40


@dataclass(frozen=True, eq=False)
class Pictures(ImageSet):
    def image(self, index: int) -> np.ndarray:
        return np.full((self.sizes[index][1], self.sizes[index][0], 3), 20 * index, np.uint8)


@pytest.fixture(scope="module")
def images() -> Pictures:
    rng = np.random.default_rng(0)
    low = rng.integers(0, 15, (IMAGES, 2, 2))  # two boxes an image
    found = [np.concatenate([each, each + 18], 1) for each in low]
    return Pictures(
        "toy",
        "test",
        [f"image{n}" for n in range(IMAGES)],
        np.arange(IMAGES) % CLASSES,
        found,
        np.tile([WIDTH, HEIGHT], (IMAGES, 1)),
        ["<wren>", "finch & co", "owl"],
    )


def scored(images: Pictures, seed: int, shape: tuple[int, int], grid: int = 64) -> explorer.Method:
    """Smooth random maps in half precision, as a run keeps them, and their meters; the first map is constant."""
    rng = np.random.default_rng(seed)
    maps = rng.random((IMAGES, *shape)).astype(np.float16)
    maps[0] = 0.5
    meters = [LocalizationMeter(grid=grid, step=0.01) for _ in range(2)]
    for meter, made in zip(meters, (maps, maps[::-1])):
        meter.update(images.ids, made, images.boxes, images.sizes, images.labels, rng.random((IMAGES, CLASSES)))
    return explorer.Method(*meters, maps)


@pytest.fixture(scope="module")
def methods(images) -> dict[str, explorer.Method]:
    boxed = LocalizationMeter(grid=64, step=0.01)
    predicted = np.random.default_rng(5).integers(0, 30, (IMAGES, 4)) + [0, 0, 30, 30]
    boxed.update_boxes(images.ids, predicted, images.boxes, images.sizes, images.labels)
    return {
        "A": scored(images, 1, (7, 9)),
        "B": scored(images, 2, (64, 64)),
        "boxes": explorer.Method(boxed, None, np.zeros((IMAGES, 4, 4), np.float16)),
    }


@pytest.fixture(scope="module")
def explored(images, methods) -> explorer.Explorer:
    return explorer.localization(methods, images, np.arange(IMAGES), "A", "Measured on <toys>", count=IMAGES)


def row(explored, methods, image: int, name: str = "A") -> int:
    return list(methods[name].meter.records.ids).index(explored.payload["images"][image]["id"])


@pytest.mark.parametrize("method, name", [(0, "A"), (1, "B")])
def test_every_threshold_gives_the_box_and_the_iou_by_which_the_meter_scored(explored, methods, method, name):
    meter = methods[name].meter
    for step, threshold in enumerate(meter.thresholds):
        found, iou = meter.records.boxes_at(threshold), meter.records.iou_at(threshold)
        for image in range(IMAGES):
            shown, n = explorer.state(explored.payload, method, image, step), row(explored, methods, image)
            assert shown["box"] == found[n].tolist()
            assert shown["iou"] == iou[n] and shown["correct"] == (iou[n] >= 0.5)
            assert shown["threshold"] == threshold


def test_boxes_without_maps_are_shown_without_a_threshold(explored, methods):
    records = methods["boxes"].meter.records
    for image in range(IMAGES):
        shown = explorer.state(explored.payload, 2, image, 17)
        assert shown["box"] == records.largest[row(explored, methods, image), 0].tolist()
        assert shown["threshold"] is None and shown["accuracy"] == methods["boxes"].meter.curve()["BoxAcc@0.5"][0]
    assert "maps" not in explored.payload["methods"][2]


def test_the_curve_and_its_marks_are_the_meters(explored, methods):
    for made, method in zip(explored.payload["methods"][:2], methods.values()):
        curve = [100 * (count / explored.payload["count"]) for count in made["correct"]]
        assert curve == method.meter.curve()["BoxAcc@0.5"].tolist()
        assert method.meter.thresholds[made["oracle"]] == method.meter.best_threshold()
        assert method.meter.thresholds[made["val"]] == method.val.best_threshold()


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
@pytest.mark.parametrize("shape, grid", [((10, 10), 224), ((20, 13), 224), ((224, 224), 224), ((90, 70), 64)])
def test_a_map_enlarged_on_the_page_is_the_protocols_byte_map(shape, grid):
    stored = np.random.default_rng(3).random(shape).astype(np.float16)
    packed = explorer._map(stored, grid)
    page = (
        f"globalThis.window = {{}}; require({json.dumps(str(STATIC / 'try-it-core.js'))});"
        "const { map, shape, grid } = JSON.parse(require('fs').readFileSync(0));"
        "console.log(JSON.stringify([...window.tedlocTryIt.toBytes(map, ...shape, grid)]));"
    )
    values = {"map": stored.astype(float).ravel().tolist(), "shape": packed["shape"], "grid": grid}
    done = subprocess.run(["node", "-e", page], input=json.dumps(values), capture_output=True, text=True, timeout=60)
    expected = boxes.to_bytes(boxes.to_grid(stored, grid))
    assert np.array_equal(np.array(json.loads(done.stdout)).reshape(grid, grid), expected)
    assert np.array_equal(np.rint(explorer._decoded(packed, grid) * 255), expected)
    assert packed["sum"] == expected.sum() and packed["top"] == expected.max()


@pytest.mark.parametrize("value", [0.25, np.nan, np.inf])
def test_a_map_without_content_is_empty(value):
    stored = np.random.default_rng(3).random((5, 5)).astype(np.float16)
    stored[0, 0] = value
    packed = explorer._map(np.full_like(stored, 0.25) if value == 0.25 else stored, 32)
    assert packed["half"] == "" and packed["top"] == packed["sum"] == 0


def test_the_page_holds_valid_json_that_ends_no_script_early(explored):
    page = f"<p>before</p>{explored._repr_html_()}<p>after</p>"
    assert explorer.payload(page, "explorer") == json.loads(json.dumps(explored.payload))
    assert "&lt;toys&gt;" in page and page.count("</script>") == 1
    with pytest.raises(UserError, match="no piece of the kind 'anchors'"):
        explorer.payload(page, "anchors")


def test_pictures_are_exact_when_small_and_photos_when_large(images):
    packed = explorer._image(images, 2, 64)
    head, _, data = packed["source"].partition(",")
    assert head == "data:image/png;base64" and base64.b64decode(data).startswith(b"\x89PNG")
    assert packed["targets"] == boxes.scale_boxes(images.boxes[2], images.sizes[2], 64).tolist()
    large = Pictures("toy", "test", ["x"], np.zeros(1, int), images.boxes[:1], np.array([[900, 600]]), ["owl"])
    assert explorer._image(large, 0, 64)["source"].startswith("data:image/jpeg")


def test_images_stand_at_even_ranks_from_best_to_worst(explored, methods):
    iou = methods["A"].meter.per_image().set_index("id")["iou"]
    shown = [iou[image["id"]] for image in explored.payload["images"]]
    assert shown == sorted(iou, reverse=True)


def test_a_finished_run_is_explored_by_its_meters_and_maps(small_run):
    run = Run(small_run)
    method = explorer.of_run(run, "g")
    assert method.has_maps and len(method.maps) == len(run.maps()["index"])
    assert method.meter.compute()["MaxBoxAcc@0.5"] == run["MaxBoxAcc@0.5"]
    assert method.val.compute()["MaxBoxAcc@0.5"] == run.metrics["val routes"]["g"]["MaxBoxAcc@0.5"]


def test_fewer_images_are_shown_where_a_page_would_grow_too_heavy(images, methods, monkeypatch):
    whole = explorer.localization(methods, images, np.arange(IMAGES), "A", count=4)
    monkeypatch.setattr(explorer, "LIMIT", len(whole.json()) - 1)
    assert len(explorer.localization(methods, images, np.arange(IMAGES), "A", count=4).payload["images"]) == 3
    monkeypatch.setattr(explorer, "LIMIT", 100)
    with pytest.raises(UserError, match="explore fewer methods"):
        explorer.localization(methods, images, np.arange(IMAGES), "A", count=4)


def test_a_page_of_the_default_profiles_size_stays_below_its_limit():
    """Eighteen methods, ten images, maps of 20x20: the packed maps and boxes take most of it."""
    stored = np.random.default_rng(0).random((20, 20)).astype(np.float16)
    assert 18 * 10 * len(json.dumps(explorer._map(stored, 224))) < explorer.LIMIT / 2


def test_methods_scored_differently_are_refused(images, methods):
    odd = methods | {"odd": scored(images, 3, (5, 5), grid=32)}
    with pytest.raises(UserError, match="different grids"):
        explorer.localization(odd, images, np.arange(IMAGES), "A")
    with pytest.raises(UserError, match="evaluation.grid is 300"):
        explorer.localization({"wide": scored(images, 3, (5, 5), grid=300)}, images, np.arange(IMAGES), "wide")


def test_agreement_tells_stored_maps_that_give_other_boxes(images, methods):
    same = explorer.agreement(methods, images, np.arange(IMAGES))
    assert same == {"A": (1.0, 1.0), "B": (1.0, 1.0)}  # these meters scored the very maps that are stored
    turned = {"A": explorer.Method(methods["A"].meter, None, methods["A"].maps[:, ::-1, ::-1])}
    assert explorer.agreement(turned, images, np.arange(IMAGES))["A"][0] < 0.5


def test_the_static_figure_shows_the_same_boxes(explored):
    figure = explorer.static_localization(explored, ("A", "boxes"), count=3)
    shown = [ax.get_xlabel() for ax in figure.axes if ax.get_xlabel().startswith("IoU")]
    steps = (explored.payload["methods"][0]["oracle"], 0)
    assert shown == [
        f"IoU {explorer.state(explored.payload, method, image, step)['iou']:.2f}"
        for image in (0, 4, 8)
        for method, step in zip((0, 2), steps)
    ]
    plt.close(figure)


TEXT = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)) + 0.5


def test_cosines_on_the_page_are_those_of_the_anchors():
    made = anchors_explorer.orthogonalization({"first": TEXT, "second": TEXT**2}, list("abcdef"))
    for number, text in enumerate((TEXT, TEXT**2)):
        for kind in anchors.METHODS:
            expected = anchors.cosines(anchors.orthogonalise(text, kind))
            assert np.abs(anchors_explorer.matrix(made.payload, number, kind) - expected.numpy()).max() < 1e-4
    found = anchors_explorer.pair(made.payload, 0, "qr_rows", 4, 1)
    assert found["first"] == "e" and found["second"] == "b" and found["after"] == 0
    assert found["before"] == pytest.approx(float(anchors.cosines(TEXT)[4, 1]), abs=1e-4)
    assert {kind["name"] for kind in made.payload["texts"][0]["kinds"]} == set(anchors.METHODS)
    assert explorer.payload(made._repr_html_(), "anchors")["names"] == list("abcdef")


def test_an_orthogonalization_that_cannot_be_says_why():
    made = anchors_explorer.orthogonalization({"narrow": TEXT[:, :4]}, list("abcdef"))
    kinds = {kind["name"]: kind for kind in made.payload["texts"][0]["kinds"]}
    assert "at most 4 anchors" in kinds["qr_cols"]["refused"] and "cosines" not in kinds["qr_cols"]
    assert "refused" not in kinds["qr_rows"]


def test_of_many_classes_some_are_shown_and_all_are_orthogonalised():
    text = torch.randn(100, 120, generator=torch.Generator().manual_seed(1))
    made = anchors_explorer.orthogonalization({"many": text}, [str(k) for k in range(100)]).payload
    shown = [int(name) for name in made["names"]]
    assert len(shown) == anchors_explorer.MOST_CLASSES and shown[0] == 0 and shown[-1] == 99
    after = anchors.cosines(anchors.orthogonalise(text, "polar"))[shown][:, shown].numpy()
    assert np.abs(anchors_explorer.matrix(made, 0, "polar") - after).max() < 1e-4
    figure = anchors_explorer.static_orthogonalization(explorer.Explorer("anchors", made, ""))
    titles = [ax.get_title(plt.rcParams["axes.titlelocation"]) for ax in figure.axes[:2]]
    assert titles == ["text as it is", "QR, rows of Q (default)"]
    plt.close(figure)


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
@pytest.mark.parametrize("script", ["explorer.js", "anchors.js"])
def test_a_script_does_nothing_on_pages_without_its_piece(script):
    """It asks the page for its elements and stops there: nothing else of a page exists for it here."""
    page = (
        "const querySelectorAll = (name) => { console.log(name); return []; };"
        'globalThis.document = { readyState: "complete", querySelectorAll };'
        f"require({json.dumps(str(STATIC / script))});"
    )
    done = subprocess.run(["node", "-e", page], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.strip() == f".tedloc-{script.removesuffix('.js')}"
