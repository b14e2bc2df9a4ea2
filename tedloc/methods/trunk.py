"""The base of methods that were published with a convolutional network trained as a whole: PSOL and C2AM's regressor,
BAS, DA-WSOL. Here the profile's encoder takes its place: frozen, or, with the setting ``whole``, trained along. On the
aviary's validation split frozen was far better for the same minutes (BAS: 74 against 27 in MaxBoxAcc), so that is the
default.
"""

from torch import Tensor, nn

from tedloc.backbones.encoders import Encoder, load_encoder, tapped
from tedloc.errors import UserError
from tedloc.methods.trained import Trained


class Trunk(nn.Module):
    """An encoder to be trained: images (B, 3, S, S) -> patch embeddings (B, C, h, w). Batch norm in it keeps its
    statistics, so that the embeddings of an image do not depend on its batch."""

    pretrained = True

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder.requires_grad_(True)
        self.dim, self.preprocessing = encoder.dim, encoder.preprocessing

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder.embed(images)  # in the precision of the training


class EarlyTrunk(Trunk):
    """The first stages of the aviary's encoder: images -> features that the rest (:class:`LateTrunk`) goes on with."""

    def __init__(self, encoder: Encoder, stages: int):
        super().__init__(tapped(encoder, stages))
        for stage in range(stages + 1, encoder.body.depth + 1):
            setattr(encoder.body, f"stage{stage}", nn.Identity())


class LateTrunk(nn.Module):
    """The other stages: (B, C, h, w) -> (B, 128, h, w). Batch norm keeps its statistics here, too."""

    pretrained = True

    def __init__(self, encoder: Encoder, stages: int):
        super().__init__()
        body = encoder.body.requires_grad_(True)
        self.layers = nn.Sequential(*(getattr(body, f"stage{n}") for n in range(stages + 1, body.depth + 1)))
        self.dim = body.num_features
        self.eval()

    def train(self, mode: bool = True) -> "LateTrunk":
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class FineTunedTrunk(Trained):
    """With its own setting ``whole`` a copy of the profile's encoder is trained along, the aviary's CNN alone. Without,
    the encoder is frozen, the network is given its patch embeddings, and the row's backbone says so."""

    @property
    def on_images(self) -> bool:
        if self.own.whole and not self.profile.encoder.name.startswith("aviary/cnn"):
            raise UserError(
                f"methods.{self.base_name}.whole trains the aviary's CNN along, and {self.profile.encoder.name!r} is "
                "another encoder; unset it"
            )
        return self.own.whole

    @property
    def backbone_name(self) -> str:
        return self.profile.encoder.name + ("" if self.on_images else " (frozen)")

    def trunk(self) -> Trunk:
        """A trainable copy of the encoder with its pre-trained weights."""
        return Trunk(self._encoder())

    def halves(self, stages: int) -> tuple[EarlyTrunk, LateTrunk]:
        """A trainable copy of the encoder, cut after so many of its stages."""
        return EarlyTrunk(self._encoder(), stages), LateTrunk(self._encoder(), stages)

    def _encoder(self) -> Encoder:
        e = self.profile.encoder
        return load_encoder(e.name, image_size=e.image_size, weights=e.weights)
