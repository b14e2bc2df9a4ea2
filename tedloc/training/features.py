"""Patch embeddings of the frozen encoder, computed once per image and view and kept on disk.

The encoder never changes, so each image passes it once: fp16 or int8 (``encoder.cache_type``), memory-mapped, one store
per split (``tedloc.training.store``: any number of processes, any kill, checksums), read ahead of the step that needs
it. Two views of a training image are kept, or one with ``encoder.mirror = False``. Where a split is too large for the
disk, ``encoder.cache = False`` embeds every batch anew.

    python -m tedloc.training.features --profile cub --split train --workers 2     # ahead of a training
    python -m tedloc.training.features --profile cub --split train --verify        # read it all, mend what is damaged
"""

import argparse
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor

from tedloc import fingerprints, paths, profiles
from tedloc.backbones import encoders
from tedloc.backbones.encoders import Encoder
from tedloc.data import BATCH, open_data
from tedloc.data.loading import Photos, back
from tedloc.data.registry import DATASETS
from tedloc.errors import choose, command
from tedloc.settings import DataSettings, EncoderSettings
from tedloc.training import devices, store
from tedloc.training.ahead import Rows
from tedloc.training.quantised import Quantiser, quantiser

STATISTICS = 10_000  # images at most, evenly spaced, that mean and deviation are taken from
CALIBRATION = 250  # the same for the ranges of int8 codes, which come before anything is kept

View = np.ndarray | Tensor | int  # (B,) or one for all: 0 as it is, 1 mirrored


def on_device(view: View, device: str) -> Tensor:
    """(B,) views, or (1,) for all, on a device, without waiting for it."""
    return torch.atleast_1d(torch.as_tensor(view)).to(device, non_blocking=True)


def spaced(count: int, at_most: int) -> list[np.ndarray]:
    """Positions of images spaced evenly over ``count``, in batches."""
    picked = np.unique(np.linspace(0, count - 1, min(count, at_most)).round().astype(np.int64))
    return np.array_split(picked, -(-len(picked) // BATCH))


@dataclass(frozen=True, eq=False)
class Features:
    """Patch embeddings of one split.

    tokens: (N, V, C, h, w) fp16, or int8 codes; V = 2 views (as it is, mirrored) or 1
    folder: where they and their statistics lie
    codes:  what the codes stand for; None for fp16
    """

    tokens: np.ndarray | Tensor
    folder: Path
    codes: Quantiser | None = field(default=None, kw_only=True)

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

    def ahead(self, batches: Iterable[np.ndarray], device: str = "cpu") -> None:
        """Start reading what :meth:`batch` will be asked for, in this order."""
        self._rows.ahead(batches, device)

    def batch(self, index: np.ndarray, view: View = 0, device: str = "cpu") -> Tensor:
        """(B, C, h, w) float32 tokens of the images ``index``, each in its ``view``."""
        if (rows := self._rows(index)) is not None:  # in all views, since which one is known only now
            rows, view = rows.to(device, non_blocking=True), on_device(view, device)
            x = rows[:, 0] if self.views == 1 else rows[torch.arange(len(index), device=device), view]
        else:
            view = view.cpu().numpy() if isinstance(view, Tensor) else view
            store.fetch(self.tokens, index, view)
            x = torch.from_numpy(self.tokens[index, view]).to(device)
        return self.codes.decode(x) if self.codes else x.float()

    @functools.cached_property
    def _rows(self) -> Rows:
        return Rows(self.tokens)

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
        total, square, number = 0.0, 0.0, 0
        batches = spaced(len(self.tokens), STATISTICS)
        self.ahead(batches)
        for index in batches:
            tokens = self.batch(index).double()
            total, square = total + tokens.sum((0, 2, 3)), square + tokens.square().sum((0, 2, 3))
            number += len(index) * self.grid[0] * self.grid[1]
        mean = total / number
        std = (square / number - mean**2).clamp_min(1e-12).sqrt()
        return {"mean": mean.float().numpy(), "std": std.float().numpy()}


@dataclass(frozen=True, eq=False)
class Uncached(Features):
    """Patch embeddings that are computed whenever they are asked for. ``tokens`` has a shape, no values."""

    photos: Photos
    encoder: Callable[[], Encoder]  # loaded on first use, once for all splits

    def ahead(self, batches: Iterable[np.ndarray], device: str = "cpu") -> None:
        self.photos.ahead(batches)

    def batch(self, index: np.ndarray, view: View = 0, device: str = "cpu") -> Tensor:
        encoder = self.encoder()
        with torch.no_grad():  # not inference mode: a network is trained on these
            x = encoder.preprocessing.normalise(self.photos(index))
            x = torch.where((on_device(view, x.device) == 1).view(-1, 1, 1, 1), x.flip(-1), x)
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
        "precision": encoder.precision,
        "compiled": encoder.compile,
        "type": encoder.cache_type,
        "code": fingerprints.environment("tedloc.backbones.encoders", "tedloc.training.quantised", DATASETS[data.name]),
        "cache": encoder.cache,
    }
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:20]
    folder = paths.cache() / "features" / f"{data.name}-{split}-{key}"
    choose("type of cached features", encoder.cache_type, ("float16", "int8"))
    load = functools.cache(functools.partial(encoders.load, encoder, device))
    if not encoder.cache:
        load = functools.partial(_encoder, encoder, device)
        photos = Photos(images, load().preprocessing.square, device, data.workers)
        shape = load()(load().preprocessing.normalise(photos(np.arange(1)))).shape[1:]
        return Uncached(torch.empty((len(images), views, *shape), device="meta"), folder, photos, load)

    def embed(batches: Iterable[np.ndarray], views: int = views) -> Iterator[list[Tensor]]:
        photos = Photos(images, load().preprocessing.square, device, data.workers)
        return embedded(batches, photos, load(), views)

    codes = None
    if encoder.cache_type == "int8":
        looked_at = spaced(len(images), CALIBRATION)
        codes = quantiser(folder / "ranges.npz", lambda: (x for (x,) in embed(looked_at, views=1)))
    tokens = store.stored_maps(
        folder,
        images.ids,
        functools.partial(rows_of, embed, codes),
        chunk=encoder.batch_size or store.CHUNK,
        what=f"features of {images.name}/{split}",
        settings=about,
        verify=verify,
        unit=f"images x {views} view{'s' * (views > 1)}",
    )
    return Features(tokens, folder, codes=codes)


@functools.lru_cache(maxsize=1)
def _encoder(settings: EncoderSettings, device: str) -> Encoder:
    """The encoder that all splits of an uncached data set share."""
    return encoders.load(settings, device)


def embedded(batches: Iterable[np.ndarray], photos: Photos, encoder: Encoder, views: int = 1) -> Iterator[list[Tensor]]:
    """The embeddings (B, C, h, w) of photos in each view, batch by batch."""
    coming, batches = itertools.tee(batches)
    photos.ahead(coming)
    for index in batches:
        with torch.inference_mode():  # not around the yield: it would hold for whoever takes
            x = encoder.preprocessing.normalise(photos(index))
            each = [encoder(x.flip(-1) if view else x) for view in range(views)]
        yield each


def rows_of(embed: Callable[[Iterable[np.ndarray]], Iterator[list[Tensor]]], codes: Quantiser | None) -> store.Rows:
    """The embeddings (B, V, C, h, w), fp16 or int8, by position in the split."""
    kept = codes.encode if codes else torch.Tensor.half
    return lambda batches: back(torch.stack([kept(x) for x in each], dim=1) for each in embed(batches))


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
    found = store.side_by_side(known.workers, known.device, features, profile.data, known.split, profile.encoder)
    print(f"features {'x'.join(map(str, found.tokens.shape))} of {profile.data.name}/{known.split} in {found.folder}")


if __name__ == "__main__":
    main()
