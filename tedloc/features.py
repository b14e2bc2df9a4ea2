"""Patch embeddings of the frozen encoder, computed once per image and view and kept on disk.

The encoder never changes, so each image passes it once: fp16, memory-mapped, one file per split.
"""

import functools
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from tedloc import paths
from tedloc.data import ImageSet, open_split
from tedloc.encoders import load_encoder
from tedloc.errors import UserError
from tedloc.settings import DataSettings, EncoderSettings

BATCH = 50


@dataclass(frozen=True, eq=False)
class Features:
    """Cached patch embeddings of one split.

    tokens: (N, V, C, h, w) fp16; V = 2 views (as it is, mirrored) or 1
    mean, std: (C,) float32 over this split's first view
    """

    tokens: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @property
    def dim(self) -> int:
        return self.tokens.shape[2]

    @property
    def grid(self) -> tuple[int, int]:
        return self.tokens.shape[3], self.tokens.shape[4]

    def batch(self, index: np.ndarray, view: np.ndarray | int = 0, device: str = "cpu") -> Tensor:
        """(B, C, h, w) float32 tokens of the images ``index``, each in its ``view``."""
        return torch.from_numpy(self.tokens[index, view]).to(device, torch.float32)


@functools.lru_cache(maxsize=6)
def open_data(settings: DataSettings, split: str) -> ImageSet:
    """One split of the data that the settings name."""
    return open_split(settings.name, split, seed=settings.seed, per_class=settings.per_class)


def features(data: DataSettings, split: str, encoder: EncoderSettings, device: str = "cpu") -> Features:
    """The split's features: read where they are current, computed otherwise.

    Mirrored views exist for the training split only. Raises ``UserError`` when the disk is too small.
    """
    images = open_data(data, split)
    views = 2 if split == "train" and encoder.mirror else 1
    key = hashlib.sha256(json.dumps([
        images.fingerprint(), encoder.name, encoder.image_size, encoder.weights, views, device,
        _code(data, encoder),
    ]).encode()).hexdigest()[:20]
    folder = paths.cache() / "features" / f"{data.name}-{split}-{key}"
    if not (folder / "statistics.npz").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock"):
            if not (folder / "statistics.npz").exists():
                _compute(images, views, encoder, folder, device)
    with np.load(folder / "statistics.npz") as statistics:
        return Features(np.load(folder / "tokens.npy", mmap_mode="r"), statistics["mean"], statistics["std"])


def _code(data: DataSettings, encoder: EncoderSettings) -> str:
    from tedloc.runs import environment_fingerprint
    return environment_fingerprint("tedloc.encoders", data=data.name)


def _compute(images: ImageSet, views: int, settings: EncoderSettings, folder: Path, device: str) -> None:
    encoder = load_encoder(settings.name, image_size=settings.image_size, weights=settings.weights, device=device)
    with torch.inference_mode():
        probe = encoder(encoder.preprocess([images.image(0)]).to(device))[0]
        shape = (len(images), views, *probe.shape)
        need, free = int(np.prod(shape)) * 2, shutil.disk_usage(folder).free
        if need > free:
            raise UserError(f"features of {images.name}/{images.split} need {need / 1e9:.1f} GB, {folder} has "
                            f"{free / 1e9:.1f} GB free; set TEDLOC_CACHE to a larger disk")
        with paths.replacing(folder / "tokens.npy") as scratch:
            tokens = np.lib.format.open_memmap(scratch, "w+", np.float16, shape)
            total, square = torch.zeros(encoder.dim, dtype=torch.float64), torch.zeros(encoder.dim, dtype=torch.float64)
            starts = range(0, len(images), BATCH)
            for start in tqdm(starts, desc=f"features {images.name}/{images.split}", unit="batch"):
                stop = min(start + BATCH, len(images))
                x = encoder.preprocess([images.image(i) for i in range(start, stop)]).to(device)
                for view in range(views):
                    out = encoder(x.flip(-1) if view else x).float().cpu()
                    tokens[start:stop, view] = out.numpy()
                    if view == 0:
                        total += out.double().sum((0, 2, 3))
                        square += out.double().square().sum((0, 2, 3))
            tokens.flush()
        count = len(images) * probe.shape[1] * probe.shape[2]
        mean = total / count
        std = (square / count - mean ** 2).clamp_min(1e-12).sqrt()
    with paths.replacing(folder / "statistics.npz") as scratch:
        np.savez(scratch, mean=mean.float().numpy(), std=std.float().numpy())
