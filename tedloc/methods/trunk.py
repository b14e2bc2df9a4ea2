"""The base of methods that were published with a convolutional network trained as a whole: PSOL and C2AM's regressor,
BAS, DA-WSOL. Here the profile's encoder takes its place.
"""

from torch import Tensor, nn

from tedloc.backbones.encoders import Encoder, load_encoder
from tedloc.methods.trained import Trained


class Trunk(nn.Module):
    """An encoder to be trained: images (B, 3, S, S) -> patch embeddings (B, C, h, w). Batch norm in it keeps its
    statistics, so that the embeddings of an image do not depend on its batch."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder.requires_grad_(True)
        self.dim, self.preprocess = encoder.dim, encoder.preprocess

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder(images)


class EarlyTrunk(Trunk):
    """The first blocks of a plain ViT: images -> patch embeddings that the rest (:class:`LateTrunk`) goes on with."""

    def __init__(self, encoder: Encoder, blocks: int):
        super().__init__(encoder)
        encoder.body.blocks = encoder.body.blocks[:blocks]

    def forward(self, images: Tensor) -> Tensor:
        body = self.encoder.body
        last = len(body.blocks) - 1
        return body.forward_intermediates(images, [last], norm=False, intermediates_only=True)[0]


class LateTrunk(nn.Module):
    """The other blocks and the last norm, on patch embeddings (B, C, h, w) alone, without class token: (B, C, h, w)."""

    def __init__(self, encoder: Encoder, blocks: int):
        super().__init__()
        body = encoder.body.requires_grad_(True)
        self.layers = nn.Sequential(*body.blocks[blocks:], body.norm, body.fc_norm)  # one of the norms does nothing

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.layers(x.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class FineTunedTrunk(Trained):
    """A copy of the profile's encoder is trained along where that takes seconds an epoch (the aviary's). Elsewhere the
    encoder stays frozen, the network is given its patch embeddings, and the row's backbone says so."""

    @property
    def on_images(self) -> bool:
        return self.profile.encoder.name.startswith("aviary/")

    @property
    def backbone_name(self) -> str:
        return self.profile.encoder.name + ("" if self.on_images else " (frozen)")

    def trunk(self) -> Trunk:
        """A trainable copy of the encoder with its pre-trained weights."""
        return Trunk(self._encoder())

    def halves(self, blocks: int) -> tuple[EarlyTrunk, LateTrunk]:
        """A trainable copy of the encoder, cut after so many of its blocks."""
        return EarlyTrunk(self._encoder(), blocks), LateTrunk(self._encoder(), blocks)

    def _encoder(self) -> Encoder:
        e = self.profile.encoder
        return load_encoder(e.name, image_size=e.image_size, weights=e.weights)
