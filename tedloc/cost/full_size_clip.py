"""CLIP-ES at full size, part by part, with random weights, to be counted and timed; see ``tedloc.cost.full_size``."""

import torch
from torch import Tensor, nn

from tedloc.backbones.clip import load_clip
from tedloc.cost.complexity import Part
from tedloc.methods import clip_es as clip_es_method


def clip_es(classes: int = 1000, image_size: int = 224, device: str = "cpu") -> list[Part]:
    """CLIP-ES on CLIP ViT-B/16: forward, backward through the last block, affinity refinement, for one class.

    Needs real tensors (its refinement looks at the map's values). The class texts are embedded once.
    """
    clip = load_clip("ViT-B-16-quickgelu/random", device)
    random = torch.Generator().manual_seed(0)
    text, background = (
        nn.functional.normalize(torch.randn(count, 512, generator=random)).to(device) for count in (classes, 25)
    )
    images = torch.randn(1, 3, image_size, image_size, generator=random).to(device)
    target = torch.zeros(1, dtype=torch.long, device=device)

    def localise(images: Tensor) -> Tensor:
        return clip_es_method.clip_es(clip, images, target, text, background)

    prompts = torch.zeros(1, 77, dtype=torch.long, device=device)
    return [
        Part("image tower, Grad-CAM, affinity", clip.model.visual, (images,), localise),
        Part("text tower", TextTower(clip.model), (prompts,), passes=0),
    ]


class TextTower(nn.Module):
    """The text half of an open_clip model."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.transformer, self.token_embedding, self.ln_final = (
            model.transformer,
            model.token_embedding,
            model.ln_final,
        )
        self.positional_embedding, self.text_projection = model.positional_embedding, model.text_projection
        self._encode = [model.encode_text]  # in a list, so that the whole model is not a submodule

    def forward(self, prompts: Tensor) -> Tensor:
        return self._encode[0](prompts)
