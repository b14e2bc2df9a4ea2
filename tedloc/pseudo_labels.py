"""The CAMs that pseudo-labels are sampled from (section 3.1): one map a training image, made once, before training.

The teacher may be any CAM: CLIP-ES (default), the encoder's own ImageNet classifier, or the control that knows
nothing but the centre of the image.

    python -m tedloc.pseudo_labels --profile cub --split train --workers 4

computes them ahead of a training, in several processes; the same command on further machines that share
``TEDLOC_CACHE`` joins in, and after a kill goes on (``tedloc.map_store``).
"""

import argparse
import functools
import sys
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from tedloc import devices, paths
from tedloc.data import ImageSet
from tedloc.errors import choose, command
from tedloc.features import BATCH, open_data
from tedloc.map_store import Rows, side_by_side, stored_maps
from tedloc.settings import Profile, override

TEACHERS = ("clip-es", "head-cam", "centre-prior")


def batches(images: ImageSet, description: str, size: int = BATCH) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """(indices, RGB images) in order, with a progress bar."""
    for start in tqdm(range(0, len(images), size), desc=description, unit="batch"):
        index = np.arange(start, min(start + size, len(images)))
        yield index, [images.image(i) for i in index]


def centre_prior(size: int = 28, sigma: float = 0.25) -> Tensor:
    """Centred Gaussian (size, size), maximum 1; ``sigma`` as a share of the side. The control without any image."""
    line = (torch.arange(size) + 0.5) / size - 0.5
    bell = torch.exp(-(line**2) / (2 * sigma**2))
    bell = bell[:, None] * bell
    return (bell - bell.min()) / (bell.max() - bell.min())


def unshuffled(profile: Profile) -> Profile:
    """The profile whose teacher this is: shuffling is done to the teacher's CAMs, the teacher does not know of it."""
    return override(profile, {"pseudo_labels.shuffled": False})


def pseudo_label_cams(profile: Profile, split: str = "train", device: str = "cpu") -> np.ndarray:
    """CAMs of the true class, (N, h, w) uint8, in the split's order; cached, checked against their checksums.

    Raises ``UserError`` for an unknown teacher or a full disk.
    """
    settings = profile.pseudo_labels
    choose("teacher", settings.teacher, TEACHERS)
    images = open_data(profile.data, split)
    if settings.teacher == "centre-prior":
        cam = (centre_prior() * 255).round().to(torch.uint8).numpy()
        return np.broadcast_to(cam, (len(images), *cam.shape))
    from tedloc.methods import create
    from tedloc.runs import digest, environment_fingerprint

    method = create(settings.teacher, unshuffled(profile), seed=0, device=device)
    key = digest(
        [
            images.fingerprint(),
            settings.teacher,
            method.settings(),
            environment_fingerprint(type(method).__module__, data=profile.data.name),
        ]
    )
    folder = paths.cache() / "cams" / f"{profile.data.name}-{split}-{key[:20]}"
    cams = stored_maps(
        folder,
        images.ids,
        functools.partial(_open_teacher, method, split),
        verify=True,
        what=f"CAMs of {images.name}/{split}",
        settings={"teacher": settings.teacher} | method.settings(),
    )
    if settings.shuffled:
        order = np.random.default_rng(profile.data.seed).permutation(len(cams))
        cams = cams[order]
    return cams


def _open_teacher(method, split: str) -> Rows:
    """The teacher's maps of the true class, as bytes, by position in the split."""
    method.fit()
    true_maps = method.true_maps(split)
    return lambda index: (true_maps(index).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


@command
def main(arguments: list[str] | None = None) -> None:
    from tedloc import profiles
    from tedloc.runs import default_device

    parser = argparse.ArgumentParser(
        prog="python -m tedloc.pseudo_labels",
        description=__doc__.split("\n")[0],
        epilog="Further options are settings, e.g. --pseudo-labels.teacher head-cam",
    )
    parser.add_argument("--profile", required=True, help=", ".join(profiles.PROFILES))
    parser.add_argument("--split", default="train")
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine")
    parser.add_argument("--device", default=default_device(), help="cpu, cuda (all GPUs), cuda:1 ...")
    known, rest = parser.parse_known_args(arguments)
    profile = profiles.from_command_line(profiles.get(known.profile), rest)
    devices.checked(known.device)
    cams = side_by_side(known.workers, known.device, pseudo_label_cams, profile, known.split)
    print(
        f"{len(cams):,} maps of {cams.shape[1]}x{cams.shape[2]}, finished and checked, in {paths.cache() / 'cams'}",
        file=sys.stdout,
    )


if __name__ == "__main__":
    main()
