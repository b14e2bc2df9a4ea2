"""The page on which a reader's browser runs TeD-Loc: what it needs, as one object that a notebook displays.

``Page`` shows itself as HTML (``book/_static/try-it.js`` makes it work) and carries the model along in the metadata of
the same output, from where ``book/_ext/page_assets.py`` writes it out as a script beside the book's pages. So the page
is small, the model is fetched when the reader asks for it, and an executed notebook is complete in itself.

Samples are answered by the model of the notebook's run. A reader's own picture is a photo, so where the run has seen
drawn birds alone it is answered by the model of photos that ships with the package (``photo_model``). Each is loaded
when the first picture for it is chosen.

The element ``.try-it`` tells of its state in attributes, for tests:

    data-state        idle, loading, ready, failed
    data-sample       number of the sample shown, or ``own``; data-file the name of the reader's file
    data-model        which of the models answered
    data-box          the box in pixels of the picture, "x0,y0,x1,y1"; data-grid the same on the protocol's grid
    data-class        index of the best class
    data-score        its score
    data-familiarity  share of validation photos that are less usual, where the model knows; data-unlike true or false
    data-ms           milliseconds from the chosen file to the box, once the model is loaded
"""

import base64
import gzip
import io
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tedloc import export, paths, plots
from tedloc.backbones import encoders
from tedloc.book import embedded, examples
from tedloc.cost.complexity import count_parameters
from tedloc.data.aviary_drawing import render
from tedloc.runs.localizer import STORY, UNLIKE, Found, Localizer, load

ASSETS = "tedloc-assets"  # key of an output's metadata: path below _static -> gzip, base64
STOPS = 32  # of the overlay's colour map
LARGEST = 50e6  # bytes of a model that a page may bring along
PHOTO_WEIGHTS = (
    "float15"  # of the photo model's file; with int8, two boxes of forty had an IoU below 0.95 with PyTorch's
)


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
    """The models, the samples with PyTorch's answers, and what is to be said of both.

    localizer: answers for the samples; photos: for a reader's own pictures, None where that is the same
    """

    localizer: Localizer
    samples: Sequence[Sample]
    photos: Localizer | None = None

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict[str, Any], dict[str, Any]]:
        weight = 4 * count_parameters(self.localizer.encoder, self.localizer.network)
        if weight > LARGEST:
            words = f"The model of this profile weighs {weight / 1e6:,.0f} MB, too much to be run in a page."
            return {"text/plain": words, "text/html": f"<p>{words}</p>"}, {}
        models = [carried(self.localizer, self.localizer.about["profile"])]
        if self.photos:
            models.append(carried(self.photos, paths.PHOTO_MODEL.name, PHOTO_WEIGHTS))
        told, packed = zip(*models, strict=True)
        data = {"text/plain": "This works in the built book.", "text/html": self.html(told)}
        return data, {ASSETS: {each["path"]: content for each, content in zip(told, packed, strict=True)}}

    def html(self, models: Sequence[dict[str, Any]]) -> str:
        """models: what the script is told of each, that of the samples first"""
        payload = embedded.script_json(self.payload(models))
        return (
            '<div class="try-it" data-state="idle"><script type="application/json">' + payload + "</script>"
            "<noscript><p>This page runs the model in the browser, which takes JavaScript. The figure below shows "
            "what the same model says of the sample pictures.</p></noscript></div>"
        )

    def payload(self, models: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What the script in the page reads: the last model answers for a reader's own pictures."""
        return {
            "models": list(models),
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


def carried(localizer: Localizer, name: str, weights: str = "float32") -> tuple[dict[str, Any], str]:
    """A model as a page brings it along: what its script is told, and the packed file (gzip, base64).

    name: of its script below ``_static/try-it``; weights: how the file keeps them (``tedloc.export``)
    """
    model, story = exported(localizer, weights)
    packed = base64.b64encode(gzip.compress(model, mtime=0)).decode()
    return {
        "path": f"try-it/{name}.js",
        "megabytes": round(len(packed) / 1e6, 1),
        "sha256": story["sha256"],
        "profile": story["model"]["profile"],
        "synthetic": story["model"]["synthetic"],
        "size": story["input"]["shape"][-1],
        "grid": story["grid"],
        "threshold": story["threshold"],
        "scale": story["logit scale"],
        "classes": story["classes"],
        "familiar": localizer.familiar,
        "unlike": UNLIKE,
    }, packed


def photo_model() -> Localizer | None:
    """The model of photos that ships with the package; None where its encoder's package is not installed."""
    story = json.loads((paths.PHOTO_MODEL / STORY).read_text(encoding="utf-8"))
    return load(paths.PHOTO_MODEL) if encoders.in_reach(story["settings"]["encoder"]["name"]) else None


def exported(localizer: Localizer, weights: str = "float32") -> tuple[bytes, dict[str, Any]]:
    """The localizer as the bytes of an ONNX file, and its story."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        story = export.to_onnx(localizer, file, weights)
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


def unlike(localizer: Localizer, pictures: Iterable[np.ndarray]) -> float:
    """The share of pictures that a localizer takes for unlike anything it knows, by the rule of the page."""
    return float(np.mean([localizer.familiarity(localizer(picture)) < UNLIKE for picture in pictures]))


def describe(localizer: Localizer, sample: Sample) -> str:
    """PyTorch's answer for a sample, in words."""
    best = int(sample.found.scores.argmax())
    return f"{localizer.class_names[best]}, softmax {100 * localizer.shares(sample.found.scores)[best]:.0f} %"
