"""The page on which a reader's browser runs TeD-Loc: what it needs, as one object that a notebook displays.

``Page`` shows itself as HTML (``book/_static/try-it.js`` makes it work) and carries the model along in the metadata of
the same output, from where ``book/_ext/page_assets.py`` writes it out as a script beside the book's pages. So the page
is small, the model is fetched when the reader asks for it, and an executed notebook is complete in itself.

The element ``.try-it`` tells of its state in attributes, for tests:

    data-state    idle, loading, ready, failed
    data-sample   number of the sample shown, or ``own``
    data-box      the box in pixels of the picture, "x0,y0,x1,y1"; data-grid the same on the protocol's grid
    data-class    index of the best class
    data-score    its score
    data-ms       milliseconds from the picture's pixels to the box
"""

import base64
import gzip
import io
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tedloc import export, plots
from tedloc.book import embedded, examples
from tedloc.cost.complexity import count_parameters
from tedloc.data.aviary_drawing import render
from tedloc.runs.localizer import Found, Localizer

ASSETS = "tedloc-assets"  # key of an output's metadata: path below _static -> gzip, base64
STOPS = 32  # of the overlay's colour map
LARGEST = 50e6  # bytes of a model that a page may bring along


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture to try.

    caption: what it shows; target: its true box in pixels, or None where nothing is to be found
    """

    image: np.ndarray
    caption: str
    target: Sequence[int] | None
    found: Found


@dataclass(frozen=True, eq=False)
class Page:
    """The model, the samples with PyTorch's answers, and what is to be said of both."""

    localizer: Localizer
    samples: Sequence[Sample]

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict[str, Any], dict[str, Any]]:
        weight = 4 * count_parameters(self.localizer.encoder, self.localizer.network)
        if weight > LARGEST:
            words = f"The model of this profile weighs {weight / 1e6:,.0f} MB, too much to be run in a page."
            return {"text/plain": words, "text/html": f"<p>{words}</p>"}, {}
        model, story = exported(self.localizer)
        packed = base64.b64encode(gzip.compress(model, mtime=0)).decode()
        path = f"try-it/{self.localizer.about['profile']}.js"
        data = {"text/plain": "This works in the built book.", "text/html": self.html(story, path, len(packed))}
        return data, {ASSETS: {path: packed}}

    def html(self, story: dict[str, Any], path: str, weight: int) -> str:
        """path, weight: of the model's script below ``_static``, in bytes."""
        payload = embedded.script_json(self.payload(story, path, weight))
        return (
            '<div class="try-it" data-state="idle"><script type="application/json">' + payload + "</script>"
            "<noscript><p>This page runs the model in the browser, which takes JavaScript. The figure below shows "
            "what the same model says of the sample pictures.</p></noscript></div>"
        )

    def payload(self, story: dict[str, Any], path: str, weight: int) -> dict[str, Any]:
        """What the script in the page reads. story: of the exported model (``tedloc.export``)."""
        return {
            "model": path,
            "megabytes": round(weight / 1e6, 1),
            "sha256": story["sha256"],
            "profile": story["model"]["profile"],
            "synthetic": story["model"]["synthetic"],
            "size": story["input"]["shape"][-1],
            "grid": story["grid"],
            "threshold": story["threshold"],
            "scale": story["logit scale"],
            "classes": story["classes"],
            "colours": [
                [round(float(part), 3) for part in colour] for colour in plots.OVERLAY(np.linspace(0, 1, STOPS))
            ],
            "samples": [
                {
                    "src": data_uri(sample.image),
                    "caption": sample.caption,
                    "target": None if sample.target is None else [int(edge) for edge in sample.target],
                    "pytorch": {
                        "grid": list(sample.found.grid),
                        "class": int(sample.found.scores.argmax()),
                        "score": round(float(sample.found.scores.max()), 5),
                    },
                }
                for sample in self.samples
            ],
        }


def exported(localizer: Localizer) -> tuple[bytes, dict[str, Any]]:
    """The localizer as the bytes of an ONNX file, and its story."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        story = export.to_onnx(localizer, file)
        return file.read_bytes(), story


def data_uri(image: np.ndarray) -> str:
    """(H, W, 3) uint8 as a PNG within an address: not a pixel is lost."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return embedded.picture(buffer.getvalue())


def samples(localizer: Localizer, images, count: int = 6) -> list[Sample]:
    """Test pictures spread evenly over a split, with PyTorch's answers; for the aviary also a scene without a bird."""
    found = [
        Sample(image, images.class_names[images.labels[i]], images.boxes[i][0], localizer(image))
        for i, image in ((i, images.image(i)) for i in examples.evenly(len(images), count))
    ]
    if images.name == "aviary":
        scene = render("try-it/empty", None).image
        found.append(Sample(scene, "a scene without a bird", None, localizer(scene)))
    return found


def best_shares(localizer: Localizer, pictures: Iterable[np.ndarray]) -> np.ndarray:
    """(N,) softmax share of the best class on each picture."""
    return np.array([localizer.shares(localizer(picture).scores).max() for picture in pictures])


def describe(localizer: Localizer, sample: Sample) -> str:
    """PyTorch's answer for a sample, in words."""
    best = int(sample.found.scores.argmax())
    return f"{localizer.class_names[best]}, softmax {100 * localizer.shares(sample.found.scores)[best]:.0f} %"
