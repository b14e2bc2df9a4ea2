"""CAM of the encoder's own ImageNet classifier: the off-the-shelf teacher where no CLIP is at hand."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from tedloc.backbones.encoders import LITE0, in_reach
from tedloc.methods import Method, Prediction, Route
from tedloc.methods.classifier_cam import HeadCam
from tedloc.methods.pseudo_labels import batches
from tedloc.training.features import open_data


class HeadCAM(Method):
    """Routes: ``true`` and ``pred``. Scores: the ImageNet head restricted to the data set's classes."""

    title = "CAM of the ImageNet classifier"
    seeded = False
    uses = ("data", "encoder")

    def applies(self) -> bool:
        encoder = self.profile.encoder.name
        return self.profile.data.name in ("tiny-imagenet", "ilsvrc") and (
            encoder == LITE0 or encoder.startswith("timm/")
        )

    def lacks(self) -> str | None:
        encoder = self.profile.encoder.name
        return None if in_reach(encoder) else f"{encoder.removeprefix('timm/')} (model hub)"

    def rows(self) -> dict[str, str | None]:
        return {"ImageNet CAM (GT-Known)": "true", "ImageNet CAM (Pred)": "pred"}

    @torch.inference_mode()
    def predict(self, split: str) -> Iterator[Prediction]:
        images = open_data(self.profile.data, split)
        teacher = HeadCam(self.profile.encoder.name, images, device=self.device)
        labels = torch.from_numpy(images.labels).to(self.device)
        for index, batch in batches(images, f"CAM {images.name}/{split}"):
            x = teacher.preprocess(batch).to(self.device)
            feature, scores = teacher.forward(x)
            yield Prediction(
                index,
                {
                    "true": Route(teacher.maps(feature, labels[index]), scores),
                    "pred": Route(teacher.maps(feature, scores.argmax(1)), scores),
                },
            )

    def true_maps(self, split: str) -> Callable[[np.ndarray], Tensor]:
        """A teacher: the function from positions (B,) in a split to maps of the true class, (B, h, w) in [0, 1]."""
        images = open_data(self.profile.data, split)
        teacher = HeadCam(self.profile.encoder.name, images, device=self.device)
        labels = torch.from_numpy(images.labels).to(self.device)

        def maps(index: np.ndarray) -> Tensor:
            x = teacher.preprocess([images.image(i) for i in index]).to(self.device)
            return teacher.maps(teacher.forward(x)[0], labels[index])

        return maps
