"""CLIP-ES: the softmax Grad-CAM of CLIP, refined by its own attention (Lin et al., CVPR 2023).

These maps are TeD-Loc's teacher (paper, section 3.1 and supplement A) and a compared method (table 1).

1. Score. An image feature v = normalise(mean over patches of proj(ln_post(x))) is compared with the texts of
   the classes and of background words; p = softmax(scale * cos). The target is p_y, the probability of the
   image's class y: raising it also means lowering its rivals, which suppresses what the class shares with
   them.
2. Grad-CAM at F = ln_1 of the last block, patches only: map_j = ReLU(sum_c a_c F_jc), where a_c is the mean
   over patches of dp_y/dF_c. Only the last block is differentiated. We differentiate the log-odds
   log(p_y / (1 - p_y)): its gradient is that of p_y divided by the positive number p_y (1 - p_y), so that the
   normalised map is the same, but it does not vanish by rounding where p_y is nearly 0 or 1.
3. Class-aware affinity. W = mean over the last blocks and over heads of the patch-to-patch attention. Three
   rounds of column then row normalisation bring it close to a doubly stochastic D; A = (D + D^T)/2. Only
   patches in the bounding boxes of the map's parts above 0.4 may send: map <- A^2 (mask * map).

With one class and no background word p_y is 1 whatever the image shows, its gradient is zero and so is the
map: rivals (background words, sibling classes, or both) are a necessity, not an option.
"""

import functools

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tedloc.backbones.clip import Clip, embed, grid_of, in_reach, load_clip
from tedloc.backbones.preprocessing import Preprocessing
from tedloc.backbones.text import background_embeddings, class_embeddings
from tedloc.errors import UserError
from tedloc.methods import Method, Route
from tedloc.settings import ClipESSettings


@torch.inference_mode(False)
def clip_es(
    clip: Clip,
    images: Tensor,
    targets: Tensor,
    text: Tensor,
    background: Tensor | None = None,
    settings: ClipESSettings = ClipESSettings(),
) -> Tensor:
    """CLIP-ES maps of B images for one class each.

    images:     (B, 3, H, W) preprocessed
    targets:    (B,) int64 in [0, K), the class each map is for
    text:       (K, d) unit-norm class embeddings
    background: (M, d) unit-norm embeddings of background words, None for none;
                ``tedloc.backbones.text.background_embeddings`` makes what ``settings`` asks for
    Returns (B, h, w) float32 on the patch grid, each map min-max normalised to [0, 1]. A map without a
    positive value (nothing in the image raises the class) comes back as zeros.
    Raises ``UserError`` for an image tower that cannot be taken apart, or more affinity blocks than it has.
    """
    tower = clip.tower
    blocks = tower.transformer.resblocks
    averaged = _affinity_blocks(settings, len(blocks))
    grid = grid_of(tower, images)
    candidates, own = _candidates(targets, text, background, settings.siblings)
    if candidates.shape[1] == 1:  # no rival: a constant probability has no gradient
        return images.new_zeros(len(images), *grid)

    attention = 0.0
    with torch.no_grad(), clip.autocast():
        tokens = embed(tower, images)
        for index, block in enumerate(blocks[:-1]):
            tokens, weights = clip.block(block, tokens, weights=len(blocks) - index <= averaged)
            if weights is not None:
                attention = attention + weights[:, :, 1:, 1:].mean(dim=1, dtype=torch.float32)
        normed = blocks[-1].ln_1(tokens).float()

    with torch.enable_grad():
        normed.requires_grad_(True)
        with clip.autocast():  # of the block alone: what follows is little work, and differences of near equals
            tokens, weights = clip.block(blocks[-1], tokens, weights=averaged > 0, normed=normed)
        feature = F.normalize((tower.ln_post(tokens[:, 1:].float()) @ tower.proj).mean(dim=1), dim=-1)
        scale = clip.logit_scale if settings.logit_scale is None else settings.logit_scale
        logits = scale * (candidates @ feature[:, :, None]).squeeze(-1)
        rivals = logits.scatter(1, own, -torch.inf).logsumexp(dim=1)
        log_odds = logits.gather(1, own).squeeze(1) - rivals
        (gradient,) = torch.autograd.grad(log_odds.sum(), normed)

    with torch.no_grad():
        channels = gradient[:, 1:].mean(dim=1, keepdim=True)
        maps = _min_max((normed[:, 1:] * channels).sum(dim=-1).relu())
        if averaged:
            attention = attention + weights.detach()[:, :, 1:, 1:].mean(dim=1, dtype=torch.float32)
            maps = _refine(maps, attention / averaged, grid, settings)
        return maps.unflatten(1, grid)


def _affinity_blocks(settings: ClipESSettings, depth: int) -> int:
    """How many last blocks enter the affinity; 0 when it is off."""
    count = round(depth * 2 / 3) if settings.affinity_blocks is None else settings.affinity_blocks
    if settings.affinity and not 1 <= count <= depth:
        raise UserError(f"affinity_blocks = {count}, but the image tower has {depth} blocks; choose 1 to {depth}")
    return count if settings.affinity else 0


def _candidates(targets: Tensor, text: Tensor, background: Tensor | None, siblings: bool) -> tuple[Tensor, Tensor]:
    """Texts in each image's softmax, (B or 1, N, d), and the column (B, 1) of its own class among them."""
    words = text[:0] if background is None else background
    if siblings:
        return torch.cat([text, words])[None], targets[:, None]
    own = torch.cat([text[targets, None], words.expand(len(targets), -1, -1)], dim=1)
    return own, torch.zeros_like(targets)[:, None]


def _refine(maps: Tensor, attention: Tensor, grid: tuple[int, int], settings: ClipESSettings) -> Tensor:
    """Class-aware affinity: maps (B, N) spread by attention (B, N, N) from the boxes of their high parts."""
    for _ in range(settings.affinity_rounds):
        attention = attention / attention.sum(dim=1, keepdim=True)
        attention = attention / attention.sum(dim=2, keepdim=True)
    affinity = (attention + attention.transpose(1, 2)) / 2
    boxes = np.stack([box_mask(one, settings.cam_threshold) for one in maps.unflatten(1, grid).cpu().numpy()])
    refined = (maps * torch.from_numpy(boxes).to(maps).flatten(1))[:, :, None]
    for _ in range(settings.affinity_power):  # two products with a vector cost less than one square of A
        refined = affinity @ refined
    return _min_max(refined.squeeze(-1))


def box_mask(score_map: np.ndarray, threshold: float) -> np.ndarray:
    """Union of the bounding boxes of all parts of a map (h, w) strictly above ``threshold`` x its maximum.

    Parts are 8-connected, so their boxes are those of the outer contours. Returns (h, w) bool; all False for
    a map without a positive value.
    """
    mask = np.zeros(score_map.shape, dtype=bool)
    high = (score_map > threshold * score_map.max()).astype(np.uint8)
    for x, y, width, height, _ in cv2.connectedComponentsWithStats(high, connectivity=8)[2][1:]:
        mask[y : y + height, x : x + width] = True
    return mask


def _min_max(maps: Tensor) -> Tensor:
    """Stretch each row of (B, N) to [0, 1]; a constant row becomes zeros."""
    low, high = maps.amin(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny), 0.0)


class FromCLIP(Method):
    """What explains the profile's CLIP, without training."""

    seeded = False
    uses = ("data", "pseudo_labels")

    @property
    def backbone_name(self) -> str:
        return self.profile.pseudo_labels.clip

    def lacks(self) -> str | None:
        return None if in_reach(self.backbone_name) else f"CLIP {self.backbone_name} (model hub)"

    @functools.cached_property
    def clip(self) -> Clip:
        p = self.profile.pseudo_labels
        return load_clip(p.clip, self.device, precision=p.precision, compile=p.compile)

    def preprocessing(self) -> Preprocessing:
        return self.clip.preprocessing

    @functools.cached_property
    def text(self) -> Tensor:
        """(K, d) class texts."""
        names = self.images("train").class_names
        return class_embeddings(self.clip, names, self.profile.pseudo_labels.clip_es.template)

    def modules(self) -> dict[str, nn.Module]:
        return {"visual tower": load_clip(self.profile.pseudo_labels.clip).model.visual}


class CLIPES(FromCLIP):
    """Routes: ``true`` (GT-Known) and ``pred``. Scores: zero-shot, from the untouched CLS embedding."""

    title = "CLIP-ES"
    paper_row = "CLIP-ES"
    SEARCH = {"affinity_blocks": (1, 2, 3, 4), "siblings": (True, False), "template": ("clip-es", "ted-loc")}

    def search(self) -> dict[str, tuple]:
        return {f"pseudo_labels.clip_es.{name}": values for name, values in self.SEARCH.items()}

    def rows(self) -> dict[str, str | None]:
        return {"CLIP-ES (GT-Known)": "true", "CLIP-ES (Pred)": "pred"}

    @functools.cached_property
    def background(self) -> Tensor | None:
        """(M, d) texts of the background words, None for none."""
        return background_embeddings(self.clip, self.profile.pseudo_labels.clip_es)

    def maps(self, x: Tensor, targets: Tensor) -> Tensor:
        """(B, h, w) maps of one class an image."""
        return clip_es(self.clip, x, targets, self.text, self.background, self.profile.pseudo_labels.clip_es)

    def localize(self, split: str, index: np.ndarray) -> dict[str, Route]:
        x, labels = self.photos(split, index), self.labels(split, index)
        scores = self.clip.zero_shot(x, self.text)
        true, guess = self.maps(x, labels), scores.argmax(1)
        predicted, wrong = true.clone(), guess != labels
        if wrong.any():
            predicted[wrong] = self.maps(x[wrong], guess[wrong])
        return {"true": Route(true, scores), "pred": Route(predicted, scores)}

    def true_maps(self, split: str, index: np.ndarray) -> Tensor:
        """As they are, within [0, 1]; the predicted class is not asked for."""
        return self.maps(self.photos(split, index), self.labels(split, index))
