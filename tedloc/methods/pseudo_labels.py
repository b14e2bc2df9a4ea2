"""The CAMs that pseudo-labels are sampled from (section 3.1): one map a training image, made once, before training.

The teacher may be any method that maps the true class ("generally, any CAM-based model can be used"): CLIP-ES
(default), a linear classifier's CAM, TeD-Loc itself; or the control that knows nothing but the centre of the image.

    python -m tedloc.methods.pseudo_labels --profile cub --split train --workers 4

computes them ahead of a training, in several processes; the same command on further machines that share
``TEDLOC_CACHE`` joins in, and after a kill goes on (``tedloc.training.store``).
"""

import argparse
import functools
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor

from tedloc import fingerprints, paths, profiles
from tedloc.data import open_data
from tedloc.data.loading import back
from tedloc.data.registry import DATASETS
from tedloc.errors import UserError, choose, command
from tedloc.methods import METHODS, Method, Teacher, create
from tedloc.settings import Profile, override
from tedloc.training import devices
from tedloc.training.store import CHUNK, Rows, side_by_side, stored_maps

CENTRE_PRIOR = "centre-prior"


def centre_prior(size: int = 28, sigma: float = 0.25) -> Tensor:
    """Centred Gaussian (size, size), maximum 1; ``sigma`` as a share of the side. The control without any image."""
    line = (torch.arange(size) + 0.5) / size - 0.5
    bell = torch.exp(-(line**2) / (2 * sigma**2))
    bell = bell[:, None] * bell
    return (bell - bell.min()) / (bell.max() - bell.min())


def teacher_of(profile: Profile, seed: int = 0) -> Teacher | None:
    """The method that the pseudo-labels come from, or None for the control that sees no image.

    It knows nothing of shuffling, which is done to its CAMs. ``tedloc:NAME`` is TeD-Loc that NAME taught. A teacher in
    which nothing is random has one seed.

    Raises ``UserError`` for an unknown teacher, and for one that has no map of a class.
    """
    name = profile.pseudo_labels.teacher
    if name == CENTRE_PRIOR:
        return None
    if name == "tedloc":
        raise UserError(
            "pseudo_labels.teacher is 'tedloc', which needs a teacher itself; give 'tedloc:cam' or the like"
        )
    method, _, first = name.partition(":") if name.startswith("tedloc:") else (name, "", profile.pseudo_labels.teacher)
    if method not in METHODS:
        choose("teacher", name, [*(known for known in METHODS if known != "tedloc"), "tedloc:NAME", CENTRE_PRIOR])
    taught = override(profile, {"pseudo_labels.shuffled": False, "pseudo_labels.teacher": first})
    made = create(method, taught)
    if made.true_route is None:
        raise UserError(f"{made.title} has no map of a class, so it cannot teach; choose another pseudo_labels.teacher")
    made.teacher()  # of whom the same is asked
    return Teacher(method, taught, seed if made.seeded else 0)


def pseudo_label_cams(
    profile: Profile, split: str = "train", device: str = "cpu", seed: int = 0, folder: Path | None = None
) -> np.ndarray:
    """CAMs of the true class, (N, h, w) uint8, in the split's order; cached, checked against their checksums.

    seed: of a teacher that is trained; folder: where it was (without one it is trained beside the CAMs)

    Raises ``UserError`` as :func:`teacher_of` does, and for a full disk.
    """
    images, teacher = open_data(profile.data, split), teacher_of(profile, seed)
    if teacher is None:
        cam = (centre_prior() * 255).round().to(torch.uint8).numpy()
        return np.broadcast_to(cam, (len(images), *cam.shape))
    method = create(teacher.method, teacher.profile, teacher.seed, device)
    code = fingerprints.environment(*method.code(), DATASETS[profile.data.name])
    kind = torch.device(device).type  # which the precision depends on
    key = fingerprints.digest([images.fingerprint(), teacher.method, method.settings(), code, kind])
    store = paths.cache() / "cams" / f"{profile.data.name}-{split}-{key[:20]}"
    cams = stored_maps(
        store,
        images.ids,
        functools.partial(_open_teacher, method, split, folder or store / "teacher"),
        verify=True,
        what=f"CAMs of {images.name}/{split}",
        chunk=profile.pseudo_labels.batch_size or CHUNK,
        settings={"teacher": profile.pseudo_labels.teacher} | method.settings(),
    )
    if profile.pseudo_labels.shuffled:
        order = np.random.default_rng(profile.data.seed).permutation(len(cams))
        cams = cams[order]
    return cams


def _open_teacher(method: Method, split: str, folder: Path) -> Rows:
    """The teacher's maps of the true class, as bytes, by position in the split."""
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".fit.lock"):  # processes side by side train it once
        method.fit(folder)
    return rows_of(method, split)


def rows_of(method: Method, split: str) -> Rows:
    """The same of a method that is fitted already."""

    def rows(batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        coming, batches = itertools.tee(batches)
        method.ahead(split, coming)
        return back((method.true_maps(split, index).clamp(0, 1) * 255).round().to(torch.uint8) for index in batches)

    return rows


@command
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tedloc.methods.pseudo_labels",
        description=__doc__.split("\n")[0],
        epilog="Further options are settings, e.g. --pseudo-labels.teacher head-cam",
    )
    parser.add_argument("--profile", required=True, help=", ".join(profiles.PROFILES))
    parser.add_argument("--split", default="train")
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine")
    parser.add_argument("--device", default=devices.default(), help="cpu, cuda (all GPUs), cuda:1 ...")
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
