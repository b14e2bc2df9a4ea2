"""CLIP-ES as a method of its own, and TeD-Loc's teacher: softmax-Grad-CAM from CLIP, class-aware affinity.

Training-free. GT-Known localises the true class, Pred the zero-shot prediction.
"""

from collections.abc import Iterator

import torch
from torch import nn

from tedloc.clip import load_clip
from tedloc.clip_es import clip_es
from tedloc.features import open_data
from tedloc.methods import Method, Prediction, Route
from tedloc.pseudo_labels import batches
from tedloc.text import background_embeddings, class_embeddings


class CLIPES(Method):
    """Routes: ``true`` (GT-Known) and ``pred``. Scores: zero-shot, from the untouched CLS embedding."""

    title = "CLIP-ES"
    uses = ("data", "pseudo_labels")

    def predict(self, split: str) -> Iterator[Prediction]:
        p = self.profile
        clip = load_clip(p.pseudo_labels.clip, self.device)
        images = open_data(p.data, split)
        settings = p.pseudo_labels.clip_es
        text = class_embeddings(clip, images.class_names, settings.template)
        background = background_embeddings(clip, settings)
        labels = torch.from_numpy(images.labels)
        for index, batch in batches(images, f"CLIP-ES {images.name}/{split}"):
            x = clip.preprocess(batch).to(self.device)
            scores = clip.zero_shot(x, text)
            true = clip_es(clip, x, labels[index].to(self.device), text, background, settings)
            predicted, wrong = true.clone(), (scores.argmax(1).cpu() != labels[index])
            if split != "train" and wrong.any():
                predicted[wrong] = clip_es(clip, x[wrong], scores.argmax(1)[wrong], text, background, settings)
            yield Prediction(index, {"true": Route(true, scores), "pred": Route(predicted, scores)})

    def modules(self) -> dict[str, nn.Module]:
        return {"visual tower": load_clip(self.profile.pseudo_labels.clip).model.visual}
