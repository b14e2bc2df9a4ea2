"""Settings of an experiment as frozen dataclasses, and how single ones are changed.

Every choice that the paper leaves open is a field here (or in the settings class of the module that uses it),
with its provenance beside it: paper, figure, the authors' earlier code ("family"), or our choice.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_origin, get_type_hints

from tedloc.errors import UserError


def added(default: Any) -> Any:
    """A field that came later than runs that are kept: at its default it is left out of :func:`as_record`."""
    return field(default=default, metadata={"omit_default": True})


def uncounted(default: Any) -> Any:
    """A field that changes how long something takes and no number, so :func:`as_record` never has it."""
    return field(default=default, metadata={"omit": True})


def as_record(settings: Any) -> dict[str, Any]:
    """``dataclasses.asdict`` less the fields that are :func:`uncounted`, or were :func:`added` and stand at their
    default; for fingerprints and keys: so a run of before a setting existed is still the run of its default."""
    record = {}
    for each in dataclasses.fields(settings):
        value, about = getattr(settings, each.name), each.metadata
        if not about.get("omit") and (value != each.default or not about.get("omit_default")):
            record[each.name] = as_record(value) if dataclasses.is_dataclass(value) else value
    return record


def dotted(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested record with their dotted names, ``("loss.kd", 0.3)``."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@dataclass(frozen=True)
class DataSettings:
    """Which images."""

    name: str = "aviary"
    seed: int = 0  # of rendering, or of the split into training and validation images
    per_class: int | None = None  # at most so many images a class in every split (of imagenette: in train); None: all
    unreadable: str = "fatal"  # photos on disk: "skip" leaves out training images that `verify` could not read
    # of data set "folder" alone (tedloc.data.folder); None: what lies in the folder under the usual name
    root: str | None = added(None)  # the folder of photos
    boxes: str | None = added(None)  # a file or folder of boxes or masks
    classes: str | None = added(None)  # a CSV of class names
    splits: str | None = added(None)  # a CSV of splits, or shares in percent: "70/15/15"
    # of data set "imagenette" alone: "imagenette", "imagewoof" or single WordNet ids; None: both subsets
    only_classes: tuple[str, ...] | None = added(None)
    # processes that read photos ahead of the network; None: what tedloc.data.loading finds fit for the machine
    workers: int | None = uncounted(None)

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise UserError(f"data.workers is {self.workers}; give 0 (photos are read where they are used) or more")


@dataclass(frozen=True)
class EncoderSettings:
    """The frozen encoder E. The paper: "ViT-EVA-L", without input size or weights."""

    name: str = "aviary/cnn"
    image_size: int | None = None  # pixels; None: the model's own
    weights: str | None = None  # a local file instead of the hub
    tap: int | None = added(None)  # the block, 1 and up, whose output is taken; None: the last. Aviary and plain ViTs
    mirror: bool = True  # train on mirrored images too; family
    cache: bool = True  # keep patch embeddings on disk (tedloc.training.features); False: embed every batch anew
    cache_type: str = added("float16")  # of what is kept: "float16", or "int8" with a scale a channel: half the bytes
    # The rest is for GPUs, set by who computes there.
    precision: str = added("auto")  # of the forward pass: "float32", "bf16" (autocast), "auto": bf16 on a GPU only
    compile: bool = added(False)  # torch.compile: minutes at the start, a faster pass
    batch_size: int | None = added(None)  # images in a pass that fills the cache; None: 50

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"encoder.batch_size is {self.batch_size}; give at least 1")


@dataclass(frozen=True)
class AnchorSettings:
    """The class anchors t_k."""

    text: str = "aviary/clip"  # a CLIP model (see tedloc.backbones.clip) or "minilm"; the paper: CLIP, unnamed
    template: str = "ted-loc"  # a name or a format string (tedloc.backbones.text); figure 2 of the paper
    orthogonaliser: str = "qr_rows"  # the paper: "QR"; rows of Q is the reading that runs for every K and d
    seed: int = 0  # of the random controls


@dataclass(frozen=True)
class ClipESSettings:
    """Settings. The defaults are the published method's; whether TeD-Loc changed any is not documented.

    template:         prompt of classes and background words, a name or a format string (``tedloc.backbones.text``)
    background:       which background words enter the softmax: voc, aviary or none (``tedloc.backbones.text``)
    siblings:         all K classes enter it, not only the image's own
    affinity:         refine by attention (step 3)
    affinity_blocks:  how many last blocks are averaged; None for two thirds of them (8 of 12, as published)
    affinity_rounds:  rounds of column and row normalisation
    affinity_power:   power of A
    cam_threshold:    share of the map's maximum above which boxes are drawn
    logit_scale:      scale of the cosines; None for the learned one. Far above it one rival alone counts
    """

    template: str = "clip-es"
    background: str = "voc"
    siblings: bool = False
    affinity: bool = True
    affinity_blocks: int | None = None
    affinity_rounds: int = 3
    affinity_power: int = 2
    cam_threshold: float = 0.4
    logit_scale: float | None = None


@dataclass(frozen=True)
class PseudoLabelSettings:
    """The CAM that pseudo-labels are sampled from. The paper: Grad-CAM from CLIP, "any CAM" would do."""

    # A registered method that maps the true class; "tedloc:cam" is TeD-Loc that "cam" taught. Control: "centre-prior"
    teacher: str = "clip-es"
    clip: str = "aviary/clip"
    shuffled: bool = False  # control: every image gets the CAM of another image
    clip_es: ClipESSettings = ClipESSettings()
    # Of the CLIP, for GPUs; as the encoder's.
    precision: str = added("auto")
    compile: bool = added(False)
    batch_size: int | None = added(None)  # images in a pass that makes CAMs, by any teacher; None: 50

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"pseudo_labels.batch_size is {self.batch_size}; give at least 1")


@dataclass(frozen=True)
class DecoderSettings:
    """Shape of D. The paper only says that it brings the patches to a "high spatial resolution"."""

    width: int = 64  # our choice; the paper gives no width (FACTS: 265 M of its parameters are unexplained)
    upsampling: int = 2  # our choice; the authors' earlier decoders upsample 16 times in four blocks
    convs: int = 1  # 3x3 convolutions in a block; our choice, the authors' earlier decoders have two


@dataclass(frozen=True)
class SamplerSettings:
    """The paper names n+ and n- but gives neither them nor the number of samples."""

    samples: int = 10  # of each kind, an image and a step; as in the authors' earlier work (F-CAM, TrCAM)
    foreground: float = 1.0  # n+ as a share of the Otsu region; our choice: the top part alone learns a part
    background: float = 0.4  # n- as a share of all pixels; our choice (authors' earlier work: 0.2 to 0.3)

    def __post_init__(self) -> None:
        for name in ("foreground", "background"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"sampler.{name} is {getattr(self, name)}; give a share in (0, 1]")
        if self.samples < 1:
            raise UserError(f"sampler.samples is {self.samples}; at least one pixel of each kind is needed")


@dataclass(frozen=True)
class LossSettings:
    """The λs of Eq. 5. The paper searches each in (0, 1]; a term with λ = 0 is left out (ablation)."""

    kd: float = 1.0  # λ1; the paper gives only the range
    patch: float = 1.0  # λ2
    image: float = 1.0  # λ3
    logit_scale: float = 1.0  # Eq. 1 and 4 show no temperature


@dataclass(frozen=True)
class OptimiserSettings:
    """SGD. The paper: learning rate within 1e-6 to 1e-2, tuned momentum and weight decay, values not given.

    kind: "sgd", or "adamw" for compared methods that were published with it (momentum is then not used)
    batch_size: of all processes together, under torchrun
    steps: instead of epochs, for data of any size: as many epochs as come closest to it, one at least
    """

    kind: str = "sgd"
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    threads: int = 1  # CPU threads of one run: fixed, so that the same seed gives the same numbers
    # The rest is for the paper's scale, set by who trains there; none of it is in the paper.
    precision: str = "auto"  # of the forward pass: "float32", "bf16" (autocast), "auto": bf16 on a GPU only
    compile: bool = False  # torch.compile of the network: minutes at the start, faster steps on a GPU
    checkpoint_minutes: float = 10.0  # within an epoch: what a killed run loses at most
    steps: int | None = added(None)
    trunk: float = added(1.0)  # share of the rate for layers that come trained, where a method trains them along


@dataclass(frozen=True)
class EvaluationSettings:
    """How maps are scored (see tedloc.metrics.meter)."""

    grid: int = 224  # the benchmark's protocol; the paper's text says 256
    step: float = 0.001  # of the threshold search; the benchmark's default
    keep_maps: int = 60  # test images, evenly spaced, whose maps are stored for figures
    batch_size: int = 50


@dataclass(frozen=True)
class Profile:
    """All settings of one experiment on one data set.

    small:      compared methods use their settings for small images and short training, not the published ones
    max_epochs: no compared method trains longer; None: no limit
    live:       methods that the book computes itself, in the first world and with the profile's own settings; all else
                is read from the results kept with the package (``tedloc.runs.kept``). None: everything is computed
    changes:    (method, setting, value): changes to compared methods' own settings; see :func:`override`
    """

    name: str
    paper_dataset: str = "CUB"  # the column of the paper's tables to stand beside: "CUB" or "ILSVRC"
    synthetic: bool = False
    small: bool = True
    max_epochs: int | None = None
    live: tuple[str, ...] | None = None
    changes: tuple[tuple[str, str, Any], ...] = ()
    seeds: tuple[int, ...] = (0,)
    data: DataSettings = DataSettings()
    encoder: EncoderSettings = EncoderSettings()
    anchors: AnchorSettings = AnchorSettings()
    pseudo_labels: PseudoLabelSettings = PseudoLabelSettings()
    decoder: DecoderSettings = DecoderSettings()
    sampler: SamplerSettings = SamplerSettings()
    loss: LossSettings = LossSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @property
    def judged(self) -> tuple[int, ...]:
        """The seeds that verdicts come from: of drawn worlds all but the first, in which settings were chosen."""
        return self.seeds[1:] if self.synthetic and self.meaningful else self.seeds

    def in_world(self, world: int) -> "Profile":
        """The profile in another world of drawn images: they are drawn anew, and all towers are others (``cnn-3``).
        World 0 is the profile itself, and so is every world of real photos."""
        if not (self.synthetic and world):
            return self
        changes = {"data.seed": world}
        for name in ("encoder.name", "anchors.text", "pseudo_labels.clip"):
            part, field_name = name.split(".")
            tower = getattr(getattr(self, part), field_name)
            if tower.startswith("aviary/"):
                changes[name] = f"{tower}-{world}"
        return override(self, changes)

    @property
    def meaningful(self) -> bool:
        """False for the profile that only shows that everything runs: its numbers decide nothing."""
        return self.name != "smoke"


def override(settings: Any, changes: dict[str, Any]) -> Any:
    """Settings with some fields replaced, by dotted name: ``{"loss.kd": 0.0, "anchors.text": "minilm"}``.

    A compared method's own settings are reached as ``methods.NAME.SETTING`` of a profile, for example
    ``methods.ts-cam.optimiser.learning_rate``; they are checked when the method is made.

    Raises ``UserError`` for a name that does not exist or a value of the wrong type. (Command lines go through
    tyro, which knows the types.)
    """
    for name, value in changes.items():
        if isinstance(settings, Profile) and name.startswith("methods.") and name.count(".") >= 2:
            _, method, setting = name.split(".", 2)
            settings = dataclasses.replace(settings, changes=(*settings.changes, (method, setting, value)))
        else:
            settings = _replace(settings, name.split("."), value, name)
    return settings


def _replace(settings: Any, path: list[str], value: Any, name: str) -> Any:
    known = {f.name for f in dataclasses.fields(settings)} if dataclasses.is_dataclass(settings) else ()
    if path[0] not in known:
        raise UserError(
            f"unknown setting {name!r}: {path[0]!r} is not one of {', '.join(sorted(known)) or 'its parts'}"
        )
    if len(path) > 1:
        part = _replace(getattr(settings, path[0]), path[1:], value, name)
        return dataclasses.replace(settings, **{path[0]: part})
    kind = get_type_hints(type(settings))[path[0]]
    if kind is float and type(value) is int:
        value = float(value)
    accepted = tuple(get_origin(option) or option for option in getattr(kind, "__args__", ()) if "|" in str(kind)) or (
        get_origin(kind) or kind
    )
    if isinstance(value, list) and tuple in (accepted if isinstance(accepted, tuple) else (accepted,)):
        value = tuple(value)  # JSON knows no tuples
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"setting {name!r} cannot be {value!r}; it takes {getattr(kind, '__name__', kind)}")
    return dataclasses.replace(settings, **{path[0]: value})
