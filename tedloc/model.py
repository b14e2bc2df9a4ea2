"""The trained part of TeD-Loc (section 3): decoder D, patch classifier g, pooling (Eq. 3) and class scores.

The frozen encoder comes before it (:mod:`tedloc.backbones.encoders`); anchors are made once (:mod:`tedloc.anchors`).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc.errors import UserError
from tedloc.settings import DecoderSettings

UPSAMPLINGS = (1, 2, 4, 8, 16)


class Output(NamedTuple):
    """What the model says of a batch. H, W: the decoder's grid.

    D ends in a linear layer and g is linear, so that g and h follow from what the layer is given; z_p itself is made
    only where a loss or a map asks for it.
    """

    features: Tensor  # (B, width, H, W), what the last layer of D is given
    last: nn.Module  # that layer: features -> z_p
    g: Tensor  # (B, H, W) logits of g(z_p); the map M is their sigmoid
    h: Tensor  # (B, d) image embedding, Eq. 3
    scores: Tensor  # (B, K) <h, t_k>

    @property
    def z(self) -> Tensor:
        """(B, d, H, W) patch embeddings z_p, all of them."""
        return self.last(self.features)

    def z_at(self, pixels: Tensor) -> Tensor:
        """(B, n, d) patch embeddings at some pixels. pixels: (B, n) flat indices into the grid."""
        index = pixels[..., None].expand(-1, -1, self.features.shape[1])
        chosen = patches(self.features).gather(1, index)
        return patches(self.last(chosen.transpose(1, 2)[..., None]))


class DoublingConv(nn.Conv2d):
    """Nearest-neighbour doubling, then a 3x3 convolution without bias: (B, C, h, w) -> (B, C', 2h, 2w).

    Of the nine pixels that the convolution sees, those that doubling made of one are the same: as one transposed
    convolution it takes four products for each nine.
    """

    def __init__(self, dim_in: int, dim_out: int):
        super().__init__(dim_in, dim_out, 3, padding=1, bias=False)
        spread = [[0.0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]]  # weights of a row that each row of the 4x4 kernel sums
        self.register_buffer("spread", torch.tensor(spread), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.spread @ self.weight @ self.spread.T  # (C', C, 4, 4)
        return F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2, padding=1)


class Decoder(nn.Sequential):
    """D: (B, C, h, w) patch embeddings of the encoder -> (B, d, s*h, s*w) patch embeddings z_p.

    A 3x3 convolution to ``width``, then log2(upsampling) blocks of nearest-neighbour doubling and 3x3
    convolutions, each followed by batch norm and ReLU; a 1x1 convolution to d. No skip connections.
    """

    def __init__(self, dim_in: int, dim_out: int, settings: DecoderSettings):
        if settings.upsampling not in UPSAMPLINGS:
            raise UserError(f"decoder.upsampling is {settings.upsampling}; use one of {UPSAMPLINGS}")
        if settings.convs < 1:
            raise UserError(f"decoder.convs is {settings.convs}; a block needs at least one convolution")
        width = settings.width

        def conv(channels: int) -> nn.Module:
            return nn.Conv2d(channels, width, 3, padding=1, bias=False)

        convs = [conv(dim_in)]
        for _ in range(settings.upsampling.bit_length() - 1):
            convs += [DoublingConv(width, width), *(conv(width) for _ in range(settings.convs - 1))]
        layers = [layer for conv in convs for layer in (conv, nn.BatchNorm2d(width), nn.ReLU())]
        super().__init__(*layers, nn.Conv2d(width, dim_out, 1))

    def features(self, tokens: Tensor) -> Tensor:
        """(B, width, s*h, s*w): what its last layer makes z_p of, each patch by itself."""
        for layer in list(self)[:-1]:
            tokens = layer(tokens)
        return tokens


def pool(z: Tensor, weights: Tensor, eps: float = 1e-6) -> Tensor:
    """Eq. 3: h = sum_p a_p z_p with a_p = g(z_p) / sum_j g(z_j).

    z: (B, d, H, W); weights: (B, H, W) non-negative, g as probabilities. Returns (B, d). Where all weights
    vanish the sum is held at ``eps``, so that h tends to zero and its gradient stays finite.
    """
    total = weights.flatten(1).sum(1).clamp_min(eps)
    return (weights.flatten(1)[:, None] @ patches(z))[:, 0] / total[:, None]


def patches(z: Tensor) -> Tensor:
    """(B, H*W, d) of (B, d, H, W): a view where z lies channels last, as convolutions here leave it."""
    return z.permute(0, 2, 3, 1).flatten(1, 2)


class TeDLoc(nn.Module):
    """Decoder, patch classifier and frozen anchors.

    dim_in:  channels C of the encoder's patch grid
    anchors: (K, d) class anchors t_k; kept as a buffer, never trained
    """

    anchors: Tensor

    def __init__(self, dim_in: int, anchors: Tensor, decoder: DecoderSettings = DecoderSettings()):
        super().__init__()
        self.register_buffer("anchors", anchors.detach().clone().float())
        self.decoder = Decoder(dim_in, anchors.shape[1], decoder)
        self.g = nn.Conv2d(anchors.shape[1], 1, 1)  # linear on each z_p

    def forward(self, tokens: Tensor) -> Output:
        """What the model says of a batch.

        tokens: (B, C, h, w) from the frozen encoder

        Eq. 3 is taken before D's last layer, with the same result, since its weights sum to one. Where all of them
        vanish, h is that layer's bias.
        """
        features, last = self.decoder.features(tokens), self.decoder[-1]  # z_p = last(u_p)
        g = F.conv2d(features, *composed(self.g, last)).squeeze(1)  # g(z_p) = g(last(u_p))
        h = last(pool(features, g.sigmoid())[..., None, None]).flatten(1)  # Eq. 3
        return Output(features, last, g, h, F.linear(h, self.anchors))


def composed(outer: nn.Conv2d, inner: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one 1x1 convolution that does what ``outer(inner(x))`` does, both 1x1."""
    weight = outer.weight.flatten(1)
    return (weight @ inner.weight.flatten(1))[..., None, None], weight @ inner.bias + outer.bias


def anchor_maps(z: Tensor, anchors: Tensor, classes: Tensor) -> Tensor:
    """Patch-anchor localization (appendix B.1): <z_p, t_y> at every patch.

    z: (B, d, H, W); anchors: (K, d); classes: (B,) true or predicted classes. Returns (B, H, W).
    """
    return torch.einsum("bdhw,bd->bhw", z, anchors[classes])
