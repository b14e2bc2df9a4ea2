"""The experiments by name. Each opens with what it is, its command, its cost and what to expect."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tedloc.errors import UserError, choose
from tedloc.settings import (
    AnchorSettings,
    ClipESSettings,
    DataSettings,
    DecoderSettings,
    EncoderSettings,
    EvaluationSettings,
    LossSettings,
    OptimiserSettings,
    Profile,
    PseudoLabelSettings,
    SamplerSettings,
    override,
)

EXAMPLE = """-p settings '{"optimiser.epochs": 1}', or -y 'settings: {optimiser.epochs: 1}'"""


# Methods of the aviary that `make book` computes: those that take less than a minute of one core.
LIVE = (
    "tedloc",
    "cam",
    "grad-cam",
    "clip-es",
    "patch-anchor:vanilla",
    "patch-anchor:sclip",
    "patch-anchor:naclip",
    "ddt",
)
# Of the photos those that `imagenette-small` computes where they are: all that need no hub.
LIVE_ON_PHOTOS = (
    "tedloc",
    "cam",
    "grad-cam",
    "head-cam",
    "ddt",
    "ddt:whitened",
    "psol",
    "c2am",
    "c2am:test-threshold",
    "da-wsol",
    "bas",
)


def aviary() -> Profile:
    """Synthetic birds, default towers: 20 species, 2,000 training and 600 test images of 80x80 pixels.

    papermill notebooks/main_results.ipynb out.ipynb -p profile aviary
    """
    return Profile(
        name="aviary",
        paper_dataset="CUB",
        synthetic=True,
        seeds=(0, 1, 2, 3, 4, 5),  # worlds whose towers are there
        live=LIVE,
        decoder=DecoderSettings(width=32),
        pseudo_labels=PseudoLabelSettings(clip_es=ClipESSettings(template="ted-loc", affinity_blocks=2)),
        loss=LossSettings(kd=0.28, patch=0.83, image=0.15),  # these and the next: the best of tedloc/tuning/aviary.csv
        optimiser=OptimiserSettings(learning_rate=0.02, momentum=0.95, weight_decay=4e-5),
    )


def smoke() -> Profile:
    """The aviary in seconds: proves that everything runs; its numbers mean nothing.

    papermill notebooks/main_results.ipynb out.ipynb
    """
    return replace(
        aviary(),
        name="smoke",
        seeds=(0, 1),
        live=None,
        data=DataSettings(per_class=4),
        max_epochs=1,
        optimiser=replace(aviary().optimiser, epochs=1),
        evaluation=EvaluationSettings(step=0.01, keep_maps=12),
    )


# On photos, where no search of their own says otherwise: what was best for an earlier encoder of the aviary.
ON_PHOTOS = (
    ("cam", "optimiser.learning_rate", 0.05),
    ("ddt", "whiten", 0.1),
    ("psol", "optimiser.learning_rate", 1e-3),
    ("c2am", "optimiser.learning_rate", 1e-3),
    ("c2am", "contrast.learning_rate", 0.03),
    ("c2am", "alpha", 0.05),
    ("bas", "optimiser.epochs", 4),
    ("bas", "optimiser.learning_rate", 0.02),
    ("bas", "area", 2.0),
    ("da-wsol", "optimiser.learning_rate", 0.01),
    ("da-wsol", "mu", 0.1),
    ("dips", "kept", 3),
    ("lctr", "optimiser.learning_rate", 5e-4),
    ("lctr", "optimiser.batch_size", 32),
)


def photos() -> Profile:
    """Photos of your own, a folder a class: EfficientNet-Lite0, MiniLM anchors, the CAM of a linear classifier teaches.

    papermill notebooks/your_photos.ipynb out.ipynb -p data_root FOLDER
    """
    return Profile(
        name="photos",
        paper_dataset="ILSVRC",
        data=DataSettings(name="folder"),
        encoder=EncoderSettings(name="efficientnet-lite0", image_size=320, mirror=False),  # 224 was worse on val
        anchors=AnchorSettings(text="minilm"),
        pseudo_labels=PseudoLabelSettings(teacher="cam"),
        decoder=DecoderSettings(width=32),
        # on val of 50, 300 and 3,000 photos of dogs, all from 50 to 400 steps lay within the noise
        optimiser=OptimiserSettings(steps=200),
        changes=(*ON_PHOTOS, ("cam", "optimiser.steps", 300)),
    )


def imagenette() -> Profile:
    """Real photos of ILSVRC with the benchmark's boxes: Imagenette and Imagewoof, all 25,348 training photos.

    TEDLOC_DATA=... papermill notebooks/main_results.ipynb out.ipynb -p profile imagenette

    Not run here: settings are those of `imagenette-small`. 0.7 GB to fetch, 9.1 GB for the cache. On one CPU thread,
    reckoned from the small profile: features 25 minutes, teacher's maps 14, then 5 minutes a seed for TeD-Loc. A GPU is
    for this.
    """
    return Profile(
        name="imagenette",
        paper_dataset="ILSVRC",
        seeds=(0, 1, 2),
        data=DataSettings(name="imagenette"),
        encoder=EncoderSettings(name="efficientnet-lite0", image_size=320, mirror=False),
        anchors=AnchorSettings(text="minilm"),
        pseudo_labels=PseudoLabelSettings(teacher="head-cam", clip="ViT-B-16/openai"),
        decoder=DecoderSettings(width=64),  # these and all below: the best of tedloc/tuning/imagenette-small.csv
        sampler=SamplerSettings(foreground=0.5, background=0.4),
        loss=LossSettings(kd=0.19, patch=0.1, image=0.4),
        optimiser=OptimiserSettings(epochs=1, learning_rate=0.039, momentum=0.9, weight_decay=7.4e-4),
        max_epochs=1,  # as many as TeD-Loc's
        changes=(
            *ON_PHOTOS,
            ("da-wsol", "width", 64),
            ("ddt", "whiten", 1.0),
            ("da-wsol", "optimiser.learning_rate", 0.03),
            ("da-wsol", "mu", 1.0),
            ("bas", "optimiser.learning_rate", 0.005),
            ("bas", "area", 1.6),
            ("c2am", "contrast.learning_rate", 3e-4),
            ("c2am", "alpha", 6.0),
        ),
    )


def imagenette_small() -> Profile:
    """As `imagenette` with 300 training photos a class: for two cores, and for copies that hold no more.

    TEDLOC_DATA=... papermill notebooks/main_results.ipynb out.ipynb -p profile imagenette-small

    2.4 GB for the cache. From nothing, with one seed of every method, 16 minutes on two cores. On one busy CPU thread:
    features 6 minutes, teacher's maps 3, then 70 seconds a seed for TeD-Loc; of the compared methods C2AM and BAS take
    longest, 2 to 4 minutes. Test MaxBoxAcc: the README's table.
    """
    return replace(
        imagenette(), name="imagenette-small", live=LIVE_ON_PHOTOS, data=DataSettings(name="imagenette", per_class=300)
    )


def cub() -> Profile:
    """CUB-200-2011 at the paper's scale: EVA-L, CLIP ViT-B/16. Not run here.

    TEDLOC_DATA=... papermill notebooks/main_results.ipynb out.ipynb -p profile cub

    Reproduces the CUB columns of Table 1; the paper: MaxBoxAcc 98.7, Top-1 Loc 91.7, Top-5 Loc 97.6.
    Data: 5,994 / 1,000 / 5,794 images, 1.2 GB, and 4.9 GB for the cache. Estimate for an A100, counted and not
    measured (chapter "At scale"): 0.04 GPU hours a seed for TeD-Loc, training holds 0.2 GB beside the cache.
    """
    return Profile(
        name="cub",
        paper_dataset="CUB",
        seeds=(0,),
        small=False,
        data=DataSettings(name="cub"),
        encoder=EncoderSettings(
            name="timm/eva_large_patch14_196.in22k_ft_in22k_in1k", image_size=224, cache_type="int8"
        ),
        anchors=AnchorSettings(text="ViT-B-16/openai"),
        pseudo_labels=PseudoLabelSettings(clip="ViT-B-16/openai"),
        decoder=DecoderSettings(width=192, upsampling=4),  # ours: benchmarks/feature_cache.py
        optimiser=OptimiserSettings(epochs=50, batch_size=16, learning_rate=0.01),  # 50, 16: the paper
        evaluation=EvaluationSettings(batch_size=32),
    )


def ilsvrc() -> Profile:
    """ILSVRC at the paper's scale: EVA-L, CLIP ViT-B/16. Not run here.

    TEDLOC_DATA=... papermill notebooks/main_results.ipynb out.ipynb -p profile ilsvrc

    Reproduces the ILSVRC columns of Table 1; the paper: MaxBoxAcc 75.6, Top-1 Loc 70.0, Top-5 Loc 75.1.
    Data: 1,281,167 / 10,000 / 50,000 images, 150 GB, and 687.7 GB for the cache. Estimate for an A100, counted and
    not measured (chapter "At scale"): 1.80 GPU hours a seed for TeD-Loc, training holds 0.3 GB beside the cache.
    """
    return replace(
        cub(),
        name="ilsvrc",
        paper_dataset="ILSVRC",
        data=DataSettings(name="ilsvrc"),
        optimiser=OptimiserSettings(epochs=10, batch_size=32, learning_rate=0.01),  # 10, 32: the paper
    )


PROFILES: dict[str, Callable[[], Profile]] = {
    "smoke": smoke,
    "aviary": aviary,
    "photos": photos,
    "imagenette": imagenette,
    "imagenette-small": imagenette_small,
    "cub": cub,
    "ilsvrc": ilsvrc,
}


def get(name: str, changes: Mapping[str, Any] | str | None = None) -> Profile:
    """The profile called ``name``, with settings changed by dotted name (:func:`tedloc.settings.override`).

    changes: may be the JSON of such a dictionary: what ``papermill -p settings '{"loss.kd": 0}'`` hands over

    Raises ``UserError`` when there is no such profile or setting.
    """
    choose("profile", name, PROFILES)
    if isinstance(changes, str):
        try:
            changes = json.loads(changes or "{}")
        except json.JSONDecodeError as error:
            raise UserError(f"settings {changes!r} are no JSON ({error}); write {EXAMPLE}") from None
    if not isinstance(changes, Mapping | None):
        raise UserError(f"settings are {changes!r}, which are no settings by name; write {EXAMPLE}")
    return override(PROFILES[name](), dict(changes or {}))


def from_command_line(profile: Profile, arguments: Sequence[str]) -> Profile:
    """The profile with settings changed as on a command line: ``--loss.kd 0.5 --anchors.text minilm``.

    Ends the process with exit code 2 and a sentence for an unknown setting or a bad value.
    """
    if not arguments:
        return profile
    import tyro

    return tyro.cli(Profile, default=profile, args=list(arguments))
