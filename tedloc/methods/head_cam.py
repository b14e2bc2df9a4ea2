"""CAM of the encoder's own ImageNet classifier: the off-the-shelf teacher where no CLIP is at hand."""

from collections.abc import Iterator

import torch

from tedloc.classifier_cam import HeadCam
from tedloc.features import open_data
from tedloc.methods import Method, Prediction, Route
from tedloc.pseudo_labels import batches


class HeadCAM(Method):
    """Routes: ``true`` and ``pred``. Scores: the ImageNet head restricted to the data set's classes."""

    title = "CAM of the ImageNet classifier"
    uses = ("data", "encoder")

    @torch.inference_mode()
    def predict(self, split: str) -> Iterator[Prediction]:
        images = open_data(self.profile.data, split)
        teacher = HeadCam(self.profile.encoder.name, images, device=self.device)
        labels = torch.from_numpy(images.labels).to(self.device)
        for index, batch in batches(images, f"CAM {images.name}/{split}"):
            x = teacher.preprocess(batch).to(self.device)
            feature, scores = teacher.forward(x)
            yield Prediction(index, {"true": Route(teacher.maps(feature, labels[index]), scores),
                                     "pred": Route(teacher.maps(feature, scores.argmax(1)), scores)})
