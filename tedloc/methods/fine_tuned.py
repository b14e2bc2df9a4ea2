"""The base of methods that fine-tune a plain ViT and localise with its attention: TS-CAM and its successors, DiPS."""

import numpy as np
import torch
from torch import Tensor, nn

from tedloc.backbones.attention import AttentionViT
from tedloc.backbones.encoders import in_reach
from tedloc.methods import Shape
from tedloc.methods.trained import Trained

DEIT_S = "timm/deit_small_patch16_224.fb_in1k"  # the published backbone of TS-CAM, SCM, LCTR and CATR


def vit_beside(encoder: str) -> str | None:
    """The ViT of the aviary that belongs to an encoder of its, of the same world; None beside any other encoder."""
    return encoder.replace("aviary/cnn", "aviary/vit") if encoder.startswith("aviary/") else None


class FineTunedViT(Trained):
    """``self.own.backbone`` names the ViT; None: the aviary's own there, else DeiT-S."""

    uses = ("data", "encoder")

    @property
    def backbone_name(self) -> str:
        return self.own.backbone or vit_beside(self.profile.encoder.name) or DEIT_S

    def backbone(self) -> AttentionViT:
        """A trainable copy with its pre-trained weights."""
        encoder = self.profile.encoder
        same = self.backbone_name == encoder.name
        return AttentionViT(self.backbone_name, encoder.image_size if same else None, encoder.weights if same else None)

    def lacks(self) -> str | None:
        return None if in_reach(self.backbone_name) else f"{self.backbone_name.removeprefix('timm/')} (model hub)"

    @property
    def shape(self) -> Shape:
        return Shape(3, None, self.classes)

    def share(self) -> None:
        """Nothing: it is trained on images."""

    def front(self) -> nn.Module:
        return nn.Identity()

    @property
    def views(self) -> int:
        return 1 + self.profile.encoder.mirror

    def input(self, split: str, index: np.ndarray, view: np.ndarray | int = 0) -> Tensor:
        images = self.images(split)
        x = self.preprocess([images.image(i) for i in index]).to(self.device)
        mirrored = torch.from_numpy(np.broadcast_to(view, len(index)) == 1).to(self.device)
        return torch.where(mirrored[:, None, None, None], x.flip(-1), x)

    def preprocess(self, images: list[np.ndarray]) -> Tensor:
        """(B, 3, S, S) as the backbone wants them, from RGB images (H, W, 3) uint8."""
        return next(m for m in self.net.modules() if isinstance(m, AttentionViT)).preprocess(images)

    def modules(self) -> dict[str, nn.Module]:
        return {"network": self.net[1]}
