"""Patch embeddings of the frozen encoder, computed once per image and view and kept on disk.

The encoder never changes, so each image passes it once: fp16, memory-mapped, one store per split
(``tedloc.training.store``: any number of processes, any kill, checksums). Where a split is too large for the disk
(ILSVRC with EVA-L: 1.3 TB), ``encoder.cache = False`` embeds every batch anew.

    python -m tedloc.training.features --profile cub --split train --workers 2     # ahead of a training
    python -m tedloc.training.features --profile cub --split train --verify        # read it all, mend what is damaged
"""

import argparse
import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor

from tedloc import fingerprints, paths, profiles
from tedloc.backbones.encoders import Encoder, load_encoder
from tedloc.data import BATCH, ImageSet, open_data
from tedloc.data.registry import DATASETS
from tedloc.errors import command
from tedloc.settings import DataSettings, EncoderSettings
from tedloc.training import devices
from tedloc.training.store import Rows, fetch, side_by_side, stored_maps

STATISTICS = 10_000  # images at most, evenly spaced, that mean and deviation are taken from


@dataclass(frozen=True, eq=False)
class Features:
    """Patch embeddings of one split.

    tokens: (N, V, C, h, w) fp16; V = 2 views (as it is, mirrored) or 1
    folder: where they and their statistics lie
    """

    tokens: np.ndarray | Tensor
    folder: Path

    @property
    def dim(self) -> int:
        return self.tokens.shape[2]

    @property
    def views(self) -> int:
        return self.tokens.shape[1]

    @property
    def grid(self) -> tuple[int, int]:
        return self.tokens.shape[3], self.tokens.shape[4]

    @property
    def mean(self) -> np.ndarray:
        """(C,) float32 over this split's first view; see ``STATISTICS``."""
        return self._statistics[0]

    @property
    def std(self) -> np.ndarray:
        """(C,) float32 standard deviation, likewise."""
        return self._statistics[1]

    def batch(self, index: np.ndarray, view: np.ndarray | int = 0, device: str = "cpu") -> Tensor:
        """(B, C, h, w) float32 tokens of the images ``index``, each in its ``view``."""
        fetch(self.tokens, index, view)
        return torch.from_numpy(self.tokens[index, view]).to(device, torch.float32)

    @functools.cached_property
    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        file = self.folder / "statistics.npz"
        self.folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.folder / ".statistics.lock"):
            if not file.exists():
                with paths.replacing(file) as scratch:
                    np.savez(scratch, **self._moments())
        with np.load(file) as stored:
            return stored["mean"], stored["std"]

    def _moments(self) -> dict[str, np.ndarray]:
        count = len(self.tokens)
        picked = np.unique(np.linspace(0, count - 1, min(count, STATISTICS)).round().astype(np.int64))
        total = square = 0.0
        for index in np.array_split(picked, -(-len(picked) // BATCH)):
            tokens = self.batch(index).double()
            total, square = total + tokens.sum((0, 2, 3)), square + tokens.square().sum((0, 2, 3))
        number = len(picked) * self.grid[0] * self.grid[1]
        mean = total / number
        std = (square / number - mean**2).clamp_min(1e-12).sqrt()
        return {"mean": mean.float().numpy(), "std": std.float().numpy()}


@dataclass(frozen=True, eq=False)
class Uncached(Features):
    """Patch embeddings that are computed whenever they are asked for. ``tokens`` has a shape, no values."""

    images: ImageSet
    encoder: Callable[[], Encoder]  # loaded on first use, once for all splits
    device: str

    def batch(self, index: np.ndarray, view: np.ndarray | int = 0, device: str = "cpu") -> Tensor:
        encoder = self.encoder()
        with torch.no_grad():  # not inference mode: a network is trained on these
            x = encoder.preprocess(self.images.image(i) for i in index).to(self.device)
            mirrored = torch.from_numpy(np.broadcast_to(view, len(index)) == 1).to(self.device)
            x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
            return encoder(x).to(device, torch.float32)


def features(
    data: DataSettings, split: str, encoder: EncoderSettings, device: str = "cpu", verify: bool = False
) -> Features:
    """The split's features: read where they are current, computed otherwise; uncached, ready to be computed.

    Mirrored views exist for the training split only. ``verify``: check every chunk's checksum first.
    Raises ``UserError`` when the disk is too small.
    """
    images = open_data(data, split)
    views = 2 if split == "train" and encoder.mirror else 1
    about = {
        "images": images.fingerprint(),
        "encoder": encoder.name,
        "image size": encoder.image_size,
        "weights": encoder.weights,
        **({"tap": encoder.tap} if encoder.tap else {}),
        "views": views,
        "device": torch.device(device).type,
        "code": fingerprints.environment("tedloc.backbones.encoders", DATASETS[data.name]),
        "cache": encoder.cache,
    }
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:20]
    folder = paths.cache() / "features" / f"{data.name}-{split}-{key}"
    load = functools.partial(
        load_encoder,
        encoder.name,
        image_size=encoder.image_size,
        weights=encoder.weights,
        tap=encoder.tap,
        device=device,
    )
    if not encoder.cache:
        load = functools.partial(_encoder, encoder.name, encoder.image_size, encoder.weights, encoder.tap, device)
        shape = load()(load().preprocess([images.image(0)]).to(device)).shape[1:]
        return Uncached(torch.empty((len(images), views, *shape), device="meta"), folder, images, load, device)
    tokens = stored_maps(
        folder,
        images.ids,
        functools.partial(_open_rows, images, views, load, device),
        what=f"features of {images.name}/{split}",
        settings=about,
        verify=verify,
        unit=f"images x {views} view{'s' * (views > 1)}",
    )
    return Features(tokens, folder)


@functools.lru_cache(maxsize=1)
def _encoder(name: str, image_size: int | None, weights: str | None, tap: int | None, device: str) -> Encoder:
    """The encoder that all splits of an uncached data set share."""
    return load_encoder(name, image_size=image_size, weights=weights, tap=tap, device=device)


def _open_rows(images: ImageSet, views: int, load: Callable[[], Encoder], device: str) -> Rows:
    """The embeddings (B, V, C, h, w) fp16 by position in the split."""
    encoder = load()

    @torch.inference_mode()
    def rows(index: np.ndarray) -> np.ndarray:
        x = encoder.preprocess(images.image(i) for i in index).to(device)
        each = [encoder(x.flip(-1) if view else x).half() for view in range(views)]
        return torch.stack(each, dim=1).cpu().numpy()

    return rows


@command
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tedloc.training.features",
        description=__doc__.split("\n")[0],
        epilog="Further options are settings, e.g. --encoder.image-size 448",
    )
    parser.add_argument("--profile", required=True, help=", ".join(profiles.PROFILES))
    parser.add_argument("--split", default="train")
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine")
    parser.add_argument("--device", default=devices.default(), help="cpu, cuda (all GPUs), cuda:1 ...")
    parser.add_argument("--verify", action="store_true", help="read all chunks, compute damaged ones again")
    known, rest = parser.parse_known_args(arguments)
    profile = profiles.from_command_line(profiles.get(known.profile), rest)
    devices.checked(known.device)
    if known.verify:
        features(profile.data, known.split, profile.encoder, known.device, verify=True)
    found = side_by_side(known.workers, known.device, features, profile.data, known.split, profile.encoder)
    print(f"features {'x'.join(map(str, found.tokens.shape))} of {profile.data.name}/{known.split} in {found.folder}")


if __name__ == "__main__":
    main()
