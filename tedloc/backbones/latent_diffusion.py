"""Latent diffusion with text: one interface to the aviary's own small model and to Stable Diffusion v1.

    model = load_diffusion("aviary/diffusion")            # ships with this package
    model = load_diffusion("/data/stable-diffusion-v1-4") # a folder in diffusers' layout; nothing is fetched

An autoencoder turns an image into a latent z. A U-Net sees z at time t of 1,000 and tells the noise e in it,

    z_t = sqrt(a_t) z + sqrt(1 - a_t) e,        a_t falls from nearly 1 to nearly 0

while it attends to the hidden states of a frozen text encoder, one state a token. How much each place of the
image attends to a token is that token's cross-attention map. Both models are built from diffusers'
``AutoencoderKL`` and ``UNet2DConditionModel``; the text encoder is Stable Diffusion's own, or the text tower
of ``aviary/clip``.

Reference: R. Rombach et al., CVPR 2022. ``data_scripts/train_diffusion.py`` trains the small model.
"""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import open_clip
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc import paths
from tedloc.backbones import towers
from tedloc.backbones.preprocessing import Preprocessing
from tedloc.backbones.stable_diffusion import library
from tedloc.errors import UserError

AVIARY = "aviary/diffusion"
FOLDERS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")  # diffusers' layout of Stable Diffusion

# The aviary's model. An image of 80x80 pixels has a latent of 4x20x20; cross-attention at 10x10 and 5x5. The
# times are Stable Diffusion's.
TIMES = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
}
LATENT = (4, 20, 20)
VAE = {
    "sample_size": towers.IMAGE_SIZE,
    "latent_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (16, 32, 64),
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
}
UNET = {
    "sample_size": LATENT[1],
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (32, 64, 96),
    "norm_num_groups": 16,
    "cross_attention_dim": 128,
    "attention_head_dim": 4,  # what diffusers calls so is the number of heads
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}


class Text(NamedTuple):
    """states: (B, L, D) of the tokens; visible: (B, L) bool, the tokens that the U-Net may attend to."""

    states: Tensor
    visible: Tensor


class Denoised(NamedTuple):
    """noise: (B, 4, h, w), as told; maps: cross-attention by layer, (B, heads, h', w', L), sums to 1 on L."""

    noise: Tensor
    maps: dict[str, Tensor]


class Vocabulary(nn.Module):
    """A text encoder's table of input embeddings. new: (K, D) rows with ids after the table's, or None."""

    def __init__(self, table: nn.Embedding):
        super().__init__()
        self.table, self.new = table, None

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.table.weight
        return F.embedding(ids, rows if self.new is None else torch.cat([rows, self.new]))


class TextEncoder(nn.Module, ABC):
    """(B, length) ids -> (B, length, dim) hidden states. start, end, pad: ids of the tokens of that name."""

    start: int
    end: int
    pad: int
    length: int
    sees_padding: bool  # whether the U-Net was trained to attend to the end token and the padding too
    vocabulary: Vocabulary

    @abstractmethod
    def words(self, text: str) -> list[int]:
        """The ids of a text alone."""


class TowerText(TextEncoder):
    """The text tower of an open_clip CLIP of the aviary: its token states before they are pooled."""

    sees_padding = False  # with so few captions, all of them would say what the end token says

    def __init__(self, clip: open_clip.CLIP):
        super().__init__()
        self.tokenizer = towers.tokenizer()
        self.start, self.end, self.pad = self.tokenizer.start, self.tokenizer.end, self.tokenizer.pad
        self.length, self.vocabulary = self.tokenizer.context_length, Vocabulary(clip.token_embedding)
        self.transformer, self.ln_final = clip.transformer, clip.ln_final
        self.register_buffer("positions", clip.positional_embedding.detach())
        self.register_buffer("causal", clip.attn_mask)

    def words(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def forward(self, ids: Tensor) -> Tensor:
        return self.ln_final(self.transformer(self.vocabulary(ids) + self.positions, attn_mask=self.causal))


class StableText(TextEncoder):
    """Stable Diffusion's own text encoder, CLIP's of transformers."""

    sees_padding = True

    def __init__(self, model: nn.Module, tokenizer):
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.start, self.end = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.pad = tokenizer.pad_token_id
        self.length = model.config.max_position_embeddings
        self.vocabulary = Vocabulary(model.get_input_embeddings())
        model.set_input_embeddings(self.vocabulary)

    def words(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(ids).last_hidden_state


class KeepWeights:
    """diffusers' attention processor for cross-attention, in the open: the weights go to ``kept[name]``."""

    def __init__(self, name: str, kept: dict[str, Tensor]):
        self.name, self.kept = name, kept

    def __call__(
        self, attn, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask=None, temb=None
    ) -> Tensor:
        batch, places, _ = hidden_states.shape
        mask = attn.prepare_attention_mask(attention_mask, encoder_hidden_states.shape[1], batch)
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key, value = (attn.head_to_batch_dim(f(encoder_hidden_states)) for f in (attn.to_k, attn.to_v))
        weights = attn.get_attention_scores(query, key, mask)
        side = math.isqrt(places)  # latents are square
        self.kept[self.name] = weights.unflatten(0, (batch, -1)).unflatten(2, (side, side))
        output = attn.batch_to_head_dim(weights @ value)
        for layer in attn.to_out:
            output = layer(output)
        return output


class Diffusion(nn.Module):
    """Autoencoder, U-Net and text encoder, frozen and in eval mode; ``unet`` may be made trainable.

    scheduler: diffusers', for its a_t alone
    """

    def __init__(self, vae: nn.Module, unet: nn.Module, text: TextEncoder, scheduler):
        super().__init__()
        self.vae, self.unet, self.text = vae, unet, text
        self.register_buffer("kept_signal", scheduler.alphas_cumprod.clone())  # a_t, (T,)
        self.image_size = unet.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1)
        self.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return self.kept_signal.device

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(self.image_size, (0.5,) * 3, (0.5,) * 3)

    def encode(self, squares: Tensor, mirrored: Tensor | None = None) -> Tensor:
        """(B, 4, h, w) latents, the mean of the autoencoder's posterior, of about unit variance.

        squares: (B, 3, S, S) uint8 as ``preprocessing`` makes them, on the model's device
        mirrored: (B,) bool, which of them to mirror; None: none
        """
        x = self.preprocessing.normalise(squares)
        if mirrored is not None:
            x = torch.where(mirrored.to(self.device)[:, None, None, None], x.flip(-1), x)
        with torch.no_grad():
            return self.vae.encode(x).latent_dist.mode().float() * self.vae.config.scaling_factor

    def prompts(self, opening: str, words: Sequence[Sequence[int]]) -> Tensor:
        """(B, length) ids of B prompts with one opening.

        words: ids that follow it, the first at :meth:`position`; too long ones lose their last
        """
        e = self.text
        rows = torch.full((len(words), e.length), e.pad)
        for row, ids in zip(rows, words, strict=True):
            ids = [e.start, *e.words(opening), *ids][: e.length - 1] + [e.end]
            row[: len(ids)] = torch.tensor(ids)
        return rows.to(self.device)

    def position(self, opening: str) -> int:
        """Where the first word after the opening stands in a prompt; the start token stands at 0."""
        return 1 + len(self.text.words(opening))

    def embed(self, ids: Tensor, new: Tensor | None = None) -> Text:
        """Hidden states of prompts.

        ids: (B, length); those from the vocabulary's size on stand for the rows of ``new`` (K, D)
        """
        self.text.vocabulary.new = new
        try:
            states = self.text(ids)
        finally:
            self.text.vocabulary.new = None
        if self.text.sees_padding:
            return Text(states, torch.ones_like(ids, dtype=torch.bool))
        return Text(states, (ids == self.text.end).cumsum(1) == 0)

    def noisy(self, latent: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """z_t from z. latent, noise: (B, 4, h, w); t: (B,) or one for all."""
        a = self.kept_signal[torch.as_tensor(t, device=self.device)].expand(len(latent))[:, None, None, None]
        return a.sqrt() * latent + (1 - a).sqrt() * noise

    def denoise(self, latent: Tensor, t: Tensor | int, text: Text, maps: bool = False) -> Denoised:
        """The noise in z_t, (B, 4, h, w), and, if asked for, all cross-attention."""
        kept: dict[str, Tensor] = {}
        usual = self.unet.attn_processors
        if maps:
            self.unet.set_attn_processor(
                {name: KeepWeights(name, kept) if ".attn2." in name else processor for name, processor in usual.items()}
            )
        try:
            noise = self.unet(latent, t, text.states, encoder_attention_mask=text.visible).sample
        finally:
            if maps:
                self.unet.set_attn_processor(usual)
        return Denoised(noise, kept)

    def loss(self, latent: Tensor, text: Text, noise: Tensor, t: Tensor) -> Tensor:
        """Mean squared error of the noise told. latent: (B, 4, h, w); noise: as much, standard normal; t: (B,), drawn
        uniformly below ``len(kept_signal)``."""
        return F.mse_loss(self.denoise(self.noisy(latent, noise, t), t, text).noise, noise)


def new_diffusion(scaling_factor: float = 1.0) -> Diffusion:
    """The aviary's model with random weights (global torch generator), on the text tower of ``aviary/clip``.

    scaling_factor: brings latents to unit variance
    """
    diffusers = library("diffusers")
    vae = diffusers.AutoencoderKL(**VAE, scaling_factor=scaling_factor)
    return Diffusion(
        vae, diffusers.UNet2DConditionModel(**UNET), TowerText(towers.create_clip()), diffusers.DDPMScheduler(**TIMES)
    )


def trained_parts(model: Diffusion) -> dict[str, nn.Module]:
    """What ``data_scripts/train_diffusion.py`` trains and ships."""
    return {"vae": model.vae, "unet": model.unet}


def load_diffusion(name: str, device: str | torch.device = "cpu") -> Diffusion:
    """A model by name, frozen, in float32: ``aviary/diffusion``, or a folder with Stable Diffusion v1.

    Raises ``UserError`` for a missing package, a missing or damaged file or folder, and for weights of the
    aviary that were trained with another text tower than the one that ships.
    """
    model = _aviary() if name == AVIARY else _stable(Path(name).expanduser())
    return model.to(device)


def _aviary() -> Diffusion:
    file, again = paths.WEIGHTS / "diffusion.safetensors", "restore it or run data_scripts/train_diffusion.py"
    index = file.with_suffix(".json")
    for needed in (file, index):
        if not needed.exists():
            raise UserError(f"{needed} is missing; {again}")
    record, content = json.loads(index.read_text()), file.read_bytes()
    if hashlib.sha256(content).hexdigest() != record["sha256"]:
        raise UserError(f"{file} is damaged: its sha256 is not that of {index.name}; {again}")
    if record["text_sha256"] != towers.records()["clip"]["sha256"]:
        raise UserError(f"{file} was trained with another text tower than clip.safetensors; {again}")
    model = new_diffusion(record["scaling_factor"])
    state = load_safetensors(content)
    for part, module in trained_parts(model).items():
        start = f"{part}."
        module.load_state_dict({k[len(start) :]: v.float() for k, v in state.items() if k.startswith(start)})
    return model


def missing_folders(folder: Path) -> list[str]:
    """Which parts of Stable Diffusion in diffusers' layout a folder lacks."""
    return [part for part in FOLDERS if not (folder / part).is_dir()]


def _stable(folder: Path) -> Diffusion:
    if lacking := missing_folders(folder):
        raise UserError(
            f"{folder} has no folder {', '.join(lacking)}; name {AVIARY} or a folder that holds "
            "Stable Diffusion v1 in diffusers' layout"
        )
    diffusers, transformers = library("diffusers"), library("transformers")
    here = {"local_files_only": True}
    try:
        plain = here | {"low_cpu_mem_usage": False}
        vae = diffusers.AutoencoderKL.from_pretrained(folder, subfolder="vae", **plain)
        unet = diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet", **plain)
        scheduler = diffusers.DDPMScheduler.from_pretrained(folder, subfolder="scheduler", **here)
        text = transformers.CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", **here)
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", **here)
    except Exception as error:  # the libraries and safetensors raise a dozen kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{folder} cannot be read as Stable Diffusion v1 ({reason}); copy it anew") from error
    return Diffusion(vae.float(), unet.float(), StableText(text.float(), tokenizer), scheduler)
