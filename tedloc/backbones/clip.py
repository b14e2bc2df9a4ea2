"""CLIP: one wrapper over open_clip for its texts, its zero-shot scores and the inside of its image tower.

CLIP-ES (``tedloc.methods.clip_es``) and the patch-anchor variants (``tedloc.methods.patch_anchor``) need what a forward
pass hides: attention weights, and the last block taken apart. The functions at the end of this file walk
open_clip's ``VisionTransformer`` block by block from the blocks' own weights, so that they do not depend on
the token order (batch first or not) of the installed open_clip.

    clip = load_clip("aviary/clip")                 # towers shipped with this package
    clip = load_clip("ViT-B-16/openai")             # any open_clip architecture and tag
    clip = load_clip("ViT-B-16-quickgelu//data/ViT-B-16.safetensors")   # or a local file
    clip = load_clip("ViT-B-16/random")             # seeded random weights: tests and timings
"""

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from huggingface_hub import try_to_load_from_cache
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from tedloc.backbones import towers
from tedloc.backbones.precision import autocast
from tedloc.backbones.preprocessing import Preprocessing
from tedloc.errors import UserError

TEXT_BATCH = 256  # prompts per pass through the text tower


@dataclass(frozen=True, eq=False)
class Clip:
    """A frozen CLIP.

    model:       open_clip model in evaluation mode, no parameter with a gradient
    tokenizer:   list of P prompts -> (P, context) int64
    image_size:  native side in pixels
    mean, std:   per-channel statistics of the model's own training, for values in [0, 1]
    logit_scale: the learned scale of the cosines, 1/temperature (OpenAI's models: 100)
    precision:   of the image tower's forward pass (``tedloc.backbones.precision``); texts are embedded in float32
    block:       :func:`run_block`, or the same compiled
    """

    model: nn.Module
    tokenizer: Callable[[list[str]], Tensor]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    logit_scale: float
    precision: str = "auto"
    block: Callable[..., tuple[Tensor, Tensor | None]] = field(default_factory=lambda: run_block)

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(self.image_size, self.mean, self.std, bicubic=True)

    def autocast(self) -> contextlib.AbstractContextManager:
        """A block in the image tower's precision."""
        return autocast(self.precision, self.device)

    @property
    def device(self) -> torch.device:
        return self.model.logit_scale.device

    @property
    def tower(self) -> VisionTransformer:
        """The image tower. Raises ``UserError`` unless open_clip's class-token ``VisionTransformer``."""
        tower = self.model.visual
        plain = (
            isinstance(tower, VisionTransformer)
            and tower.attn_pool is None
            and tower.pool_type == "tok"
            and not tower.final_ln_after_pool
            and all(isinstance(block, ResidualAttentionBlock) for block in tower.transformer.resblocks)
        )
        if not plain:
            raise UserError(
                "CLIP-ES and patch anchors work on open_clip's own VisionTransformer with a class token, not "
                f"on this model's image tower ({type(tower).__name__}); choose for example ViT-B-16"
            )
        return tower

    def preprocess(self, images: Sequence[np.ndarray] | Tensor, size: int | None = None) -> Tensor:
        """Resize straight to a square, no crop (the benchmark's test transform), and standardise.

        images: B uint8 RGB arrays (H, W, 3) of any sizes, or one uint8 tensor (B, 3, H, W).
        size:   side in pixels, None for the native one.
        Returns (B, 3, size, size) float32 on the model's device. The filter is CLIP's own: bicubic with
        antialiasing.
        """
        wanted = dataclasses.replace(self.preprocessing, size=size or self.image_size)
        if isinstance(images, Tensor):
            return wanted.normalise(wanted.resized(images).to(self.device))
        return wanted.normalise(torch.cat([wanted.square(image) for image in images]).to(self.device))

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """(P, d) unit-norm float32 embeddings of P prompts."""
        batches = [list(prompts[i : i + TEXT_BATCH]) for i in range(0, len(prompts), TEXT_BATCH)]
        embeddings = [self.model.encode_text(self.tokenizer(batch).to(self.device)) for batch in batches]
        return F.normalize(torch.cat(embeddings).float(), dim=-1)

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """(B, d) unit-norm embeddings of preprocessed images from the untouched class token.

        Sizes other than the native one need open_clip's own ``VisionTransformer`` (see ``embed``).
        """
        with self.autocast():
            if tuple(images.shape[-2:]) == (self.image_size, self.image_size):
                return F.normalize(self.model.encode_image(images).float(), dim=-1)
            tower = self.tower
            tokens = embed(tower, images)
            for block in tower.transformer.resblocks:
                tokens, _ = self.block(block, tokens)
            return project(tower, tokens[:, 0])

    def zero_shot(self, images: Tensor, text: Tensor) -> Tensor:
        """(B, K) logits: learned scale times the cosine of class token and class text (K, d)."""
        return self.logit_scale * self.encode_image(images) @ text.T


def load_clip(
    name: str,
    device: str | torch.device = "cpu",
    weights: str | Path | None = None,
    seed: int = 0,
    precision: str = "auto",
    compile: bool = False,
) -> Clip:
    """Open a CLIP by name, frozen, its weights in float32.

    name:    ``aviary/clip``, ``aviary/clip-hard`` (shipped), or ``<architecture>/<tag>``
             as open_clip lists them, where the tag may also be a local checkpoint, or ``random``.
    weights: a local checkpoint in place of the name's tag.
    seed:    of the weights of a ``random`` model.
    precision, compile: of the image tower; see ``Clip``.

    Weights behind a tag come from the model hub on first use. A tag's activation is the one it was trained
    with (QuickGELU for ``openai``); a local file's is the architecture's, so OpenAI's weights in a file go
    with the ``-quickgelu`` architectures.

    Raises ``UserError`` for an unknown name, an unreachable hub, a missing file, or a file of another model.
    """
    family, _, tag = name.partition("/")
    if family == "aviary":
        model = towers.create_clip(tag)
        size, mean, std = towers.IMAGE_SIZE, towers.MEAN, towers.STD
        tokenizer = towers.tokenizer()
    else:
        model, tokenizer = _open_clip(family, str(weights or tag), seed)
        config = open_clip.get_model_preprocess_cfg(model)
        size, mean, std = config["size"], config["mean"], config["std"]
        size = size if isinstance(size, int) else size[0]
    model = model.eval().requires_grad_(False).float().to(device)
    if torch.device(device).type == "cuda":  # where convolutions are faster so; on a CPU it would change numbers
        model = model.to(memory_format=torch.channels_last)
    scale = float(model.logit_scale.detach().exp())
    block = torch.compile(run_block) if compile else run_block
    return Clip(model, tokenizer, size, tuple(mean), tuple(std), scale, precision, block)


def in_reach(name: str) -> bool:
    """Whether a CLIP's weights are on this machine: shipped, a local file, at random, or in the hub's cache."""
    architecture, _, tag = name.partition("/")
    if architecture == "aviary" or tag == "random" or Path(tag).is_file():
        return True
    config = open_clip.get_pretrained_cfg(architecture, tag) or {}
    repository = (config.get("hf_hub") or "").rstrip("/")
    files = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(repository, file), str) for file in files) if repository else False


def _open_clip(architecture: str, tag: str, seed: int) -> tuple[nn.Module, Callable]:
    """Model and tokenizer of an open_clip architecture with the weights of a tag, a file, or at random."""
    if architecture not in open_clip.list_models():
        raise UserError(
            f"unknown CLIP architecture {architecture!r}; choose aviary/clip or <architecture>/<tag> with "
            "one of open_clip.list_models(), for example ViT-B-16/openai"
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag == "random":
        settings = {"load_weights": False, "pretrained_text": False}
    elif tag in tags:
        # open_clip 3.3 only warns when a tag's activation differs from its architecture's
        settings = {"pretrained": tag, "force_quick_gelu": wants_quick_gelu(architecture, tag)}
    elif Path(tag).is_file():
        settings = {"pretrained": tag}
    else:
        raise UserError(
            f"{architecture}/{tag}: neither a tag of this architecture ({', '.join(tags) or 'it has none'}) "
            "nor a file; correct the name or give the path of a checkpoint"
        )
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)  # what open_clip logs here is either routine or in the sentence below
    try:
        with torch.random.fork_rng(devices=[]):  # open_clip draws from the global generator
            torch.manual_seed(seed)
            model = open_clip.create_model(architecture, **settings)
        return model, open_clip.get_tokenizer(architecture)
    except Exception as error:  # hub, file and shape errors have no common class
        if Path(tag).is_file():
            raise UserError(
                f"{tag}: not a checkpoint of {architecture}; give the architecture it was trained with"
            ) from error
        config = open_clip.get_pretrained_cfg(architecture, tag)
        raise UserError(
            f"{architecture}/{tag}: the model hub cannot be reached for "
            f"{config.get('hf_hub') or 'its text encoder'}; call load_clip once on a machine with a network, "
            "copy its Hugging Face cache here and set HF_HUB_OFFLINE=1, or name a local checkpoint in place "
            "of the tag"
        ) from error
    finally:
        logging.disable(level)


def wants_quick_gelu(architecture: str, tag: str) -> bool:
    """Whether the weights behind a tag were trained with QuickGELU, x * sigmoid(1.702 x)."""
    return bool(open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", False))


# The image tower, taken apart. Tokens are (B, 1 + h * w, width), class token first, patches row by row.


def grid_of(tower: VisionTransformer, images: Tensor) -> tuple[int, int]:
    """Rows and columns (h, w) of patches. Raises ``UserError`` unless the patch size divides the image."""
    (height, width), (patch_h, patch_w) = images.shape[-2:], tower.patch_size
    if height % patch_h or width % patch_w:
        raise UserError(
            f"images of {height}x{width} pixels do not divide into patches of {patch_h}x{patch_w}; set the "
            f"input size to a multiple of {patch_h}"
        )
    return height // patch_h, width // patch_w


def embed(tower: VisionTransformer, images: Tensor) -> Tensor:
    """Tokens before the first block; for other sizes, position embeddings are interpolated (bicubic)."""
    grid = grid_of(tower, images)
    patches = tower.conv1(images).flatten(2).transpose(1, 2)
    tokens = torch.cat([tower.class_embedding.expand(len(images), 1, -1), patches], dim=1)
    positions = resample_abs_pos_embed(tower.positional_embedding[None], list(grid), list(tower.grid_size))
    return tower.ln_pre(tokens + positions)


def qkv(block: ResidualAttentionBlock, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, each (B, heads, L, width/heads), of tokens that passed ``ln_1``."""
    packed = F.linear(normed, block.attn.in_proj_weight, block.attn.in_proj_bias)
    return packed.unflatten(-1, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def softmax_attention(query: Tensor, key: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(head width) + bias): weights (B, heads, L, L), rows sum to one."""
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return (logits if bias is None else logits + bias).softmax(dim=-1)


def attention_output(block: ResidualAttentionBlock, mixed: Tensor) -> Tensor:
    """What the attention branch adds to the tokens: heads (B, heads, L, .) merged, projected, scaled."""
    return block.ls_1(block.attn.out_proj(mixed.transpose(1, 2).flatten(2)))


def feed_forward(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """The second half of a block, its residual included."""
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def run_block(
    block: ResidualAttentionBlock, tokens: Tensor, weights: bool = False, normed: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """One block: tokens after it and, if asked for, its attention weights (B, heads, L, L), else None.

    normed: the output of ``ln_1`` when the caller needs it as a variable of its own (Grad-CAM).
    """
    query, key, value = qkv(block, block.ln_1(tokens) if normed is None else normed)
    attention = softmax_attention(query, key) if weights else None
    mixed = attention @ value if weights else F.scaled_dot_product_attention(query, key, value)
    return feed_forward(block, tokens + attention_output(block, mixed)), attention


def project(tower: VisionTransformer, tokens: Tensor) -> Tensor:
    """Final norm, projection into the joint space and L2 normalisation: (..., width) -> (..., d)."""
    return F.normalize((tower.ln_post(tokens) @ tower.proj).float(), dim=-1)
