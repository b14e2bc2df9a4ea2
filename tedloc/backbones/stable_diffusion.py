"""Stable Diffusion v1's parts, built from configurations written out here; random weights, no hub.

GenPromp (Zhao et al., ICCV 2023) localises with three of them at 512x512 pixels: the VAE's encoder makes a
latent, the text encoder embeds the prompt, the U-Net predicts noise, and the U-Net's cross-attention to the
class word is the map. The VAE's decoder, which turns latents back into pixels, has no part in that.

Reference for the numbers: R. Rombach et al., CVPR 2022, and the public v1-4 model configuration.
"""

import torch
from torch import nn

from tedloc.errors import UserError

IMAGE_SIZE = 512
LATENT = (4, 64, 64)  # channels and side of the latent of a 512x512 image
TEXT_LENGTH = 77  # tokens of a prompt
VOCABULARY = 49408

UNET = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
VAE = {
    "sample_size": 512,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": TEXT_LENGTH,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}


def library(name: str):
    """diffusers or transformers, of the optional ``diffusion`` set of packages."""
    try:
        return __import__(name)
    except ImportError as error:
        raise UserError(f"Stable Diffusion's architecture needs {name}: pip install 'tedloc[diffusion]'") from error


def unet() -> nn.Module:
    """The denoiser: ``unet(latent (B, 4, 64, 64), timestep, text (B, 77, 768))``."""
    return library("diffusers").UNet2DConditionModel(**UNET)


def vae() -> nn.Module:
    """The autoencoder. Its encoder with ``quant_conv`` maps (B, 3, 512, 512) to (B, 8, 64, 64) moments."""
    return library("diffusers").AutoencoderKL(**VAE)


class VAEEncoder(nn.Sequential):
    """(B, 3, 512, 512) -> (B, 8, 64, 64): mean and log-variance of the latent."""

    def __init__(self, autoencoder: nn.Module):
        super().__init__(autoencoder.encoder, autoencoder.quant_conv)


class VAEDecoder(nn.Sequential):
    """(B, 4, 64, 64) -> (B, 3, 512, 512). Not run for localization."""

    def __init__(self, autoencoder: nn.Module):
        super().__init__(autoencoder.post_quant_conv, autoencoder.decoder)


def text_encoder(new_tokens: int = 0) -> nn.Module:
    """CLIP ViT-L/14's text encoder: (B, 77) token ids -> hidden states (B, 77, 768).

    new_tokens: words added to the vocabulary; GenPromp learns one a class.
    """
    transformers = library("transformers")
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(vocab_size=VOCABULARY + new_tokens, **TEXT))


def example_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs of one U-Net pass on the default device: latent, timestep, text states."""
    return torch.zeros(1, *LATENT), torch.tensor(0), torch.zeros(1, TEXT_LENGTH, TEXT["hidden_size"])
