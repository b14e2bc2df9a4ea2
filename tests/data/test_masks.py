"""Object masks in every form that tools write, and those that are none."""

import cv2
import numpy as np
import pytest
from PIL import Image

from tedloc.data.masks import read_mask
from tedloc.errors import UserError

OBJECT = np.zeros((30, 40), bool)
OBJECT[5:20, 10:25] = True
HOLE = OBJECT & ~np.roll(OBJECT, 5)


def palette(indices: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([value for colour in colours for value in colour])
    return image


FORMS = {
    "0 and 1": Image.fromarray(OBJECT.astype(np.uint8)),
    "0 and 255": Image.fromarray(OBJECT.astype(np.uint8) * 255),
    "several objects": Image.fromarray(np.where(HOLE, 7, OBJECT).astype(np.uint8)),
    "16 bits, 0 and 1": Image.fromarray(OBJECT.astype(np.uint16)),
    "16 bits, multiples of 256": Image.fromarray(OBJECT.astype(np.uint16) * 256),
    "one bit": Image.fromarray(OBJECT),
    "colour": Image.fromarray((OBJECT[..., None] * [0, 0, 1]).astype(np.uint8)),
    "palette": palette(OBJECT, (0, 0, 0), (128, 0, 0)),
    "palette of many": palette(np.where(HOLE, 2, OBJECT), (0, 0, 0), (0, 1, 0), (200, 200, 200)),
    "white on transparent": Image.fromarray(np.dstack([np.full((30, 40, 3), 255), OBJECT * 255]).astype(np.uint8)),
    "colour, opaque": Image.fromarray(np.dstack([OBJECT * 9, OBJECT, OBJECT, OBJECT | 1]).astype(np.uint8)),
    "grey with alpha": Image.merge(
        "LA", [Image.new("L", (40, 30), 5), Image.fromarray((OBJECT * 255).astype(np.uint8))]
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_visible_and_not_black_is_object(tmp_path, form):
    FORMS[form].save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path, "a.png", (40, 30)), OBJECT)


@pytest.mark.parametrize("size", [(80, 60), (41, 31), (0, 0), None])
def test_a_mask_may_be_smaller_than_its_image(tmp_path, size):
    FORMS["one bit"].save(tmp_path / "a.png")
    assert read_mask(tmp_path, "a.png", size).sum() == OBJECT.sum()


def test_a_mask_may_be_a_square_as_maps_are(tmp_path):
    Image.fromarray(np.eye(224) > 0).save(tmp_path / "a.png")
    assert read_mask(tmp_path, "a.png", (500, 375)).sum() == 224


def test_a_region_to_be_ignored_may_be_empty(tmp_path):
    Image.new("L", (40, 30)).save(tmp_path / "a.png")
    assert not read_mask(tmp_path, "a.png", empty=True).any()


BAD = {
    "black": (lambda path: Image.new("L", (40, 30)).save(path), "shows no object"),
    "transparent": (lambda path: Image.new("RGBA", (40, 30)).save(path), "shows no object"),
    "a trimap of 1, 2 and 3": (
        lambda path: Image.fromarray((1 + OBJECT + HOLE).astype(np.uint8)).save(path),
        "has no background: its values are 1, 2, 3, none is 0",
    ),
    "turned": (
        lambda path: FORMS["one bit"].rotate(90, expand=True).save(path),
        "is 30 x 40 pixels, its image 40 x 30",
    ),
    "of another image": (lambda path: FORMS["one bit"].resize((40, 10)).save(path), "its image 40 x 30"),
    "JPEG": (lambda path: path.write_bytes(cv2.imencode(".jpg", OBJECT * 255.0)[1].tobytes()), "is a JPEG"),
    "words": (lambda path: path.write_text("object"), "is no image"),
    "empty": (lambda path: path.touch(), "is no image"),
    "cut off": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "is no image"),
    "folder": (lambda path: path.mkdir(), "is a folder where a file is expected; check --mask-root"),
    "absent": (lambda path: None, "is missing; check --mask-root"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_mask_of_an_object_is_refused(tmp_path, case):
    write, words = BAD[case]
    write(tmp_path / "a.png")
    with pytest.raises(UserError, match="a.png") as caught:
        read_mask(tmp_path, "a.png", (40, 30))
    assert words in str(caught.value)
