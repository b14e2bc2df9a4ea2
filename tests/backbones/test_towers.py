"""The aviary's towers: the shipped weights are what their records say, and both tower kinds agree."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from tedloc import paths
from tedloc.backbones import towers
from tedloc.data import open_split
from tedloc.data.aviary_pretraining import WORDS
from tedloc.errors import UserError


@pytest.fixture(scope="module")
def clip():
    return towers.create_clip()


def _batch(images) -> torch.Tensor:
    x = torch.from_numpy(np.stack([images.image(i) for i in range(len(images))])).permute(0, 3, 1, 2) / 255
    return (x - torch.tensor(towers.MEAN).view(3, 1, 1)) / torch.tensor(towers.STD).view(3, 1, 1)


def test_towers_are_the_classes_of_timm_and_open_clip(clip):
    assert type(clip) is open_clip.CLIP and type(clip.visual) is open_clip.transformer.VisionTransformer
    assert type(towers.load_vit()) is VisionTransformer


def test_the_encoder_gives_a_ten_by_ten_grid_frozen_and_in_eval_mode():
    encoder = towers.load_cnn()
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())
    assert [tuple(encoder.stage(torch.zeros(2, 3, 80, 80), n).shape[1:]) for n in (1, 2, 3)] == [
        (48, 20, 20),
        (96, 10, 10),
        (128, 10, 10),
    ]


def test_the_vit_gives_a_ten_by_ten_grid_frozen_and_in_eval_mode():
    encoder = towers.load_vit()
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())
    tokens = encoder.forward_features(torch.zeros(2, 3, 80, 80))
    assert tokens.shape == (2, 101, 128) and tokens.dtype == torch.float32


def test_timm_and_open_clip_compute_the_same_tokens():
    encoder, clip = towers.load_vit(), towers.new_clip().eval()
    missing, unexpected = clip.visual.load_state_dict(towers.vit_to_clip(encoder.state_dict()), strict=False)
    assert missing == ["proj"] and unexpected == []
    x = torch.randn(2, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = clip.visual.ln_post(clip.visual.transformer(clip.visual._embeds(x)))
        torch.testing.assert_close(encoder.forward_features(x), theirs, atol=1e-4, rtol=1e-4)


def test_weights_are_small_and_hashed():
    records = towers.records()
    files = sorted(file.stem for file in paths.WEIGHTS.glob("*.safetensors"))
    assert files == sorted([*records, "diffusion"])  # the last has a record of its own: tests/methods/test_genpromp.py
    assert sum(f.stat().st_size for f in paths.WEIGHTS.glob("*.safetensors")) < 60e6


def test_record_holds_recipe_and_measurements():
    for name, record in towers.records().items():
        assert record["kind"] in ("cnn", "vit", "clip"), name
        assert {"recipe", "seed", "seconds", "measured", "sha256", "versions"} <= record.keys()


@pytest.fixture
def weights_copy(tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    shutil.copytree(paths.WEIGHTS, folder)
    monkeypatch.setattr(paths, "WEIGHTS", folder)
    return folder


def test_damaged_weights_are_refused(weights_copy):
    file = weights_copy / "cnn.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="cnn.safetensors is damaged"):
        towers.load_cnn()


def test_missing_weights_are_named(weights_copy):
    (weights_copy / "clip.safetensors").unlink()
    with pytest.raises(UserError, match="clip.safetensors is missing"):
        towers.create_clip()


def test_weights_of_another_vocabulary_are_refused(weights_copy):
    records = json.loads((weights_copy / "towers.json").read_text())
    records["clip"]["vocabulary_sha256"] = "0"
    (weights_copy / "towers.json").write_text(json.dumps(records))
    with pytest.raises(UserError, match="other words"):
        towers.create_clip()


def test_a_vit_is_not_a_clip():
    with pytest.raises(UserError, match="unknown shipped clip 'vit'"):
        towers.create_clip("vit")


def test_end_token_is_the_largest_id_and_texts_are_cut_before_it():
    words = towers.tokenizer()
    tokens = words(["a crimson-crowned grey finch", "grey " * 80])
    assert tokens.shape == (2, towers.CONTEXT_LENGTH) and tokens.dtype == torch.int64
    assert tokens.max(1).values.tolist() == [words.end, words.end] == [words.vocab_size - 1] * 2
    assert tokens[0, :7].tolist() == [words.start, *words.encode("a crimson crowned grey finch"), words.end]
    assert tokens[1, -1] == words.end and (tokens[1] == words.end).sum() == 1


def test_unknown_words_become_unk_and_known_words_do_not():
    words = towers.tokenizer()
    assert words.encode("a clean origami finch") == [
        words.ids["a"],
        words.unknown,
        words.unknown,
        words.ids["finch"],
    ]
    assert words.unknown not in words.encode(" ".join(WORDS))


def test_configuration_fits_the_tokenizer(clip):
    assert clip.vocab_size == towers.tokenizer().vocab_size
    assert clip.context_length == towers.CONTEXT_LENGTH


def test_logit_scale_is_the_learned_one(clip):
    recorded = towers.records()["clip"]["measured"]["logit_scale"]
    assert clip.logit_scale.exp().item() == pytest.approx(recorded, rel=1e-3)
    assert recorded < 99


@torch.no_grad()
def test_shipped_clip_reproduces_its_zero_shot_accuracy_on_a_part(clip):
    some = open_split("aviary", "val", per_class=8)
    texts = towers.tokenizer()([f"image of a {name}." for name in some.class_names])
    scores = clip.encode_image(_batch(some), normalize=True) @ clip.encode_text(texts, normalize=True).T
    accuracy = 100 * (scores.argmax(1).numpy() == some.labels).mean()
    assert abs(accuracy - towers.records()["clip"]["measured"]["zero_shot_val"]) < 15
