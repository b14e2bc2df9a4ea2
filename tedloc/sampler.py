"""Sampling of foreground and background patches from a CAM (appendix A), batched and on the CAM's device.

Otsu's threshold splits the CAM; the n+ most active pixels of its upper part form the foreground pool, the n-
least active pixels outside it the background pool, and of pixels that tie at a pool's edge any, at random. Every
training step draws new pixels from both pools, the same number of each.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tedloc.settings import SamplerSettings
from tedloc.training.distributed import Draws


class Samples(NamedTuple):
    """Sampled pixels of one step: flat indices (B, n) into the decoder's grid, and which of them count.

    ``valid`` (B, n) is False where an image's pools hold fewer than n pixels (both kinds drop the same number)
    or where its CAM is flat.
    """

    foreground: Tensor
    background: Tensor
    valid: Tensor


def to_grid(cams: Tensor, size: tuple[int, int]) -> Tensor:
    """CAMs (B, h, w) in [0, 1] as uint8 (B, H, W) on the decoder's grid, bilinear."""
    resized = F.interpolate(cams[:, None].float(), size=size, mode="bilinear", align_corners=False)[:, 0]
    return (resized.clamp(0, 1) * 255).round().to(torch.uint8)


def histogram(cams: Tensor) -> Tensor:
    """Pixels at each grey level, (B, 256) float64, of uint8 maps (B, P)."""
    counts = torch.zeros(len(cams), 256, dtype=torch.float64, device=cams.device)
    return counts.scatter_add_(1, cams.long(), torch.ones_like(cams, dtype=torch.float64))


def otsu(cams: Tensor) -> Tensor:
    """Otsu's threshold of each uint8 map (B, P): pixels strictly above it are foreground. Returns (B,) int64.

    Maximises the between-class variance over the 256 grey levels, the lowest level winning a tie, like
    ``cv2.threshold(..., THRESH_OTSU)``. A flat map returns its own level: it has no foreground. (Otsu, 1979)
    """
    share = histogram(cams) / cams.shape[1]
    levels = torch.arange(256, dtype=torch.float64, device=cams.device)
    below = share.cumsum(1)  # probability of a level <= t
    moment = (share * levels).cumsum(1)
    mean = moment[:, -1:]
    product = below * (1 - below)
    split = (below > 1e-9) & (below < 1 - 1e-9)
    variance = torch.where(split, (mean * below - moment) ** 2 / product.clamp_min(1e-12), 0.0)
    # equal up to rounding counts as a tie
    best = variance.amax(1, keepdim=True)
    threshold = (variance >= best * (1 - 1e-12)).int().argmax(1)
    return torch.where(best[:, 0] > 0, threshold, cams.long().amax(1))


def lowest(cams: Tensor, n: Tensor, order: Tensor) -> Tensor:
    """The n (B, 1) lowest pixels of each uint8 map (B, P), of equal ones those that come first in an order (B, P) of
    the pixels; (B, P) bool.

    Counted, not sorted.
    """
    counts = histogram(cams)
    upto = counts.cumsum(1)  # pixels at a level or below it
    level = (upto < n).sum(1, keepdim=True)  # of the n-th pixel
    missing = n - (upto - counts).gather(1, level)  # so many pixels at that level
    equal = cams == level
    first = equal.gather(1, order).cumsum(1) <= missing
    return (cams < level) | (equal & torch.empty_like(equal).scatter_(1, order, first))


def pools(cams: Tensor, settings: SamplerSettings, draws: Draws) -> tuple[Tensor, Tensor]:
    """Foreground and background pools. cams: (B, H, W) uint8. Returns two (B, H*W) bool tensors.

    Foreground: the most active share of the Otsu region. Background: the least active share of all pixels,
    never inside the Otsu region. Which of the pixels that tie at the edge of a pool belong to it is drawn anew at every
    call; ``draws``: on the CAMs' device.
    """
    flat = cams.flatten(1)
    region = flat > otsu(flat)[:, None]
    order = draws.rand(flat.shape[1]).argsort(1)
    foreground = lowest(255 - flat, torch.ceil(settings.foreground * region.sum(1, keepdim=True)), order)
    n_background = torch.full_like(flat[:, :1], round(settings.background * flat.shape[1]), dtype=torch.float64)
    background = lowest(flat, n_background, order) & ~region & region.any(1, keepdim=True)
    return foreground, background


def sample(foreground: Tensor, background: Tensor, n: int, draws: Draws) -> Samples:
    """Draw n pixels from each pool (B, P), uniformly and without replacement, anew at every call.

    ``draws``: on the pools' device. Where a pool holds fewer than n pixels, as many of both kinds
    count as the smaller pool has, so that the two stay balanced.
    """
    n = min(n, foreground.shape[1])

    def draw(pool: Tensor) -> Tensor:
        return draws.rand(pool.shape[1]).masked_fill(~pool, -1.0).topk(n, dim=1).indices

    available = torch.minimum(foreground.sum(1), background.sum(1))
    valid = torch.arange(n, device=foreground.device) < available[:, None]
    return Samples(draw(foreground), draw(background), valid)
