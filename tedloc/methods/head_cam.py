"""CAM (Zhou et al., 2016) of a network's own ImageNet classifier: the teacher where no CLIP is at hand.

A classifier that averages its last features over the image and applies a linear layer has, for class c, the
map M_c(p) = <w_c, F_p>; the mean of the map plus the bias is the logit. Nothing is trained. The classifier
has seen ImageNet's labels, and no boxes.
"""

import functools

import numpy as np
import torch
from timm.data import ImageNetInfo, resolve_model_data_config
from torch import Tensor, nn

from tedloc.backbones.encoders import (
    LITE_MEAN,
    LITE_STD,
    LITES,
    in_reach,
    in_small_batches,
    lite_classifier,
    timm_model,
)
from tedloc.backbones.precision import autocast
from tedloc.backbones.preprocessing import Preprocessing
from tedloc.data import ImageSet, of_imagenet
from tedloc.errors import UserError
from tedloc.methods import Method, Route


class HeadCam:
    """The ImageNet classifier of an encoder, restricted to the classes of a data set.

    encoder: ``efficientnet-lite0`` to ``-lite2`` or ``timm/<convolutional network>``; runs at its own input size
    images:  any split of the data set; its classes must be classes of ImageNet-1k (``wnids``, or all 1000)

    Raises ``UserError`` for an encoder without such a head and for a class that ImageNet-1k lacks.
    """

    def __init__(
        self,
        encoder: str,
        images: ImageSet,
        device: str = "cpu",
        weights: str | None = None,
        precision: str = "auto",
        compile: bool = False,
    ):
        if encoder in LITES:
            net = lite_classifier(encoder, weights)
            self.preprocessing = Preprocessing(LITES[encoder], LITE_MEAN, LITE_STD)
        elif encoder.startswith("timm/"):
            net = timm_model(encoder, weights=weights)
            config = resolve_model_data_config(net)
            self.preprocessing = Preprocessing(config["input_size"][-1], tuple(config["mean"]), tuple(config["std"]))
        else:
            raise UserError(
                f"encoder {encoder!r} has no ImageNet classifier; choose {min(LITES)} or timm/<model> with one"
            )
        self.net = net.requires_grad_(False).eval().to(device)
        if torch.device(device).type == "cuda":  # where convolutions are faster so
            self.net = self.net.to(memory_format=torch.channels_last)
        self.precision, self._features = precision, self.net.forward_features
        self.classes = torch.from_numpy(imagenet_indices(images)).to(device)
        self._check(encoder)
        head = self.net.get_classifier()
        self.weight, self.bias = head.weight[self.classes], head.bias[self.classes]
        self.preprocess = self.preprocessing
        if compile:
            self._features = torch.compile(self._features)

    @torch.inference_mode()
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Last features (B, C, h, w) and logits (B, K) of the data set's classes."""
        with autocast(self.precision, x.device):
            features = in_small_batches(self._features, x).float()
        return features, features.mean((2, 3)) @ self.weight.T + self.bias

    @torch.inference_mode()
    def maps(self, features: Tensor, classes: Tensor) -> Tensor:
        """(B, h, w) CAMs of one class in [0, K) an image, min-max normalised to [0, 1]; zeros where flat but for the
        rounding of the sum over channels."""
        cams = torch.einsum("bchw,bc->bhw", features, self.weight[classes])
        low, high = cams.amin((1, 2), keepdim=True), cams.amax((1, 2), keepdim=True)
        eps = torch.finfo(cams.dtype).eps
        rounding = features.shape[1] * eps * torch.maximum(low.abs(), high.abs())  # of a sum over the channels
        return torch.where(high - low > rounding, (cams - low) / (high - low).clamp_min(eps), 0)

    @torch.inference_mode()
    def _check(self, encoder: str) -> None:
        """The head must be what CAM needs: 1000 logits, linear in the spatial mean of the last features."""
        generator = torch.Generator().manual_seed(0)
        size = self.preprocessing.size
        probe = torch.rand(1, 3, size, size, generator=generator).to(self.classes.device)
        features, head = self.net.forward_features(probe), self.net.get_classifier()
        linear = isinstance(head, nn.Linear) and head.bias is not None and len(head.weight) == 1000
        if not (
            linear
            and features.ndim == 4
            and features.shape[1] == head.in_features
            and torch.allclose(head(features.mean((2, 3))), self.net.forward_head(features), atol=1e-3)
        ):
            raise UserError(
                f"encoder {encoder!r} has no ImageNet head that is linear in its pooled features, so it has "
                f"no CAM; choose {min(LITES)} or a convolutional network such as timm/resnet50.a1_in1k"
            )


def imagenet_indices(images: ImageSet) -> np.ndarray:
    """(K,) int64: the ImageNet-1k index (sorted wnids) of each class of a data set."""
    synsets = ImageNetInfo("imagenet-1k").label_names()
    wnids = getattr(images, "wnids", None)
    if wnids is None and images.name == "ilsvrc":
        wnids = synsets
    if wnids is None:
        raise UserError(
            f"the classes of data set {images.name!r} are not ImageNet's; choose another teacher than head-cam"
        )
    place = {wnid: index for index, wnid in enumerate(synsets)}
    unknown = [wnid for wnid in wnids if wnid not in place]
    if unknown:
        raise UserError(
            f"class {unknown[0]} of data set {images.name!r} is not in ImageNet-1k, so the classifier has no "
            "logit for it; leave it out of wnids.txt or choose another teacher than head-cam"
        )
    return np.array([place[wnid] for wnid in wnids], dtype=np.int64)


class HeadCAM(Method):
    """Routes: ``true`` and ``pred``. Scores: the ImageNet head restricted to the data set's classes."""

    title = "CAM of the ImageNet classifier"
    seeded = False
    uses = ("data", "encoder")

    def applies(self) -> bool:
        encoder = self.profile.encoder.name
        return of_imagenet(self.profile.data.name) and (encoder in LITES or encoder.startswith("timm/"))

    def lacks(self) -> str | None:
        encoder = self.profile.encoder.name
        return None if in_reach(encoder) else f"{encoder.removeprefix('timm/')} (model hub)"

    def rows(self) -> dict[str, str | None]:
        return {"ImageNet CAM (GT-Known)": "true", "ImageNet CAM (Pred)": "pred"}

    @functools.cached_property
    def head(self) -> HeadCam:
        e = self.profile.encoder
        return HeadCam(e.name, self.images("train"), self.device, precision=e.precision, compile=e.compile)

    def preprocessing(self) -> Preprocessing:
        return self.head.preprocessing

    def modules(self) -> dict[str, nn.Module]:
        return {"network": self.head.net}

    @torch.inference_mode()
    def localize(self, split: str, index: np.ndarray) -> dict[str, Route]:
        feature, scores = self.head.forward(self.photos(split, index))
        return {
            "true": Route(self.head.maps(feature, self.labels(split, index)), scores),
            "pred": Route(self.head.maps(feature, scores.argmax(1)), scores),
        }
