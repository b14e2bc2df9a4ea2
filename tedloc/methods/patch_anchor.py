"""Patch anchors: score maps <z_p, t_y> straight from CLIP's patches (paper, supplement B.1, table 4).

CLIP trains its class token only, so its patch embeddings need not agree with the text. Two later methods
change nothing but the attention of the last block, with q, k, v its queries, keys and values and s the head
width:

    vanilla  softmax(q k^T / sqrt s) v, the block as it is
    sclip    [softmax(q q^T / sqrt s) + softmax(k k^T / sqrt s)] v, residual and feed-forward kept
             (SCLIP, ECCV 2024)
    naclip   softmax(k k^T / sqrt s + w) v and nothing else: no residual, no feed-forward (NACLIP, WACV 2025).
             w between patches (i, j) and (m, n) is exp(-((i - m)^2 + (j - n)^2) / (2 sigma^2)), and 0 where
             the class token takes part

Training-free. Class scores come from the untouched CLS embedding, and, on routes of their own, from the CLS
embedding that the altered last block gives (which is what the paper's Table 4 seems to use).

All three end with the final norm, the projection and L2 normalisation. Written from the published formulas;
the sliding windows, name lists and post-processing of the methods' segmentation pipelines are left out.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tedloc.backbones.clip import (
    Clip,
    attention_output,
    embed,
    feed_forward,
    grid_of,
    project,
    qkv,
    softmax_attention,
)
from tedloc.errors import UserError, choose
from tedloc.methods import Route
from tedloc.methods.clip_es import FromCLIP
from tedloc.model import anchor_maps

VARIANTS = ("vanilla", "sclip", "naclip")
SIGMA = 5.0  # of NACLIP's neighbourhood, in patches


class DenseEmbeddings(NamedTuple):
    """Unit-norm embeddings of B images in the space of the text.

    patches:       (B, d, h, w)
    cls:           (B, d) class token behind the altered last block; this is what a method that changes the
                   tower in place classifies with
    cls_untouched: (B, d) class token of the model as trained; our default for classification
    """

    patches: Tensor
    cls: Tensor
    cls_untouched: Tensor


@torch.no_grad()
def dense_embeddings(clip: Clip, images: Tensor, variant: str, sigma: float = SIGMA) -> DenseEmbeddings:
    """Patch and class-token embeddings of preprocessed images (B, 3, H, W) under one of ``VARIANTS``.

    sigma: width of NACLIP's neighbourhood in patches; ignored by the others.
    Raises ``UserError`` for an unknown variant or a tower that cannot be taken apart.
    """
    choose("patch-anchor variant", variant, VARIANTS)
    tower = clip.tower
    grid = grid_of(tower, images)
    *blocks, last = tower.transformer.resblocks
    with clip.autocast():
        tokens = embed(tower, images)
        for block in blocks:
            tokens, _ = clip.block(block, tokens)
        untouched = project(tower, clip.block(last, tokens)[0])
        dense = untouched
        if variant != "vanilla":
            query, key, value = qkv(last, last.ln_1(tokens))
            update = attention_output(last, last_attention(variant, query, key, grid, sigma) @ value)
            dense = project(tower, update if variant == "naclip" else feed_forward(last, tokens + update))
    patches = dense[:, 1:].transpose(1, 2).unflatten(2, grid)
    return DenseEmbeddings(patches, dense[:, 0], untouched[:, 0])


def last_attention(variant: str, query: Tensor, key: Tensor, grid: tuple[int, int], sigma: float) -> Tensor:
    """Attention weights (B, heads, L, L) of the last block, L = 1 + h * w tokens, class token first.

    Rows sum to one, for SCLIP to two.
    """
    if variant == "vanilla":
        return softmax_attention(query, key)
    if variant == "sclip":
        return softmax_attention(query, query) + softmax_attention(key, key)
    return softmax_attention(key, key, bias=neighbourhood(grid, sigma).to(key))


def neighbourhood(grid: tuple[int, int], sigma: float) -> Tensor:
    """NACLIP's bias w for an h x w grid: (1 + h * w, 1 + h * w), zero row and column for the class token."""
    if sigma <= 0:
        raise UserError(f"NACLIP's sigma must be positive, not {sigma}; the published value is {SIGMA}")
    row, column = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in grid), indexing="ij")
    places = torch.stack([row.flatten(), column.flatten()], dim=1)
    squared = (places[:, None] - places[None]).square().sum(dim=-1)
    return torch.nn.functional.pad(torch.exp(-squared / (2 * sigma**2)), (1, 0, 1, 0))


class PatchAnchor(FromCLIP):
    """Routes: ``true``, ``pred`` (untouched CLS) and ``true, altered CLS``."""

    title = "<patch, anchor>"

    def rows(self) -> dict[str, str | None]:
        return {{"vanilla": "CLIP, vanilla", "sclip": "SCLIP", "naclip": "NACLIP"}[self.variant]: None}

    def localize(self, split: str, index: np.ndarray) -> dict[str, Route]:
        patches, altered, untouched = dense_embeddings(self.clip, self.photos(split, index), self.variant)
        scores, altered_scores = untouched @ self.text.T, altered @ self.text.T
        true = anchor_maps(patches, self.text, self.labels(split, index))
        predicted = anchor_maps(patches, self.text, scores.argmax(1))
        return {
            "true": Route(true, scores),
            "pred": Route(predicted, scores),
            "true, altered CLS": Route(true, altered_scores),
        }
