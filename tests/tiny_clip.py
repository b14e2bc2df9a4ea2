"""A CLIP of 32-pixel images, 3 blocks and random weights that is built in a moment."""

from functools import cache

import open_clip
import torch

from tedloc.backbones.clip import Clip

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16}
CONFIG = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT}


@cache
def tokenizer() -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(context_length=TEXT["context_length"])


def tiny_clip(seed: int = 0, quick_gelu: bool = False, **vision) -> Clip:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(24, {**VISION, **vision}, TEXT, quick_gelu=quick_gelu)
        for name, values in model.visual.named_parameters():  # zeros as biases would hide mistakes
            if name.endswith("bias"):
                torch.nn.init.normal_(values, std=0.3)
    model = model.eval().requires_grad_(False)
    return Clip(model, tokenizer(), 32, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), float(model.logit_scale.exp()))


def some_images(count: int = 3, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def unit_vectors(count: int, width: int = 24, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(noise, dim=1)
