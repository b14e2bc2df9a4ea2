"""Find and name the object in images of your own, with a finished run of TeD-Loc.

    python -m tedloc.predict --checkpoint runs/aviary/tedloc-seed0-... photo.jpg other.png --out found

For every image two files, named after it: ``photo.json`` (box, classes, where the numbers come from) and
``photo.png`` (map, box and class drawn over it). An image that cannot be read gets a sentence, the others go on; at
the end the exit code is 2. Files that are there already are kept unless ``--force`` is given.

The box is the protocol's: route ``g`` (the patch classifier's map, which needs no class), resized to the run's grid,
cut at the threshold that was best on the run's *validation* images, largest contour. The model knows the classes that
it was trained on and no others, and it always answers: it has no way of saying that nothing is there. Encodings are
kept in float32 here; a run's own evaluation reads them from the cache in float16, so a box may differ by a pixel.
"""

import argparse
import dataclasses
import json
import os
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor, nn

from tedloc import fingerprints, paths, plots, profiles, runs
from tedloc.backbones.encoders import Encoder, load_encoder
from tedloc.data import open_data
from tedloc.errors import UserError, choose, command
from tedloc.methods.tedloc import TeDLocMethod
from tedloc.methods.trained import Standardise
from tedloc.metrics import boxes as mapping
from tedloc.model import TeDLoc
from tedloc.settings import Profile
from tedloc.training import devices, engine

METHOD, ROUTE = "tedloc", "g"
SHOWN = 5  # classes told of an image
DRAWN = 1600  # pixels, longer side: larger images are drawn smaller


@dataclass(frozen=True, eq=False)
class Found:
    """What a localizer says of one image.

    map:    (h, w) float32, the patch classifier's g in (0, 1) on the decoder's grid
    scores: (K,) float32, <h, t_k>
    grid:   its box on the protocol's grid, x0, y0, x1, y1
    box:    the same in pixels of the image; right and bottom lie outside, as the protocol has it
    """

    map: np.ndarray
    scores: np.ndarray
    grid: tuple[int, int, int, int]
    box: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Localizer:
    """A trained TeD-Loc with all that it needs to answer for an image.

    network:     standardisation and TeDLoc, in eval mode
    class_names: K names; "class 0" and so on where the data set's list is not on this machine
    threshold:   in [0, 1), the best on the run's validation split for MaxBoxAcc@0.5
    size:        of the grid that maps are cut on
    about:       the run's provenance, and its folder's name
    """

    encoder: Encoder
    network: nn.Sequential
    class_names: list[str]
    threshold: float
    size: int
    logit_scale: float
    about: dict[str, Any]
    device: str = "cpu"

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, threshold: float | None = None) -> Found:
        """image: (H, W, 3) uint8 RGB of any size; threshold: another than the run's."""
        score_map, scores = self.respond(self.encoder.preprocess([image]).to(self.device))
        return self.cut(score_map[0].cpu().numpy(), scores[0].cpu().numpy(), image.shape[1::-1], threshold)

    def respond(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (B, 3, S, S) normalised images. Returns maps (B, h, w) and class scores (B, K)."""
        out = self.network(self.encoder(x))
        return out.g.sigmoid(), out.scores

    def cut(
        self, score_map: np.ndarray, scores: np.ndarray, size: Sequence[int], threshold: float | None = None
    ) -> Found:
        """The protocol's box of a map (h, w) for an image of this width and height."""
        levels = mapping.to_bytes(mapping.to_grid(score_map, self.size))
        level = int(mapping.level_of(self.threshold if threshold is None else threshold, levels.max()))
        grid = tuple(map(int, mapping.largest_box(levels, level)))
        box = tuple(mapping.unscale_boxes(np.array(grid), np.array(size), self.size).tolist())
        return Found(score_map, scores, grid, box)

    def shares(self, scores: np.ndarray) -> np.ndarray:
        """(K,) softmax of the scores, as the training loss saw them (Eq. 4): they sum to one whatever is shown."""
        scores = self.logit_scale * scores.astype(np.float64)
        weights = np.exp(scores - scores.max())
        return weights / weights.sum()


def profile_of(folder: Path) -> tuple[Profile, str]:
    """A run's profile, and the digest of the settings that its checkpoint must name; both as ``settings.json`` tells.

    Raises ``UserError`` when the folder holds no finished TeD-Loc run.
    """
    if runs.status(folder) != "finished":
        raise UserError(
            f"{folder} holds no finished run ({runs.status(folder)}); give a folder that "
            "`python -m tedloc.train` printed"
        )
    settings = json.loads((folder / "settings.json").read_text())
    if settings["method"] != METHOD:
        raise UserError(
            f"{folder} is a run of {settings['method']!r}; only runs of {METHOD!r} can be applied to images of your own"
        )
    profile = profiles.get(runs.Run(folder).metrics["provenance"]["profile"])
    parts = {name: _restore(type(getattr(profile, name)), part) for name, part in settings["profile"].items()}
    trained = {name: settings["profile"][name] for name in TeDLocMethod.uses}
    key = fingerprints.digest(trained | {"own": settings["own"], "seed": settings["seed"], "variant": ""})
    return dataclasses.replace(profile, **parts), key


def _restore(kind: Any, value: Any) -> Any:
    """A value read from JSON as the type that a settings field names."""
    if isinstance(kind, types.UnionType):
        kinds = [option for option in get_args(kind) if option is not type(None)]
        return value if value is None or len(kinds) > 1 else _restore(kinds[0], value)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        for name in value:
            choose(f"setting of {kind.__name__}", name, hints)
        return kind(**{name: _restore(hints[name], each) for name, each in value.items()})
    return tuple(value) if get_origin(kind) is tuple else value


def load(folder: str | os.PathLike, device: str = "cpu") -> Localizer:
    """The localizer of a finished TeD-Loc run; needs neither training images nor caches.

    Raises ``UserError`` when the folder is no such run, or its checkpoint belongs to other settings or other code.
    """
    folder = Path(folder)
    profile, key = profile_of(folder)
    checkpoint = folder / "checkpoint.safetensors"
    network = _empty_network(checkpoint, profile)
    metrics = runs.Run(folder).metrics
    try:
        engine.load(network, checkpoint, key)
    except RuntimeError:  # names or shapes of weights
        raise UserError(
            f"{checkpoint} was trained by another state of the code (commit "
            f"{metrics['provenance']['commit']}), whose network had other parts; use that, or train again"
        ) from None
    try:
        threshold = metrics["routes"][ROUTE]["threshold@0.5 (val threshold)"]
    except KeyError:
        raise UserError(
            f"{folder} has no validation threshold for route {ROUTE!r}; train again with "
            "`python -m tedloc.train`, which scores all routes"
        ) from None
    encoder = load_encoder(
        profile.encoder.name, image_size=profile.encoder.image_size, weights=profile.encoder.weights, device=device
    )
    try:
        names = list(open_data(profile.data, "train").class_names)
    except UserError:  # the data set is not on this machine
        names = [f"class {k}" for k in range(len(network[1].anchors))]
    about = {"run": folder.resolve().name} | {
        key: metrics["provenance"].get(key) for key in ("profile", "dataset", "synthetic", "seed", "commit", "date")
    }
    return Localizer(
        encoder,
        network.to(device).requires_grad_(False),
        names,
        float(threshold),
        profile.evaluation.grid,
        profile.loss.logit_scale,
        about,
        device,
    )


def _empty_network(checkpoint: Path, profile: Profile) -> nn.Sequential:
    """Standardisation and TeDLoc in the shapes of a checkpoint."""
    from safetensors import safe_open

    if not checkpoint.exists():
        raise UserError(f"{checkpoint} is missing; restore it, or train again")
    with safe_open(checkpoint, "pt") as opened:
        mean, anchors = opened.get_tensor("0.mean").flatten(), opened.get_tensor("1.anchors")
    return nn.Sequential(Standardise(mean, mean), TeDLoc(len(mean), anchors, profile.decoder))


def read_photo(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file as people see it: turned by its EXIF tag, transparency over white.

    Raises ``UserError`` for a file that is missing, cut off or no image.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):  # 16-bit grey, which Pillow would cut off at 255
                image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                layer = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            return np.array(upright.convert("RGB"))
    except FileNotFoundError:
        raise UserError(f"image {path} does not exist; correct the path") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name the images in it") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"image {path} cannot be read ({error}); give a complete JPEG, PNG or the like") from None


def describe(
    found: Found, localizer: Localizer, image: str, size: Sequence[int], threshold: float | None = None
) -> dict[str, Any]:
    """What is written of one image, ready for JSON. size: its width and height."""
    shares = localizer.shares(found.scores)
    ranked = np.argsort(-found.scores, kind="stable")[:SHOWN]
    own = threshold is None
    return {
        "image": image,
        "width": size[0],
        "height": size[1],
        "box": [round(edge, 2) for edge in found.box],
        "box on grid": list(found.grid),
        "grid": localizer.size,
        "threshold": localizer.threshold if own else threshold,
        "threshold from": "the run's validation split" if own else "--threshold",
        "classes": [
            {
                "name": localizer.class_names[k],
                "index": int(k),
                "score": round(float(found.scores[k]), 4),
                "softmax": round(float(shares[k]), 4),
            }
            for k in ranked
        ],
        "map": {
            "route": ROUTE,
            "shape": list(found.map.shape),
            "min": float(found.map.min()),
            "max": float(found.map.max()),
            "mean": float(found.map.mean()),
        },
        "model": localizer.about,
    }


def draw(found: Found, localizer: Localizer, image: np.ndarray, file: Path) -> None:
    """Write the image with map, box and best class over it."""
    height, width = image.shape[:2]
    scale = min(1.0, DRAWN / max(height, width))
    small = Image.fromarray(image).resize((max(1, round(width * scale)), max(1, round(height * scale))))
    best = int(found.scores.argmax())
    title = (
        f"{localizer.class_names[best]}\nscore {found.scores[best]:.2f}, "
        f"softmax {localizer.shares(found.scores)[best]:.0%}"
    )
    panel = max(2.5, min(9.0, 6.0 * height / width))
    with matplotlib.rc_context({"savefig.bbox": "tight"}):
        figure = Figure(figsize=(6.0, panel + 0.6), dpi=160, facecolor="white")
        ax = figure.add_subplot()
        plots.show_localization(
            ax,
            np.asarray(small),
            mapping.to_grid(found.map, localizer.size),
            predicted_box=np.array(found.box) * scale,
            title=title,
        )
        with paths.replacing(file) as scratch:
            figure.savefig(scratch)


def apply(
    localizer: Localizer, path: Path, out: Path, threshold: float | None = None, force: bool = False
) -> dict[str, Any]:
    """Predict one image file and write both files; returns what the JSON holds."""
    written = [out / f"{path.stem}{suffix}" for suffix in (".json", ".png")]
    for file in written:
        if file.exists() and file.resolve() == path.resolve():
            raise UserError(f"{file} is the image itself; choose another folder by --out")
        if file.exists() and not force:
            raise UserError(f"{file} exists; give --force to replace it, or another folder by --out")
    image = read_photo(path)
    found = localizer(image, threshold)
    story = describe(found, localizer, str(path), image.shape[1::-1], threshold)
    draw(found, localizer, image, written[1])
    with paths.replacing(written[0]) as scratch:
        scratch.write_text(json.dumps(story, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return story


def line(story: dict[str, Any]) -> str:
    """One image's answer as one line of text."""
    best = story["classes"][0]
    edges = ", ".join(f"{edge:.1f}" for edge in story["box"])
    return f"{story['image']}: {best['name']} (score {best['score']:.2f}, softmax {best['softmax']:.0%}), box {edges}"


@command
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tedloc.predict", description=__doc__.split("\n")[0])
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument(
        "--checkpoint", required=True, type=Path, metavar="RUN", help="folder of a finished TeD-Loc run"
    )
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the results (default: here)")
    parser.add_argument("--threshold", type=float, help="in [0, 1); default: the run's, from its validation images")
    parser.add_argument("--device", default=devices.default(), help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--force", action="store_true", help="replace results that exist")
    chosen = parser.parse_args(arguments)
    if chosen.threshold is not None and not 0 <= chosen.threshold < 1:
        raise UserError(f"--threshold is {chosen.threshold}; give one from 0 up to, but not including, 1")
    twice = {path.stem for path in chosen.images if [other.stem for other in chosen.images].count(path.stem) > 1}
    if twice:
        raise UserError(
            f"several images are called {sorted(twice)[0]!r} and would share one result; rename one, or "
            "give them one at a time, each with its --out"
        )
    localizer = load(chosen.checkpoint, chosen.device)
    failures = []
    for path in chosen.images:
        try:
            print(line(apply(localizer, path, chosen.out, chosen.threshold, chosen.force)), flush=True)
        except UserError as error:
            failures.append(error)
    if failures:
        raise UserError("\nerror: ".join(map(str, failures)))


if __name__ == "__main__":
    main()
