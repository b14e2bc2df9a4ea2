"""The aviary's towers: a frozen encoder, a ViT and a small CLIP, trained by ``data_scripts/train_towers.py``.

``cnn``   the frozen encoder E that TeD-Loc, CAM, DDT, PSOL, C2AM, BAS and DA-WSOL look through: a residual network of
          five blocks, trained by the mean of its patch embeddings, so that each says what is seen *there*. The chapter
          on the stand-in encoder tells why it is no transformer, and measures what is asked of it
``vit``   a plain ViT with a class token, timm's ``VisionTransformer``: what DeiT-S is to TS-CAM and its successors
``clip``  a CLIP, open_clip's own class with its own ``VisionTransformer``, registered as ``tedloc-aviary``; its vision
          tower starts from the ViT. ``clip-hard``'s captions name crown and wing bar, but four in five at random, so
          that the texts of a family nearly coincide

So every method runs here the very code that it runs on OpenAI's weights and on DeiT. All see a 10x10 grid of 8-pixel
patches and give 128 channels; both ViTs start with three strided convolutions in place of the one patch convolution,
without which so small a model learns too slowly on a CPU.

A name with a number, ``cnn-3``, is the tower of another world: other images, other first weights, another order.
``weights/towers.json`` says how each was made and how good it is.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache, partial

import torch
from safetensors.torch import load as load_safetensors
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tedloc import paths
from tedloc.data.aviary_pretraining import ATTRIBUTES, WORDS
from tedloc.data.aviary_scenery import BACKGROUND_WORDS
from tedloc.errors import UserError, choose

MODEL = "tedloc-aviary"  # open_clip's name of the architecture: weights/tedloc-aviary.json
IMAGE_SIZE = 80
PATCH_SIZE = 8
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
CONTEXT_LENGTH = 24

# What the encoder's head tells: one group of logits for each attribute, then bird or not, then scene words.
HEAD_GROUPS = {
    **{name: len(values) for name, values in ATTRIBUTES.items()},
    "bird": 1,
    "words": len(BACKGROUND_WORDS),
}


class ConvStem(nn.Sequential):
    """(B, 3, H, W) -> (B, width, H/8, W/8) by three 3x3 convolutions of stride 2."""

    def __init__(self, width: int):
        super().__init__(
            nn.Conv2d(3, width // 4, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width // 4),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // 4, width // 2, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // 2, width, 3, 2, 1, bias=False),
        )


class _StemEmbed(PatchEmbed):
    """timm's patch embedding with ``ConvStem`` as its projection."""

    def __init__(self, *args, embed_dim: int, **kwargs):
        super().__init__(*args, embed_dim=embed_dim, **kwargs)
        self.proj = ConvStem(embed_dim)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, He et al. 2016."""

    def __init__(self, dim: int, out: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(dim, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.shortcut = nn.Identity()
        if stride > 1 or dim != out:
            self.shortcut = nn.Sequential(nn.Conv2d(dim, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(inner + self.shortcut(x))


class ResidualNet(nn.Module):
    """(B, 3, H, W) -> (B, 128, H/8, W/8), whatever the size: a stem of stride 2 and three stages, of 48 channels at
    stride 4, 96 and 128 at stride 8. ``head`` tells attributes from the mean over the grid."""

    channels = (48, 96, 128)  # of the stages, where it may be tapped
    num_features, depth = channels[-1], len(channels)

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.stage1 = nn.Sequential(ResidualBlock(24, 48, 2), ResidualBlock(48, 48))
        self.stage2 = nn.Sequential(ResidualBlock(48, 96, 2), ResidualBlock(96, 96))
        self.stage3 = nn.Sequential(ResidualBlock(96, 128))
        self.head = nn.Linear(self.num_features, sum(HEAD_GROUPS.values()))

    def stage(self, x: Tensor, last: int) -> Tensor:
        """The output of a stage, 1 to 3."""
        x = self.stem(x)
        for each in (self.stage1, self.stage2, self.stage3)[:last]:
            x = each(x)
        return x

    def forward_features(self, x: Tensor) -> Tensor:
        return self.stage(x, self.depth)

    def forward(self, x: Tensor) -> Tensor:
        """(B, attributes) logits, see ``HEAD_GROUPS``."""
        return self.head(self.forward_features(x).mean((2, 3)))


def new_cnn() -> ResidualNet:
    """The encoder's architecture with random weights (global torch generator)."""
    return ResidualNet().to(memory_format=torch.channels_last)


def new_vit() -> VisionTransformer:
    """The ViT's architecture, timm's own class, with random weights (global torch generator)."""
    return VisionTransformer(
        img_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        embed_dim=128,
        depth=5,
        num_heads=4,
        mlp_ratio=2.0,
        num_classes=sum(HEAD_GROUPS.values()),
        pre_norm=True,  # CLIP's ln_pre
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        embed_layer=_StemEmbed,
    )


@cache
def _register() -> None:
    import open_clip  # here, so that other encoders do without it

    open_clip.add_model_config(paths.WEIGHTS / f"{MODEL}.json")


def new_clip() -> nn.Module:
    """The CLIP's architecture, an ``open_clip.CLIP``, with random weights (global torch generator)."""
    import open_clip

    _register()
    model = open_clip.CLIP(**open_clip.get_model_config(MODEL))
    open_clip.model.set_model_preprocess_cfg(model, {"size": IMAGE_SIZE, "mean": MEAN, "std": STD})
    model.visual.conv1 = ConvStem(model.visual.class_embedding.shape[0])
    return model


def vit_to_clip(vit_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's names and layouts -> those of open_clip's ``visual``, without ``proj``; the head is dropped.

    With these weights both towers compute the same tokens.
    """
    state = {
        "class_embedding": vit_state["cls_token"].flatten(),
        "positional_embedding": vit_state["pos_embed"].squeeze(0),
    }
    renamed = (
        (r"patch_embed\.proj\.", "conv1."),
        (r"norm_pre\.", "ln_pre."),
        (r"norm\.", "ln_post."),
        (r"blocks\.(\d+)\.norm(\d)\.", r"transformer.resblocks.\1.ln_\2."),
        (r"blocks\.(\d+)\.attn\.qkv\.", r"transformer.resblocks.\1.attn.in_proj_"),
        (r"blocks\.(\d+)\.attn\.proj\.", r"transformer.resblocks.\1.attn.out_proj."),
        (r"blocks\.(\d+)\.mlp\.fc1\.", r"transformer.resblocks.\1.mlp.c_fc."),
        (r"blocks\.(\d+)\.mlp\.fc2\.", r"transformer.resblocks.\1.mlp.c_proj."),
    )
    for name, value in vit_state.items():
        for pattern, replacement in renamed:
            if re.match(pattern, name):
                state[re.sub("^" + pattern, replacement, name)] = value
                break
    return state


class WordTokenizer:
    """One id a word, lower case; a word that the aviary does not know becomes ``<unk>``.

    Ids: 0 padding, 1 start, 2 ``<unk>``, then the words, and last the end token, which open_clip finds as
    the largest id. Texts that are too long lose their last words.
    """

    def __init__(self, words: Sequence[str] = WORDS, context_length: int = CONTEXT_LENGTH):
        self.pad, self.start, self.unknown, self.end = 0, 1, 2, len(words) + 3
        self.ids = {word: i for i, word in enumerate(words, 3)}
        self.vocab_size, self.context_length = len(words) + 4, context_length

    def encode(self, text: str) -> list[int]:
        """The ids of the words alone."""
        return [self.ids.get(word, self.unknown) for word in re.findall(r"\w+", text.lower())]

    def __call__(self, texts: str | list[str], context_length: int | None = None) -> Tensor:
        """(B, L) int64; L is ``context_length``, by default that of the towers."""
        texts = [texts] if isinstance(texts, str) else texts
        length = context_length or self.context_length
        tokens = torch.full((len(texts), length), self.pad, dtype=torch.int64)
        for row, text in zip(tokens, texts, strict=True):
            ids = [self.start, *self.encode(text)[: length - 2], self.end]
            row[: len(ids)] = torch.tensor(ids)
        return tokens

    def fingerprint(self) -> str:
        """sha256 over the vocabulary, kept with each CLIP: other words would give its ids other meanings."""
        return hashlib.sha256(" ".join(self.ids).encode()).hexdigest()


def tokenizer() -> WordTokenizer:
    return WordTokenizer()


def records() -> dict[str, dict]:
    """Every shipped tower's recipe, sha256 and measured quality, as ``towers.json`` holds them."""
    file = paths.WEIGHTS / "towers.json"
    if not file.exists():
        raise UserError(f"{file} is missing; restore it or run data_scripts/train_towers.py")
    return json.loads(file.read_text())


def _weights(name: str, kind: str) -> tuple[dict[str, Tensor], dict]:
    known = {n: r for n, r in records().items() if r["kind"] == kind}
    choose(f"shipped {kind}", name, known)
    file = paths.WEIGHTS / f"{name}.safetensors"
    if not file.exists():
        raise UserError(f"{file} is missing; restore it or run data_scripts/train_towers.py")
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != known[name]["sha256"]:
        raise UserError(f"{file} is damaged: its sha256 is not that of towers.json; restore it or train it anew")
    return {k: v.float() if v.is_floating_point() else v for k, v in load_safetensors(content).items()}, known[name]


def load_cnn(name: str = "cnn") -> ResidualNet:
    """A shipped encoder: eval mode, frozen, float32. ``forward_features`` gives (B, 128, 10, 10).

    Raises ``UserError`` for an unknown name, or a missing or damaged file.
    """
    return _frozen(new_cnn(), name, "cnn")


def load_vit(name: str = "vit") -> VisionTransformer:
    """A shipped ViT, likewise. ``forward_features`` gives (B, 101, 128), the class token first."""
    return _frozen(new_vit(), name, "vit")


def _frozen(model: nn.Module, name: str, kind: str) -> nn.Module:
    model.load_state_dict(_weights(name, kind)[0])
    return model.eval().requires_grad_(False)


def create_clip(name: str = "clip") -> nn.Module:
    """A shipped CLIP, an ``open_clip.CLIP``: eval mode, float32, with the logit scale it learned.

    Raises ``UserError`` for an unknown name, a missing or damaged file, or another vocabulary.
    """
    state, record = _weights(name, "clip")
    if record["vocabulary_sha256"] != tokenizer().fingerprint():
        raise UserError(f"tower {name!r} was trained on other words than the tokenizer's; train it anew")
    model = new_clip()
    model.load_state_dict(state)
    return model.eval()
