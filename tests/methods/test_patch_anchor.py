"""The last block's variants against their formulas."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_clip import some_images, tiny_clip

from tedloc.backbones.clip import embed, qkv
from tedloc.errors import UserError
from tedloc.methods.patch_anchor import (
    VARIANTS,
    dense_embeddings,
    last_attention,
    neighbourhood,
)

GRID = (6, 4)
IMAGES = some_images(height=48, width=32)


def before_last(clip):
    """Tokens before the last block and its q, k, v, through the model's own modules."""
    *blocks, last = clip.tower.transformer.resblocks
    tokens = embed(clip.tower, IMAGES)
    for block in blocks:
        tokens = block(tokens)
    return last, tokens, qkv(last, last.ln_1(tokens))


def by_formula(clip, variant: str, sigma: float = 5.0) -> torch.Tensor:
    """Final unit-norm tokens of a variant, one head at a time."""
    last, tokens, (query, key, value) = before_last(clip)
    heads = []
    for q, k, v in zip(query.unbind(1), key.unbind(1), value.unbind(1), strict=True):
        root = math.sqrt(q.shape[-1])
        if variant == "sclip":
            weights = (q @ q.mT / root).softmax(-1) + (k @ k.mT / root).softmax(-1)
        else:
            bias = torch.zeros(25, 25)
            for a in range(24):
                for b in range(24):
                    squared = (a // 4 - b // 4) ** 2 + (a % 4 - b % 4) ** 2
                    bias[1 + a, 1 + b] = math.exp(-squared / (2 * sigma**2))
            weights = (k @ k.mT / root + bias).softmax(-1)
        heads.append(weights @ v)
    out = last.attn.out_proj(torch.cat(heads, dim=-1))
    if variant == "sclip":
        out = tokens + out
        out = out + last.mlp(last.ln_2(out))
    return F.normalize(clip.tower.ln_post(out) @ clip.tower.proj, dim=-1)


@pytest.mark.parametrize("variant", ["sclip", "naclip"])
def test_variants_follow_their_formulas(variant):
    clip = tiny_clip()
    found, expected = dense_embeddings(clip, IMAGES, variant), by_formula(clip, variant)
    torch.testing.assert_close(found.patches.flatten(2).transpose(1, 2), expected[:, 1:], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.cls, expected[:, 0], atol=1e-5, rtol=1e-4)


def test_vanilla_is_the_model_as_it_is():
    clip, images = tiny_clip(), some_images()
    found = dense_embeddings(clip, images, "vanilla")
    clip.tower.output_tokens = True
    _, tokens = clip.tower(images)
    expected = F.normalize(tokens @ clip.tower.proj, dim=-1)
    torch.testing.assert_close(found.patches[:, :, 1, 2], expected[:, 1 * 4 + 2])
    assert torch.equal(found.cls, found.cls_untouched)


@pytest.mark.parametrize("variant", VARIANTS)
def test_embeddings_have_unit_norm_and_the_untouched_class_token(variant):
    clip = tiny_clip()
    patches, altered, untouched = dense_embeddings(clip, IMAGES, variant)
    assert patches.shape == (3, 24, *GRID) and altered.shape == untouched.shape == (3, 24)
    for unit in (patches, altered, untouched):
        torch.testing.assert_close(unit.norm(dim=1), torch.ones_like(unit[:, 0]))
    torch.testing.assert_close(untouched, clip.encode_image(IMAGES))
    assert (variant == "vanilla") == torch.allclose(altered, untouched, atol=1e-3)


@pytest.mark.parametrize(("variant", "total"), [("vanilla", 1.0), ("sclip", 2.0), ("naclip", 1.0)])
def test_rows_of_attention_sum_to_one_and_to_two_for_sclip(variant, total):
    _, _, (query, key, _) = before_last(tiny_clip())
    weights = last_attention(variant, query, key, GRID, sigma=5.0)
    torch.testing.assert_close(weights.sum(dim=-1), torch.full(weights.shape[:-1], total))


def test_a_wide_neighbourhood_tends_to_plain_key_attention_among_patches():
    _, _, (query, key, _) = before_last(tiny_clip())
    plain = (key @ key.mT / math.sqrt(key.shape[-1])).softmax(dim=-1)
    wide = last_attention("naclip", query, key, GRID, sigma=1e6)
    among = [weights[:, :, 1:, 1:] / weights[:, :, 1:, 1:].sum(-1, keepdim=True) for weights in (plain, wide)]
    torch.testing.assert_close(*among)
    torch.testing.assert_close(wide[:, :, 0], plain[:, :, 0])  # the class token sees no neighbourhood
    assert (wide[:, :, 1:, 0] < plain[:, :, 1:, 0]).all()  # and loses weight to the patches


def test_a_narrow_neighbourhood_favours_the_patch_itself_alone():
    torch.testing.assert_close(neighbourhood(GRID, 1e-3)[1:, 1:], torch.eye(24))
    assert neighbourhood(GRID, 5.0)[0].abs().sum() == neighbourhood(GRID, 5.0)[:, 0].abs().sum() == 0


def test_sclip_does_not_depend_on_the_pairing_of_queries_and_keys():
    _, _, (query, key, _) = before_last(tiny_clip())
    torch.testing.assert_close(
        last_attention("sclip", query, key, GRID, 5.0), last_attention("sclip", key, query, GRID, 5.0)
    )


def test_unknown_variants_and_senseless_widths_are_refused():
    with pytest.raises(UserError, match="naclip, sclip, vanilla"):
        dense_embeddings(tiny_clip(), IMAGES, "maskclip")
    with pytest.raises(UserError, match="sigma must be positive"):
        dense_embeddings(tiny_clip(), IMAGES, "naclip", sigma=0.0)
