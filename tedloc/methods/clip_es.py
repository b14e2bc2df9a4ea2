"""CLIP-ES as a method of its own, and TeD-Loc's teacher: softmax-Grad-CAM from CLIP, class-aware affinity.

Training-free. GT-Known localises the true class, Pred the zero-shot prediction.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from tedloc.backbones.clip import Clip, in_reach, load_clip
from tedloc.backbones.text import background_embeddings, class_embeddings
from tedloc.data import ImageSet
from tedloc.methods import Method, Prediction, Route
from tedloc.methods.clip_es_maps import clip_es
from tedloc.methods.pseudo_labels import batches
from tedloc.training.features import open_data


class FromCLIP(Method):
    """What explains the profile's CLIP, without training."""

    seeded = False
    uses = ("data", "pseudo_labels")

    @property
    def backbone_name(self) -> str:
        return self.profile.pseudo_labels.clip

    def lacks(self) -> str | None:
        return None if in_reach(self.backbone_name) else f"CLIP {self.backbone_name} (model hub)"


class CLIPES(FromCLIP):
    """Routes: ``true`` (GT-Known) and ``pred``. Scores: zero-shot, from the untouched CLS embedding."""

    title = "CLIP-ES"
    paper_row = "CLIP-ES"

    def rows(self) -> dict[str, str | None]:
        return {"CLIP-ES (GT-Known)": "true", "CLIP-ES (Pred)": "pred"}

    def predict(self, split: str) -> Iterator[Prediction]:
        images, clip, text, maps = self.opened(split)
        labels = torch.from_numpy(images.labels)
        for index, batch in batches(images, f"CLIP-ES {images.name}/{split}"):
            x = clip.preprocess(batch).to(self.device)
            scores = clip.zero_shot(x, text)
            true = maps(x, labels[index].to(self.device))
            predicted, wrong = true.clone(), (scores.argmax(1).cpu() != labels[index])
            if split != "train" and wrong.any():
                predicted[wrong] = maps(x[wrong], scores.argmax(1)[wrong])
            yield Prediction(index, {"true": Route(true, scores), "pred": Route(predicted, scores)})

    def true_maps(self, split: str) -> Callable[[np.ndarray], Tensor]:
        """A teacher: the function from positions (B,) in a split to maps of the true class, (B, h, w) in [0, 1]."""
        images, clip, _, maps = self.opened(split)
        labels = torch.from_numpy(images.labels).to(self.device)
        return lambda index: maps(clip.preprocess([images.image(i) for i in index]), labels[index])

    def opened(self, split: str) -> tuple[ImageSet, Clip, Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """The images, CLIP, class texts (K, d) and ``maps(x, targets)``, the CLIP-ES maps of a batch."""
        p = self.profile
        images, clip = open_data(p.data, split), load_clip(p.pseudo_labels.clip, self.device)
        settings = p.pseudo_labels.clip_es
        text = class_embeddings(clip, images.class_names, settings.template)
        background = background_embeddings(clip, settings)
        return images, clip, text, lambda x, targets: clip_es(clip, x, targets, text, background, settings)

    def modules(self) -> dict[str, nn.Module]:
        return {"visual tower": load_clip(self.profile.pseudo_labels.clip).model.visual}
