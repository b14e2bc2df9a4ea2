"""What a ViT would have seen, without a ViT: random tokens and attention of any shape."""

import torch

from tedloc.backbones.attention import Seen


def random_seen(images: int = 3, dim: int = 16, blocks: int = 5, heads: int = 4, side: int = 10) -> Seen:
    """Tokens (images, dim, side, side) and attention whose rows sum to one."""
    random, n = torch.Generator().manual_seed(0), side * side
    shape = (images, heads, 1 + n, 1 + n)
    attention = [torch.randn(shape, generator=random).softmax(-1) for _ in range(blocks)]
    tokens = torch.randn(images, dim, n, generator=random).unflatten(2, (side, side))
    return Seen(torch.randn(images, dim, generator=random), tokens, attention)
