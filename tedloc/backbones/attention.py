"""A plain ViT that also says where each block looked: the attention that TS-CAM and its successors localise with.

Works on timm's ``VisionTransformer``: the aviary's encoder, DeiT-S, DINO. Attention weights are computed in the
open instead of in a fused kernel, so gradients flow through them where a method needs that.
"""

from typing import NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tedloc.backbones.encoders import load_encoder
from tedloc.errors import UserError


class Seen(NamedTuple):
    """cls: (B, C) normalised class token; tokens: (B, C, h, w) normalised patch tokens;
    attention: L blocks' weights, each (B, heads, 1 + h*w, 1 + h*w), class token first, rows sum to one."""

    cls: Tensor
    tokens: Tensor
    attention: list[Tensor]

    def cls_to_patches(self) -> Tensor:
        """(B, L, heads, h, w): how much the class token attends to each patch, in every block and head."""
        rows = torch.stack([weights[:, :, 0, 1:] for weights in self.attention], dim=1)
        return rows.unflatten(-1, self.tokens.shape[2:])


class AttentionViT(nn.Module):
    """A trainable copy of an encoder's ViT whose forward pass keeps the attention weights of all blocks.

    name, image_size, weights: as in ``tedloc.backbones.encoders.load_encoder``
    Raises ``UserError`` for an encoder that is not a plain ViT with a class token.
    """

    def __init__(self, name: str, image_size: int | None = None, weights: str | None = None):
        super().__init__()
        encoder = load_encoder(name, image_size=image_size, weights=weights)
        if not isinstance(encoder.body, VisionTransformer) or encoder.body.num_prefix_tokens != 1:
            raise UserError(
                f"{name!r} is not a plain ViT with a class token, whose attention the method needs; "
                "choose aviary/vit or timm/deit_small_patch16_224.fb_in1k"
            )
        self.preprocessing = self.preprocess = encoder.preprocessing
        self.body = encoder.body.requires_grad_(True)
        self.body.set_grad_checkpointing(False)
        self.dim, self.depth, self.heads = encoder.dim, len(self.body.blocks), self.body.blocks[0].attn.num_heads
        self._weights: list[Tensor] = []
        for block in self.body.blocks:
            block.attn.fused_attn = False
            block.attn.attn_drop.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple, weights: Tensor) -> None:
        self._weights.append(weights)

    def forward(self, images: Tensor) -> Seen:
        """images: (B, 3, S, S), prepared by ``preprocess``."""
        self._weights = []
        x = self.body.forward_features(images)
        attention, self._weights = self._weights, []
        tokens = x[:, 1:].transpose(1, 2).unflatten(2, self.body.patch_embed.grid_size)
        return Seen(x[:, 0], tokens, attention)
