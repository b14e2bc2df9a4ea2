"""GenPromp: the map follows the prompt, each stage trains what it says, both models have one interface."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch

from tedloc import paths, profiles
from tedloc.backbones import towers
from tedloc.data import open_data
from tedloc.errors import UserError
from tedloc.methods import create, genpromp
from tedloc.settings import override

pytest.importorskip("diffusers", reason="the diffusion model's parts: pip install 'tedloc[diffusion]'")

from tedloc.backbones import latent_diffusion as ld  # noqa: E402

PROFILE = override(profiles.get("smoke"), {"data.per_class": 2})
NAMES = ["grey finch", "crimson-crowned grey finch with a white wing bar", "brown wren"]


@pytest.fixture
def tiny():
    """The aviary's architecture with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ld.new_diffusion()


@pytest.fixture
def method(tiny, monkeypatch):
    """On 40 images, with that model."""
    monkeypatch.setattr(genpromp, "load_diffusion", lambda name, device: tiny)
    return create("genpromp", PROFILE, seed=1)


def latents(count=2, seed=0):
    return torch.randn(count, *ld.LATENT, generator=torch.Generator().manual_seed(seed))


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def map_of(model, latent, ids, new=None, position=5):
    maps = model.denoise(latent, 99, model.embed(ids, new), maps=True).maps
    return genpromp.attention_map(maps, position, (0, 1), latent.shape[-1])


def test_attention_over_the_tokens_sums_to_one_and_leaves_out_end_and_padding(tiny):
    text = tiny.embed(tiny.prompts("a photo of a ", [tiny.text.words("grey finch")]).expand(2, -1))
    maps = tiny.denoise(latents(), 0, text, maps=True).maps
    assert {m.shape[2:4] for m in maps.values()} == {(5, 5), (10, 10)}
    for each in maps.values():
        torch.testing.assert_close(each.sum(-1), torch.ones(each.shape[:-1]))
        assert (each[..., 7:] == 0).all() and (each[..., :7] > 0).all()  # start, four words, two of the name


def test_the_kept_maps_are_those_of_the_pass_itself(tiny):
    text = tiny.embed(tiny.prompts("a photo of a ", [tiny.text.words("finch")] * 2))
    plain, kept = tiny.denoise(latents(), 50, text), tiny.denoise(latents(), 50, text, maps=True)
    torch.testing.assert_close(plain.noise, kept.noise)
    assert not plain.maps
    assert not any(isinstance(processor, ld.KeepWeights) for processor in tiny.unet.attn_processors.values())


def test_another_word_gives_another_map(tiny):
    with torch.no_grad():
        finch, wren, again = (
            map_of(tiny, latents(), tiny.prompts("a photo of a ", [ids] * 2))
            for ids in map(tiny.text.words, ("finch", "wren", "finch"))
        )
    assert torch.equal(finch, again)
    assert (finch - wren).abs().max() > 1e-3 * finch.mean()


def test_learning_the_new_token_can_move_the_map(tiny):
    ids = tiny.prompts("a photo of a ", [[tiny.text.vocabulary.table.num_embeddings]])
    token = torch.zeros(1, 128, requires_grad=True)
    optimiser = torch.optim.Adam([token], 0.1)
    lefts = []
    for _ in range(12):
        found = map_of(tiny, latents(1), ids, token)
        lefts.append(found[..., :10].sum() / found.sum())
        optimiser.zero_grad()
        (-lefts[-1]).backward()
        optimiser.step()
    assert lefts[-1] > lefts[0] + 0.002 and lefts[-1] == max(lefts)


def test_prompts_of_every_class_have_the_class_token_at_one_place(tiny):
    prompts = genpromp.Prompts(tiny, NAMES, genpromp.AVIARY_TEMPLATES)
    size = tiny.text.vocabulary.table.num_embeddings
    assert prompts.position == 5
    assert prompts.representative[:, :, 5].tolist() == [[size + k] * 3 for k in range(3)]
    words = prompts.discriminative.gather(2, prompts.aligned[:, None].expand(-1, 3, -1))
    finch, wren = tiny.text.words("finch wren")
    assert words[:, :, 5].tolist() == [[finch] * 3, [finch] * 3, [wren] * 3]
    assert (words[:, :, 6] == tiny.text.end).all()
    assert (words[:, :, :5] == prompts.representative[:, :, :5]).all()
    with pytest.raises(UserError, match="at different places"):
        genpromp.Prompts(tiny, NAMES, ("a {}", "a photo of a {}"))


def test_the_class_word_is_what_the_thing_is():
    assert [genpromp.class_word(name) for name in NAMES] == ["finch", "finch", "wren"]
    assert genpromp.class_word("chuck-will's-widow") == "widow"


def test_stage_one_changes_only_the_new_embeddings_and_stage_two_keeps_them(method, tiny, monkeypatch):
    stages, train = [], genpromp.engine.train

    def watched(module, *arguments):
        before = weights(tiny), weights(method.tokens)
        train(module, *arguments)
        after = weights(tiny), weights(method.tokens)
        changed = {name.split(".")[0] for name, value in before[0].items() if not value.equal(after[0][name])}
        stages.append((changed, not same(before[1], after[1])))

    monkeypatch.setattr(genpromp.engine, "train", watched)
    method.build()
    method.fit_prompts()
    assert stages == [(set(), True), ({"unet"}, False)]


def test_a_stage_that_is_there_is_not_trained_again(method, tmp_path, monkeypatch):
    method.build()
    method.fit_prompts(tmp_path)
    fitted = weights(method.tokens)
    monkeypatch.setattr(genpromp.engine, "train", None)
    method.build()
    assert not same(fitted, weights(method.tokens))
    method.fit_prompts(tmp_path)
    assert same(fitted, weights(method.tokens))


def test_an_image_and_a_class_take_two_passes_at_the_published_times(method, tiny):
    method.build()
    times = []
    tiny.unet.register_forward_pre_hook(lambda module, arguments: times.append(arguments[1]))
    with torch.no_grad():
        found = method.look(latents(3), torch.tensor([0, 1, 1]), method.test_text())
    assert times == [0, 99] and found.shape == (3, 20, 20)


def test_the_test_prompt_is_the_stated_mix(method):
    method.build()
    one = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        f_r, f_d, mixed = (method.mixed(share, one, one).states for share in (1.0, 0.0, 0.6))
    torch.testing.assert_close(mixed, 0.6 * f_r + 0.4 * f_d)
    assert not torch.allclose(f_r, f_d)


def test_noise_goes_from_none_to_nearly_all(tiny):
    z, e = latents(1), latents(1, seed=1)
    assert (tiny.noisy(z, e, 0) - z).abs().max() < 0.2
    assert (tiny.noisy(z, e, torch.tensor([999])) - e).abs().max() < 0.4
    assert (tiny.kept_signal.diff() < 0).all()


# Files


@pytest.fixture
def shipped(tiny, tmp_path, monkeypatch):
    """A weights folder that holds the tiny model as if it had been trained."""
    shutil.copytree(paths.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "weights")
    file = paths.WEIGHTS / "diffusion.safetensors"
    state = {
        f"{part}.{name}": value.half().contiguous()
        for part, module in ld.trained_parts(tiny).items()
        for name, value in module.state_dict().items()
    }
    safetensors.torch.save_file(state, file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    record = {"sha256": sha256, "scaling_factor": 0.5, "text_sha256": towers.records()["clip"]["sha256"]}
    file.with_suffix(".json").write_text(json.dumps(record))
    return file


def test_shipped_weights_come_back_as_they_were_trained(shipped, tiny):
    model = ld.load_diffusion("aviary/diffusion")
    assert model.vae.config.scaling_factor == 0.5 and not any(p.requires_grad for p in model.parameters())
    for part, module in ld.trained_parts(model).items():
        trained = ld.trained_parts(tiny)[part].state_dict()
        assert same({name: value.half().float() for name, value in trained.items()}, module.state_dict())


def test_damaged_stale_and_missing_weights_are_refused_in_a_sentence(shipped, tmp_path):
    record = json.loads(shipped.with_suffix(".json").read_text())
    shipped.with_suffix(".json").write_text(json.dumps(record | {"text_sha256": "another"}))
    with pytest.raises(UserError, match="another text tower.*train_diffusion.py"):
        ld.load_diffusion("aviary/diffusion")
    content = bytearray(shipped.read_bytes())
    content[-1] ^= 1
    shipped.write_bytes(content)
    with pytest.raises(UserError, match="diffusion.safetensors is damaged"):
        ld.load_diffusion("aviary/diffusion")
    assert create("genpromp", PROFILE).lacks() is None
    shipped.unlink()
    with pytest.raises(UserError, match="diffusion.safetensors is missing"):
        ld.load_diffusion("aviary/diffusion")
    assert "train_diffusion.py" in create("genpromp", PROFILE).lacks()
    with pytest.raises(UserError, match="has no folder unet, vae, text_encoder, tokenizer, scheduler"):
        ld.load_diffusion(str(tmp_path / "nowhere"))


@pytest.fixture(scope="module")
def stable(tmp_path_factory):
    """Stable Diffusion v1 in miniature (32-pixel images) in diffusers' folder layout, with CLIP's tokens."""
    import diffusers
    import open_clip
    import transformers

    folder = tmp_path_factory.mktemp("stable-diffusion")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        diffusers.AutoencoderKL(
            block_out_channels=(8, 8),
            norm_num_groups=4,
            sample_size=32,
            scaling_factor=0.18215,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
        ).save_pretrained(folder / "vae")
        diffusers.UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(8, 16, 16),
            norm_num_groups=4,
            cross_attention_dim=16,
            attention_head_dim=2,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        ).save_pretrained(folder / "unet")
        transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                vocab_size=49408,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
            )
        ).save_pretrained(folder / "text_encoder")
    diffusers.DDPMScheduler(**ld.TIMES).save_pretrained(folder / "scheduler")
    words = open_clip.SimpleTokenizer()
    renamed = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    place = folder / "tokenizer"  # as files, which every transformers reads; its own arguments changed with version 5
    place.mkdir()
    (place / "vocab.json").write_text(json.dumps({renamed.get(word, word): i for word, i in words.encoder.items()}))
    (place / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in words.bpe_ranks))
    (place / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return folder


def test_a_stable_diffusion_folder_has_the_same_verbs(stable):
    model = ld.load_diffusion(str(stable))
    prompts = genpromp.Prompts(model, ["black-footed albatross"], genpromp.TEMPLATES)
    assert prompts.position == 5  # under CLIP's own vocabulary, in all seven templates
    assert prompts.representative[0, 0, :7].tolist() == [49406, 320, 1125, 539, 320, 49408, 49407]
    z = model.encode(model.preprocessing.square(np.full((40, 50, 3), 200, np.uint8)))
    text = model.embed(prompts.representative[0, :1], torch.full((1, 16), 0.5))
    other = model.embed(prompts.representative[0, :1], torch.randn(1, 16))
    assert z.shape == (1, 4, 16, 16) and text.states.shape == (1, 77, 16) and text.visible.all()
    assert torch.equal(text.states[:, :5], other.states[:, :5])  # the encoder is causal
    assert not torch.allclose(text.states[:, 5], other.states[:, 5])
    found = model.denoise(z, 0, text, maps=True)
    assert found.noise.shape == z.shape and {m.shape[2] for m in found.maps.values()} == {4, 8, 16}


def test_the_method_runs_on_stable_diffusion_from_a_folder(stable):
    changes = {"methods.genpromp.weights": str(stable), "methods.genpromp.keep_latents": False}
    method = create("genpromp", override(PROFILE, changes))
    assert method.lacks() is None and method.backbone_name == "Stable Diffusion v1"
    method.fit()
    labels = torch.from_numpy(open_data(PROFILE.data, "test").labels)
    (prediction,) = method.predict("test")
    true, predicted = prediction.routes["true"], prediction.routes["pred"]
    right = predicted.scores.argmax(1) == labels
    assert true.maps.shape == (40, 16, 16) and true.maps.isfinite().all()
    assert torch.allclose(true.maps[right], predicted.maps[right], atol=1e-6)
    assert not torch.allclose(true.maps[~right], predicted.maps[~right], atol=1e-6)


def test_a_damaged_stable_diffusion_folder_is_refused_in_a_sentence(stable, tmp_path):
    shutil.copytree(stable, tmp_path / "copy")
    file = tmp_path / "copy" / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read as Stable Diffusion v1"):
        ld.load_diffusion(str(tmp_path / "copy"))


def test_without_weights_the_method_says_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setenv("TEDLOC_DATA", str(tmp_path))
    for name in ("cub", "imagenette-small"):
        assert "Stable Diffusion v1" in create("genpromp", profiles.get(name)).lacks()
