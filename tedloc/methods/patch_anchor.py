"""Localization by patch-anchor dot products <z_p, t_y> in CLIP itself (appendix B.1): vanilla, SCLIP, NACLIP.

Training-free. Class scores come from the untouched CLS embedding, and, on routes of their own, from the CLS
embedding that the altered last block gives (which is what the paper's Table 4 seems to use).
"""

from collections.abc import Iterator

import torch
from torch import nn

from tedloc.backbones.clip import load_clip
from tedloc.backbones.text import class_embeddings
from tedloc.methods import Prediction, Route
from tedloc.methods.clip_es import FromCLIP
from tedloc.methods.patch_anchor_maps import dense_embeddings, patch_anchor_maps
from tedloc.methods.pseudo_labels import batches
from tedloc.training.features import open_data


class PatchAnchor(FromCLIP):
    """Routes: ``true``, ``pred`` (untouched CLS) and ``true, altered CLS``."""

    title = "<patch, anchor>"

    def rows(self) -> dict[str, str | None]:
        return {{"vanilla": "CLIP, vanilla", "sclip": "SCLIP", "naclip": "NACLIP"}[self.variant]: None}

    def predict(self, split: str) -> Iterator[Prediction]:
        p = self.profile
        clip = load_clip(p.pseudo_labels.clip, self.device)
        images = open_data(p.data, split)
        text = class_embeddings(clip, images.class_names, p.pseudo_labels.clip_es.template)
        labels = torch.from_numpy(images.labels)
        for index, batch in batches(images, f"{self.variant} {images.name}/{split}"):
            x = clip.preprocess(batch).to(self.device)
            patches, altered, untouched = dense_embeddings(clip, x, self.variant)
            scores, altered_scores = untouched @ text.T, altered @ text.T
            true = patch_anchor_maps(patches, text, labels[index].to(self.device))
            predicted = patch_anchor_maps(patches, text, scores.argmax(1))
            yield Prediction(
                index,
                {
                    "true": Route(true, scores),
                    "pred": Route(predicted, scores),
                    "true, altered CLS": Route(true, altered_scores),
                },
            )

    def modules(self) -> dict[str, nn.Module]:
        return {"visual tower": load_clip(self.profile.pseudo_labels.clip).model.visual}
