"""The base of methods that fine-tune a plain ViT and localise with its attention: TS-CAM and its successors."""

from tedloc.backbones.attention import AttentionViT
from tedloc.backbones.encoders import in_reach
from tedloc.methods.trained import Trained

DEIT_S = "timm/deit_small_patch16_224.fb_in1k"  # the published backbone of TS-CAM, SCM, LCTR and CATR


def vit_beside(encoder: str) -> str | None:
    """The ViT of the aviary that belongs to an encoder of its, of the same world; None beside any other encoder."""
    return encoder.replace("aviary/cnn", "aviary/vit") if encoder.startswith("aviary/") else None


class FineTunedViT(Trained):
    """``self.own.backbone`` names the ViT; None: the aviary's own there, else DeiT-S."""

    on_images = True

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
