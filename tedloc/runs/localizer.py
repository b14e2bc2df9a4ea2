"""A trained TeD-Loc that answers for images: read from a finished run, or from a folder that it was exported to.

    localizer = localizer.load("runs/aviary/tedloc-seed0-...")
    localizer(image).box

Neither needs the images that it was trained on. A folder that ``save`` wrote needs nothing else at all: encoder,
network, class names and provenance are in it (``model.safetensors``, ``model.json``). Or it leaves out an encoder whose
weights come in a package: such a folder, of photos, ships with this package (``paths.PHOTO_MODEL``).

The box is the protocol's: route ``g`` (the patch classifier's map, which needs no class), resized to the run's grid,
cut at the threshold that was best on the run's *validation* images, largest contour. Encodings are kept in float32
here; a run's own evaluation reads them from the cache in float16, so a box may differ by a pixel.
"""

import dataclasses
import hashlib
import json
import os
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from tedloc import fingerprints, paths, profiles
from tedloc.backbones import encoders
from tedloc.backbones.encoders import Encoder
from tedloc.data import of_imagenet, open_data
from tedloc.errors import UserError, choose
from tedloc.methods.tedloc import TeDLocMethod
from tedloc.methods.trained import Standardise
from tedloc.metrics import boxes as mapping
from tedloc.model import TeDLoc
from tedloc.runs.run import Run, status
from tedloc.settings import DecoderSettings, Profile, as_record
from tedloc.training import engine

METHOD, ROUTE = "tedloc", "g"
WEIGHTS, STORY = "model.safetensors", "model.json"  # of an exported folder; the story is written last
HALF = 0.5  # the threshold where validation has no boxes to choose one
SCORES = ("num_images", "MaxBoxAcc@0.5 (val threshold)", "Top-1 CL")  # of a run on its test images, told along
UNLIKE = 0.05  # less familiar than this share of validation photos: unlike anything known, as one in twenty of them is


@dataclass(frozen=True, eq=False)
class Found:
    """What a localizer says of one image.

    map:    (h, w) float32, the patch classifier's g in (0, 1) on the decoder's grid
    scores: (K,) float32, <h, t_k>
    grid:   its box on the protocol's grid, x0, y0, x1, y1; None where the map is flat
    box:    the same in pixels of the image, within it; right and bottom lie outside, as the protocol has it
    """

    map: np.ndarray
    scores: np.ndarray
    grid: tuple[int, int, int, int] | None
    box: tuple[float, float, float, float] | None


@dataclass(frozen=True, eq=False)
class Localizer:
    """A trained TeD-Loc with all that it needs to answer for an image.

    network:     standardisation and TeDLoc, in eval mode
    class_names: K names
    threshold:   in [0, 1), the best on the run's validation split for MaxBoxAcc@0.5; a half where that has no boxes
    chosen:      whether validation chose it
    familiar:    percentiles over the validation photos (``tedloc.runs.execute.familiar``); {} if the run kept none
    size:        of the grid that maps are cut on
    settings:    of encoder and decoder, as the profile has them
    about:       the run's provenance, and its folder's name
    scored:      what the run scored on its test images, ``SCORES``
    """

    encoder: Encoder
    network: nn.Sequential
    class_names: list[str]
    threshold: float
    chosen: bool
    familiar: dict[str, list[float]]
    size: int
    logit_scale: float
    settings: dict[str, Any]
    about: dict[str, Any]
    scored: dict[str, float]
    device: str = "cpu"

    def __call__(self, image: np.ndarray, threshold: float | None = None) -> Found:
        """image: (H, W, 3) uint8 RGB of any size; threshold: another than the run's."""
        return self.many([image], threshold)[0]

    @torch.inference_mode()
    def many(self, images: Sequence[np.ndarray], threshold: float | None = None) -> list[Found]:
        """The same for a batch of images, each of its own size."""
        answers = self.respond(self.encoder.preprocess(images).to(self.device))
        maps, scores = (answer.float().cpu().numpy() for answer in answers)
        return [self.cut(m, s, image.shape[1::-1], threshold) for m, s, image in zip(maps, scores, images)]

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
        if levels.max() == 0:
            return Found(score_map, scores, None, None)
        grid = tuple(map(int, mapping.largest_box(levels, level)))
        seen = np.maximum(grid, (0, 0, grid[0] + 1, grid[1] + 1))  # in the last row or column both edges are one
        box = tuple(mapping.unscale_boxes(seen, np.array(size), self.size).tolist())
        return Found(score_map, scores, grid, box)

    def shares(self, scores: np.ndarray) -> np.ndarray:
        """(K,) softmax of the scores, as the training loss saw them (Eq. 4): they sum to one whatever is shown."""
        scores = self.logit_scale * scores.astype(np.float64)
        weights = np.exp(scores - scores.max())
        return weights / weights.sum()

    @property
    def terms(self) -> str | None:
        """What the photos that it was trained on ask of whoever uses it; None where nothing is known."""
        if not of_imagenet(self.about["dataset"]):
            return None
        return "trained on photos of ImageNet, whose terms allow research and education that is not commercial"

    def familiarity(self, found: Found) -> float | None:
        """Share of the validation photos that are less usual; None if the run kept none.

        A photo is as usual as the lower of two ranks among them: of its best class's score, and of its map's highest
        value. Photos of something else, or of nothing, may score high by one of the two.
        """
        if not self.familiar:
            return None
        ranks = (_below(found.scores.max(), self.familiar["score"]), _below(found.map.max(), self.familiar["map"]))
        return _below(min(ranks), self.familiar["both"])


def _below(value: float, percentiles: Sequence[float]) -> float:
    """The share of values that are lower, from percentiles 0 to 100."""
    return float(np.interp(np.nextafter(value, -np.inf), percentiles, np.linspace(0, 1, len(percentiles))))


def profile_of(folder: Path) -> tuple[Profile, str]:
    """A run's profile, and the digest of the settings that its checkpoint must name; both as ``settings.json`` tells.

    Raises ``UserError`` when the folder holds no finished TeD-Loc run.
    """
    if status(folder) != "finished":
        raise UserError(
            f"{folder} holds no finished run ({status(folder)}); give a folder that `python -m tedloc.train` printed"
        )
    settings = json.loads((folder / "settings.json").read_text())
    if settings["method"] != METHOD:
        raise UserError(
            f"{folder} is a run of {settings['method']!r}; only runs of {METHOD!r} can be applied to images of your own"
        )
    profile = profiles.get(Run(folder).metrics["provenance"]["profile"])
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
    """The localizer of a finished TeD-Loc run, or one that was exported; needs neither training images nor caches.

    Raises ``UserError`` when the folder is neither, or its weights belong to other settings or other code.
    """
    folder = Path(folder)
    if (folder / STORY).exists():
        return _exported(folder, device)
    profile, key = profile_of(folder)
    checkpoint = folder / "checkpoint.safetensors"
    network = _empty_network(checkpoint, profile.decoder)
    metrics = Run(folder).metrics
    if ROUTE not in metrics["routes"]:
        raise UserError(
            f"{folder} did not score route {ROUTE!r}; train again with `python -m tedloc.train`, which scores all"
        )
    try:
        engine.load(network, checkpoint, key)
    except RuntimeError:  # names or shapes of weights
        raise UserError(_of_other_code(checkpoint, metrics["provenance"]["commit"])) from None
    threshold = metrics["routes"][ROUTE].get("threshold@0.5 (val threshold)")
    encoder = encoders.load(profile.encoder, device)
    about = {"run": folder.resolve().name} | {
        key: metrics["provenance"].get(key) for key in ("profile", "dataset", "synthetic", "seed", "commit", "date")
    }
    return Localizer(
        encoder,
        network.to(device).requires_grad_(False),
        metrics.get("class names") or _names(profile, network[1]),
        HALF if threshold is None else float(threshold),
        threshold is not None,
        metrics.get("familiar", {}),
        profile.evaluation.grid,
        profile.loss.logit_scale,
        {part: as_record(getattr(profile, part)) for part in ("encoder", "decoder")},
        about,
        {name: metrics["routes"][ROUTE][name] for name in SCORES if name in metrics["routes"][ROUTE]},
        device,
    )


def _names(profile: Profile, network: TeDLoc) -> list[str]:
    """Class names of a run that did not keep them: the data set's where it is on this machine, else numbers."""
    try:
        return list(open_data(profile.data, "train").class_names)
    except UserError:
        return [f"class {k}" for k in range(len(network.anchors))]


def _of_other_code(file: Path, commit: str) -> str:
    return (
        f"{file} was trained by another state of the code (commit {commit}), whose network had other parts; use that, "
        "or train again"
    )


def save(localizer: Localizer, folder: Path, encoder: bool = True) -> None:
    """Export: write weights and story into a folder of their own.

    encoder: whether its weights go along. Without, they come from where the package takes them, and matrices and
        kernels of the network are kept in float16: some 0.3 MB in all

    Raises ``UserError`` when the folder holds a model, or an encoder to be left out has weights of its own.
    """
    if (folder / STORY).exists():
        raise UserError(f"{folder} holds a model already; give another folder")
    name, weights = localizer.encoder.name, {"encoder": localizer.encoder, "network": localizer.network}
    if not encoder:
        if not (name.startswith("aviary/") or name in encoders.LITES) or localizer.settings["encoder"].get("weights"):
            raise UserError(f"the weights of {name!r} come in no package; export the model with its encoder")
        del weights["encoder"]
    state = {name: value.contiguous() for name, value in nn.ModuleDict(weights).state_dict().items()}
    if not encoder:
        state = {name: value.half() if value.ndim in (2, 4) else value for name, value in state.items()}
    with paths.replacing(folder / WEIGHTS) as scratch:
        safetensors.torch.save_file(state, scratch)
        digest = hashlib.sha256(scratch.read_bytes()).hexdigest()
    story = {
        "classes": localizer.class_names,
        "threshold": localizer.threshold,
        "threshold chosen on validation": localizer.chosen,
        "grid": localizer.size,
        "logit scale": localizer.logit_scale,
        "familiar": localizer.familiar,
        "image size": localizer.encoder.image_size,
        "encoder inside": encoder,
        "settings": localizer.settings,
        "model": localizer.about,
        "scored": localizer.scored,
        "terms": localizer.terms,
        "sha256": digest,
    }
    with paths.replacing(folder / STORY) as scratch:
        scratch.write_text(json.dumps(story, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _exported(folder: Path, device: str) -> Localizer:
    """The localizer that :func:`save` wrote."""
    story = json.loads((folder / STORY).read_text(encoding="utf-8"))
    file = folder / WEIGHTS
    if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != story["sha256"]:
        raise UserError(f"{file} is not the file that {STORY} beside it describes; copy the folder again, whole")
    kept, inside = story["settings"]["encoder"], story.get("encoder inside", True)
    encoder = encoders.load_encoder(
        kept["name"],
        image_size=story["image size"],
        weights="random" if inside and not kept["name"].startswith("aviary/") else None,
        tap=kept.get("tap"),
        precision=kept.get("precision", "auto"),
    )
    decoder = _restore(DecoderSettings, story["settings"]["decoder"])
    network = _empty_network(file, decoder, "network.")
    weights = nn.ModuleDict({"encoder": encoder, "network": network} if inside else {"network": network})
    try:
        weights.load_state_dict(safetensors.torch.load_file(file))
    except RuntimeError:
        raise UserError(_of_other_code(file, story["model"]["commit"])) from None
    nn.ModuleDict({"encoder": encoder, "network": network}).to(device).requires_grad_(False).eval()
    return Localizer(
        encoder,
        network,
        story["classes"],
        story["threshold"],
        story["threshold chosen on validation"],
        story["familiar"],
        story["grid"],
        story["logit scale"],
        story["settings"],
        story["model"],
        story.get("scored", {}),
        device,
    )


def _empty_network(file: Path, decoder: DecoderSettings, prefix: str = "") -> nn.Sequential:
    """Standardisation and TeDLoc in the shapes of a file of weights."""
    if not file.exists():
        raise UserError(f"{file} is missing; restore it, or train again")
    with safe_open(file, "pt") as opened:
        mean, anchors = (opened.get_tensor(prefix + name) for name in ("0.mean", "1.anchors"))
    return nn.Sequential(Standardise(mean.flatten(), mean.flatten()), TeDLoc(mean.numel(), anchors, decoder))
