"""What a page of the book carries within itself, since a page opened from the disk may load no file: JSON, pictures."""

import base64
import json
from typing import Any

KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg"}  # how a picture's file begins


def script_json(payload: Any) -> str:
    """JSON for a script element: without "</", which would end it. Raises ``ValueError`` for NaN."""
    return json.dumps(payload, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")


def picture(file: bytes) -> str:
    """The address of a picture, PNG or JPEG, from the bytes of its file."""
    kind = next(kind for start, kind in KINDS.items() if file.startswith(start))
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"
