"""What a page carries within itself cannot break the page, and is what was put in."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from tedloc.book import embedded


def test_no_text_ends_the_script_element_that_holds_it():
    payload = {"name": "</script><b>", "values": [1.5, None]}
    text = embedded.script_json(payload)
    assert "</" not in text and json.loads(text) == payload


def test_what_json_does_not_know_is_refused():
    with pytest.raises(ValueError):
        embedded.script_json(float("nan"))


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_pictures_address_holds_its_file_and_says_its_kind(kind):
    file = io.BytesIO()
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(file, kind)
    start, content = embedded.picture(file.getvalue()).split(",")
    assert start == f"data:image/{kind};base64" and base64.b64decode(content) == file.getvalue()
