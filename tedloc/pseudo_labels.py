"""The CAMs that pseudo-labels are sampled from (section 3.1): one map a training image, made once, before training.

The teacher may be any CAM: CLIP-ES (default), the encoder's own ImageNet classifier, or the control that knows
nothing but the centre of the image.
"""

import hashlib
import json
from collections.abc import Iterator

import filelock
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from tedloc import paths
from tedloc.data import ImageSet
from tedloc.errors import choose
from tedloc.features import BATCH, open_data
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
    bell = torch.exp(-line ** 2 / (2 * sigma ** 2))
    bell = bell[:, None] * bell
    return (bell - bell.min()) / (bell.max() - bell.min())


def unshuffled(profile: Profile) -> Profile:
    """The profile whose teacher this is: shuffling is done to the teacher's CAMs, the teacher does not know of it."""
    return override(profile, {"pseudo_labels.shuffled": False})


def pseudo_label_cams(profile: Profile, split: str = "train", device: str = "cpu") -> np.ndarray:
    """CAMs of the true class, (N, h, w) uint8, in the split's order; cached.

    Raises ``UserError`` for an unknown teacher.
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
    key = digest([images.fingerprint(), settings.teacher, method.settings(),
                  environment_fingerprint(type(method).__module__, data=profile.data.name)])
    target = paths.cache() / "cams" / f"{profile.data.name}-{split}-{key[:20]}.npy"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.with_suffix(".lock")):
            if not target.exists():
                method.fit()
                maps = [(p.routes["true"].maps.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
                        for p in method.predict(split)]
                with paths.replacing(target) as scratch:
                    np.save(scratch, np.concatenate(maps))
    cams = np.load(target)
    if settings.shuffled:
        order = np.random.default_rng(profile.data.seed).permutation(len(cams))
        cams = cams[order]
    return cams
