"""Grad-CAM (Selvaraju et al., ICCV 2017) on the same frozen encoder and linear classifier as CAM.

The score s_c of class c is explained at a layer F (C channels) in front of it:

    a_c = mean_p d s_c / d F(p)         one weight a channel
    map_c(p) = ReLU(<a_c, F(p)>)

In a ViT, F is what the last block reads: the output of its first layer norm (ln_1), patches only. Behind it
lie the block's attention and MLP, so the map is not CAM's, and only that block is differentiated: nothing
before F needs a gradient, since the encoder is frozen. A convolutional encoder is explained at its last
feature map, which the classifier pools; s_c is linear there, and Grad-CAM is ReLU(CAM) up to a positive
factor.
"""

import functools
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from tedloc.backbones.encoders import Encoder, load
from tedloc.backbones.preprocessing import Preprocessing
from tedloc.methods import Route
from tedloc.methods.cam import LinearCAM


def input_norm(encoder: Encoder) -> nn.Module | None:
    """The first layer norm of a ViT's last block, or of the one it is tapped at; None for an encoder without such."""
    blocks = getattr(encoder.body, "blocks", None)
    return getattr(blocks[(encoder.tap or 0) - 1], "norm1", None) if blocks else None


def explained(encoder: Encoder, norm: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Patch embeddings (B, dim, h, w) of the encoder, and the layer (B, prefix + h*w, C) that they depend on:
    the output of ``norm``, where the graph begins. images: (B, 3, S, S)"""
    kept: list[Tensor] = []

    def begin(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0]

    hook = norm.register_forward_hook(begin)
    try:
        with torch.enable_grad():
            return encoder(images), kept[0]
    finally:
        hook.remove()


def grad_cam(scores: Tensor, layer: Tensor, classes: Tensor, prefix: int = 0) -> Tensor:
    """(B, P) maps of one class an image.

    scores: (B, K), computed from ``layer`` with its graph, which is kept; layer: (B, prefix + P, C), of which
    the first ``prefix`` tokens (class token, registers) have no place in the map; classes: (B,)
    """
    (gradient,) = torch.autograd.grad(scores.gather(1, classes[:, None]).sum(), layer, retain_graph=True)
    weights = gradient[:, prefix:].mean(1)
    return torch.einsum("bpc,bc->bp", layer.detach()[:, prefix:], weights).relu()


class GradCAM(LinearCAM):
    """Routes: ``true`` and ``pred``. The classifier, its settings and its seed are CAM's."""

    title = "Grad-CAM"
    SEARCH = {}
    base_name = "cam"  # whose settings these are

    @functools.cached_property
    def encoder(self) -> Encoder:
        return load(replace(self.profile.encoder, compile=False), self.device)  # its inside is looked at

    def preprocessing(self) -> Preprocessing | None:
        return self.encoder.preprocessing if input_norm(self.encoder) else None

    def ahead(self, split: str, batches: Iterable[np.ndarray]) -> None:
        if self.preprocessing():
            self.reader(split).ahead(batches)
        else:
            super().ahead(split, batches)

    def localize(self, split: str, index: np.ndarray) -> dict[str, Route]:
        """As for every trained method, but with a gradient, and a ViT's from images."""
        (standardise, classifier), norm = self.net, input_norm(self.encoder)
        if norm is None:  # the last feature map itself, which is cached
            x = standardise(self.input(split, index))
            grid, prefix = x.shape[2:], 0
            layer = x.flatten(2).transpose(1, 2).requires_grad_()
            pooled = layer.mean(1)
        else:
            tokens, layer = explained(self.encoder, norm, self.photos(split, index))
            grid, prefix = tokens.shape[2:], self.encoder.body.num_prefix_tokens
            pooled = standardise(tokens).mean((2, 3))
        scores = classifier(pooled)
        maps = {
            "true": grad_cam(scores, layer, self.labels(split, index), prefix),
            "pred": grad_cam(scores, layer, scores.argmax(1), prefix),
        }
        return {name: Route(each.unflatten(1, grid), scores.detach()) for name, each in maps.items()}
