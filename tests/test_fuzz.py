"""Files that nobody would write on purpose: each gives the number that a plain reference gives too, or one sentence.

Some hundred inputs are tried in a run of the suite. ``TEDLOC_FUZZ=20000 pytest -n 0 -s tests/test_fuzz.py`` tries as
many for each kind of file, other ones every time, and says how many gave a number and how many a sentence.
"""

import csv
import io
import os
import re
import unicodedata
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import reference_protocol as reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from tedloc.data.benchmark import read_split
from tedloc.data.images import read_image
from tedloc.data.masks import read_mask
from tedloc.errors import UserError
from tedloc.metrics import score_files

MANY = int(os.environ.get("TEDLOC_FUZZ", 0))
fuzzed = settings(
    max_examples=MANY or 60,
    derandomize=not MANY,  # the suite tries the same ones every time
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
OUTCOMES: Counter = Counter()


@pytest.fixture(scope="module", autouse=True)
def tally():
    yield
    if MANY:
        print("\n" + "\n".join(f"{kind}: {count:,} {what}" for (kind, what), count in sorted(OUTCOMES.items())))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def outcome(kind: str, read):
    """What a reader gives, or None for one sentence of its own; anything else is a fault of the reader."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the decoders
            found = read()
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        OUTCOMES[kind, "sentences"] += 1
        return None
    OUTCOMES[kind, "numbers"] += 1
    return found


# The benchmark's lists

IDS = ("a/1.jpg", "b/x,y.jpg", "Möwe/2.jpg")
SIZE = (40, 30)
ODD = st.sampled_from(
    [
        "",
        " ",
        "\t",
        ",",
        ";",
        "0.5",
        "1.0",
        "-1",
        "007",
        "nan",
        "inf",
        "1e3",
        "1_0",
        "9" * 30,
        "٣",
        "x",
        "\\",
        "/",
        "./",
    ]
    + ["..", "C:", "\r", "\x0b", "\x85", "\u2028", "\ufeff", "\0", '"', "'", "#", IDS[1], "a/1.JPG", "e\u0301"]
)


def mangled(text: str):
    """The text, perhaps with odd things put in or in place of others."""
    cut = st.tuples(st.integers(0, len(text)), st.integers(0, 3), ODD | st.text(max_size=3))
    return st.lists(cut, max_size=2).map(lambda cuts: _with(text, cuts))


def _with(text: str, cuts) -> str:
    for at, gone, new in cuts:
        text = text[:at] + new + text[at + gone :]
    return text


def encoded(text: str):
    form = st.sampled_from(["NFC", "NFC", "NFD"]).map(lambda form: unicodedata.normalize(form, text))
    end = st.sampled_from(["\n", "\n", "\r\n", "\r", " \n\n"])
    mark = st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\0"])
    return st.tuples(form, end, mark).map(
        lambda each: each[2] + each[0].replace("\n", each[1]).encode("utf-8", "replace")
    )


@st.composite
def lists(draw) -> dict[str, bytes]:
    """The four files of a split."""
    ids = list(IDS[: draw(st.integers(1, 3))])
    x, y = (
        st.lists(st.integers(0, side + draw(st.sampled_from([-1, -1, 2]))), min_size=2, max_size=2) for side in SIZE
    )
    boxes = [(name, sorted(draw(x)), sorted(draw(y))) for name in ids]
    texts = {
        "image_ids": "\n".join(ids),
        "class_labels": "\n".join(f"{name},{draw(st.integers(0, 2))}" for name in ids),
        "image_sizes": "\n".join(f"{name},{SIZE[0]},{SIZE[1]}" for name in ids),
        "localization": "\n".join(f"{name},{x[0]},{y[0]},{x[1]},{y[1]}" for name, x, y in boxes),
    }
    spoilt = draw(st.sampled_from([None, *texts]))
    return {
        name: draw(encoded(draw(mangled(text)))) if name == spoilt else draw(encoded(text))
        for name, text in texts.items()
    }


def plain_lines(content: bytes) -> list[str]:
    if b"\0" in content or content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    return [line.strip() for line in re.split("\r\n|\r|\n", unicodedata.normalize("NFC", text)) if line.strip()]


def plain_records(content: bytes, columns: int) -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = {}
    for line in plain_lines(content):
        fields = line.split(",")
        name, numbers = ",".join(fields[:-columns]).strip(), [field.strip() for field in fields[-columns:]]
        if not name or not all(re.fullmatch("[+-]?[0-9]{1,9}([.]0*)?", number) for number in numbers):
            raise ValueError
        found.setdefault(name, []).append([int(number.split(".")[0]) for number in numbers])
    return found


def plain_split(files: dict[str, bytes]) -> dict[str, tuple]:
    """id -> class, size and boxes, line by line as the format says; ValueError for anything that it does not say."""
    ids = plain_lines(files["image_ids"])
    for name in ids:
        parts = name.split("/")
        if "\\" in name or re.match("[A-Za-z]:", name) or {"", ".", ".."} & set(parts):
            raise ValueError
        if any(unicodedata.category(letter) == "Cc" for letter in name):
            raise ValueError
    columns = {"class_labels": 1, "image_sizes": 2, "localization": 4}
    labels, sizes, boxes = (plain_records(files[name], count) for name, count in columns.items())
    if not ids or len(set(ids)) < len(ids) or any(set(ids) != set(each) for each in (labels, sizes, boxes)):
        raise ValueError
    if any(len(records) > 1 for each in (labels, sizes) for records in each.values()):
        raise ValueError
    for name in ids:
        (width, height), (label,) = sizes[name][0], labels[name][0]
        if label < 0 or not (1 <= width <= 10**6 and 1 <= height <= 10**6):
            raise ValueError
        for x0, y0, x1, y1 in boxes[name]:
            if not (0 <= x0 <= x1 < width and 0 <= y0 <= y1 < height and max(x1, y1) > 1):
                raise ValueError
    return {name: (labels[name][0][0], tuple(sizes[name][0]), boxes[name]) for name in ids}


@fuzzed
@given(lists())
def test_lists_of_the_benchmark(place, files):
    folder = place / "MINE" / "test"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.txt").write_bytes(content)
    found = outcome("lists", lambda: read_split(place, "MINE", "test"))
    try:
        expected = plain_split(files)
    except (ValueError, UnicodeDecodeError):
        expected = None
    if found is not None:
        each = zip(found.ids, found.labels.tolist(), map(tuple, found.sizes.tolist()), found.boxes, strict=True)
        found = {name: (label, size, boxes.tolist()) for name, label, size, boxes in each}
    assert found == expected


# Class scores

LABELS = np.array([0, 1, 1])


@st.composite
def score_tables(draw) -> bytes:
    numbers = [draw(st.lists(st.floats(-9, 9, width=16), min_size=2, max_size=2)) for _ in IDS]
    rows = [[f'"{name}"' if "," in name else name, *map(str, row)] for name, row in zip(IDS, numbers, strict=True)]
    rows = draw(st.permutations(rows))
    if draw(st.booleans()):
        rows = [["image", "0", "1"], *rows]
    return draw(encoded(draw(mangled("\n".join(",".join(row) for row in rows)))))


def plain_scores(content: bytes) -> list[list[float]] | None:
    """Rows in the order of IDS; None where they cannot be had."""
    rows = list(csv.reader(io.StringIO("\n".join(plain_lines(content)))))
    named = {row[0].strip(): [float(field) for field in row[1:]] for row in rows if row[0].strip() in IDS}
    return [named[name] for name in IDS]


@fuzzed
@given(score_tables())
def test_tables_of_scores(place, content):
    (place / "scores.csv").write_bytes(content)
    found = outcome("score tables", lambda: score_files.read_scores(place / "scores.csv", IDS, LABELS, 2))
    if found is not None:
        assert found.shape == (3, 2) and np.isfinite(found).all()
        assert found.tolist() == plain_scores(content)


ARRAYS = st.sampled_from(["f2", "f4", "f8", "i4", "u1", "b1", "c8", "U2", ">f4", "O", "M8[s]"]).flatmap(
    lambda kind: arrays(
        np.dtype(kind),
        st.lists(st.integers(0, 5), min_size=0, max_size=3).map(tuple) | st.just((3, 2)),
        elements=st.none() if kind == "O" else None,
    )
)


@st.composite
def saved_arrays(draw) -> bytes:
    """A .npy file, perhaps with some bytes changed, most often in its header, or cut off."""
    file = io.BytesIO()
    np.save(file, draw(ARRAYS), allow_pickle=True)
    content = bytearray(file.getvalue())
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        content[draw(st.integers(0, min(len(content), 100) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.just(len(content)) | st.integers(0, len(content)))])


@fuzzed
@given(saved_arrays())
def test_arrays_of_scores(place, content):
    (place / "scores.npy").write_bytes(content)
    found = outcome("score arrays", lambda: score_files.read_scores(place / "scores.npy", IDS, LABELS, 2))
    if found is not None:
        assert np.array_equal(found, np.load(place / "scores.npy").astype(np.float64))
        assert found.shape == (3, 2) and np.isfinite(found).all()


@fuzzed
@given(saved_arrays() | arrays(np.float64, (4, 5), elements=st.floats(-1e200, 1e200)).map(lambda a: npy(a)))
def test_score_maps(place, content):
    (place / "map.npy").write_bytes(content)
    found = outcome("score maps", lambda: score_files.read_map(place / "map.npy", 16, size=(5, 4)))
    if found is not None:
        array = np.load(place / "map.npy").astype(np.float64)
        if array.ndim == 3:  # one channel, before or behind
            array = array[0] if array.shape[0] == 1 else array[..., 0]
        assert found.shape == (16, 16) and found.min() == 0 and found.max() == 1
        spread = array.max() - array.min()
        if 1e-280 < spread < 1e280 and spread > 1e-6 * np.abs(array).max():  # elsewhere the reference leaves float64
            np.testing.assert_allclose(found, reference.grid_map(array, 16), atol=1e-9)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


# Images

GREY = np.add.outer(np.arange(6) * 40, np.arange(9) * 6).astype(np.uint8)
PHOTO = np.stack([GREY, GREY.T.copy().reshape(6, 9), 255 - GREY], axis=2)


def _saved(array: np.ndarray, kind: str, mode: str | None = None, **options) -> bytes:
    file, image = io.BytesIO(), Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def _turned(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010E] = "a description"
    return tags


IMAGES = [
    *(_saved(PHOTO, kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "TGA", "ICO")),
    *(
        _saved(PHOTO, kind, exif=_turned(number))
        for kind, number in (("JPEG", 6), ("PNG", 3), ("TIFF", 8), ("WEBP", 5))
    ),
    *(_saved(PHOTO, "PNG", mode) for mode in ("RGBA", "P", "L", "LA", "1")),
    _saved(PHOTO, "JPEG", "CMYK"),
    _saved(GREY.astype(np.uint16) * 257, "PNG"),
    _saved(GREY.astype(np.float32) / 255, "TIFF"),
    _saved(PHOTO, "TIFF", compression="tiff_lzw"),
]


OBJECT = np.where(GREY > 120, 1, 0).astype(np.uint8)
MASKS = [
    *(_saved(OBJECT, kind) for kind in ("PNG", "BMP", "JPEG")),
    *(_saved(OBJECT * 255, "PNG", mode) for mode in ("1", "RGB", "RGBA", "P", "LA")),
    _saved(OBJECT.astype(np.uint16) * 256, "PNG"),
]


@st.composite
def images(draw, among=IMAGES) -> bytes:
    """An image file, perhaps with bytes changed, most often in its first 200, put in or cut off."""
    content = bytearray(draw(st.sampled_from(among)))
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        at = draw(st.integers(0, min(len(content), 200) - 1) | st.integers(0, len(content) - 1))
        content[at : at + 1] = draw(st.binary(min_size=1, max_size=1) | st.binary(max_size=2))
    return bytes(content[: draw(st.sampled_from([len(content)] * 5 + [len(content) // 2, len(content) - 9]))])


def plain_photo(path: Path) -> np.ndarray | None:
    """As Pillow reads and turns it; None for what it does not settle: depth, transparency, broken metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            image.load()
            if image.mode.startswith(("I", "F")) or image.has_transparency_data:
                return None
            try:
                return np.array(ImageOps.exif_transpose(image).convert("RGB"))
            except Exception:  # it writes the metadata anew, and stumbles over broken ones
                return None


@fuzzed
@given(images())
def test_photos(place, content):
    path = place / "photo"
    path.write_bytes(content)
    found = outcome("photos", lambda: read_image(path))
    if found is not None:
        assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
        expected = plain_photo(path)
        assert expected is None or np.array_equal(found, expected)


def plain_mask(path: Path) -> np.ndarray | None:
    """As another decoder has it; None where that one refuses."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image if image.mode.startswith("I") else image.convert("RGBA"))
    except Exception:
        return None
    return (pixels[..., :3] * (pixels[..., 3:] > 0)).any(axis=2) if pixels.ndim == 3 else pixels > 0


@fuzzed
@given(images(MASKS))
def test_masks(place, content):
    (place / "mask").write_bytes(content)
    found = outcome("masks", lambda: read_mask(place, "mask"))
    if found is not None:
        assert found.dtype == bool and found.ndim == 2 and found.any()
        expected = plain_mask(place / "mask")
        assert expected is None or np.array_equal(found, expected)
