"""DiPS (Murtaza et al., 2023): pseudo-labels drawn from proposals of a ViT's attention.

1. Proposals. In the last block of a self-supervised ViT every head's attention of the class token to the
   patches, and the heads' mean, is a map of something; Otsu's threshold turns it into a region R.
2. Selection. A classifier scores each region by the probability of the image's class; the best are kept:

       score(R) = softmax(W mean_{p in R} x_p + b)_y

3. Training. Each step takes one kept proposal an image at random, one foreground pixel from its region and
   one background pixel from the lowest part of its map, and trains a decoder with partial cross-entropy at
   the two:

       L = (-log g(p+) - log(1 - g(p-))) / 2 + CE of a class head

The map is the decoder's foreground probability g; it knows no class. As in TeD-Loc, the pixels change every
step, so what the proposals agree on wins.

The published system trains a ViT-S end to end, scores regions with a classifier of images, and adds a CRF
term of weight 2e-9. Here encoder and proposals are frozen and cached, regions are scored by their pooled
patch embeddings x under the linear classifier of CAM, decoder and pools are TeD-Loc's, and the CRF is left
out: at that weight it is a rounding error on a grid as coarse as ours. A sampled pixel is not dilated
(published: 3x3): one of ours is larger.
"""

from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc import fingerprints, paths, sampler
from tedloc.backbones.attention import AttentionViT
from tedloc.backbones.encoders import in_reach
from tedloc.data import ImageSet, batches
from tedloc.data.registry import DATASETS
from tedloc.losses import patch_classification
from tedloc.methods import Route, Shape
from tedloc.methods.cam import LinearCAM
from tedloc.methods.fine_tuned import vit_beside
from tedloc.methods.trained import Batch, Trained, subfolder
from tedloc.model import Decoder
from tedloc.settings import DecoderSettings, OptimiserSettings, SamplerSettings

SCORED = 256  # images whose regions are scored at once
DINO = "timm/vit_small_patch16_224.dino"  # the published proposals' ViT


def proposals(attention: Tensor, heads: int) -> Tensor:
    """(B, n, h, w) uint8 proposals, each stretched to 0 to 255: the first ``heads`` heads, then the mean of
    all.

    attention: (B, H, h, w), how much the class token attends to each patch
    """
    maps = torch.cat([attention[:, :heads], attention.mean(1, keepdim=True)], 1)
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return ((maps - low) / (high - low).clamp_min(1e-12) * 255).round().to(torch.uint8)


def regions(maps: Tensor) -> Tensor:
    """Bool regions R of uint8 maps (..., h, w), by Otsu's threshold; empty for a flat map."""
    flat = maps.flatten(0, -3).flatten(1)
    return (flat.long() > sampler.otsu(flat)[:, None]).view(maps.shape)


def region_scores(classifier: nn.Module, x: Tensor, inside: Tensor, labels: Tensor) -> Tensor:
    """(B, n) probability of an image's class in each of its regions; -1 for an empty region.

    x: (B, C, h, w) standardised patch embeddings; inside: (B, n, h, w) bool; labels: (B,)
    """
    area = inside.sum((2, 3))
    pooled = torch.einsum("bchw,bnhw->bnc", x, inside.to(x)) / area[:, :, None].clamp_min(1)
    probability = classifier(pooled).softmax(2)[torch.arange(len(x), device=x.device), :, labels]
    return probability.masked_fill(area == 0, -1)


def best(maps: Tensor, classifier: nn.Module, x: Tensor, labels: Tensor, count: int) -> Tensor:
    """The ``count`` proposals (B, count, h, w) of each image that speak most for its class, the best first.

    maps: (B, n, h, w) uint8; x, labels: as in ``region_scores``, on whose grid the regions are taken
    """
    grid = sampler.to_grid(maps.flatten(0, 1) / 255, tuple(x.shape[2:])).unflatten(0, maps.shape[:2])
    scores = region_scores(classifier, x, regions(grid), labels)
    order = scores.topk(min(count, scores.shape[1]), dim=1).indices
    return maps.gather(1, order[:, :, None, None].expand(-1, -1, *maps.shape[2:]))


def train_proposals(images: ImageSet, vit: dict, heads: int, device: str, code: str) -> np.ndarray:
    """The proposals (N, n, h, w) uint8 of a split, computed once and cached. vit: arguments of
    ``AttentionViT``."""
    key = fingerprints.digest([images.fingerprint(), vit, heads, device, code])
    target = paths.cache() / "proposals" / f"{images.name}-{images.split}-{key[:20]}.npy"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.with_suffix(".lock")):
            if not target.exists():
                net = AttentionViT(**vit).to(device).eval()
                with torch.inference_mode():
                    seen = (
                        net(net.preprocess(batch).to(device)).cls_to_patches()[:, -1]
                        for _, batch in batches(images, f"proposals {images.name}/{images.split}")
                    )
                    found = [proposals(attention, heads).cpu() for attention in seen]
                with paths.replacing(target) as scratch:
                    np.save(scratch, torch.cat(found).numpy())
    return np.load(target)


class DiPSNet(nn.Module):
    """Decoder with a foreground head, and a class head on the pooled patch embeddings. The two share nothing,
    since the encoder below them is frozen."""

    def __init__(self, dim: int, classes: int, decoder: DecoderSettings):
        super().__init__()
        self.decoder = Decoder(dim, 1, decoder)
        self.classifier = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of g, (B, H, W), and class scores (B, K)."""
        return self.decoder(x).squeeze(1), self.classifier(x.mean((2, 3)))


@dataclass(frozen=True)
class DiPSSettings:
    backbone: str | None = None  # whose attention proposes; None: the aviary's ViT there, else DINO ViT-S
    heads: int = 4  # proposals are the first so many heads and the mean of all; published
    kept: int = 2  # proposals that remain after scoring; ours, published only as "the top ones"
    # one pixel of each kind, background from the lowest 30 %: published; foreground from all of R: ours
    sampler: SamplerSettings = SamplerSettings(samples=1, foreground=1.0, background=0.3)
    optimiser: OptimiserSettings = OptimiserSettings()


class DiPS(Trained):
    """One route, ``map``, of no class. Scores: the class head. Where the attention is that of an encoder trained
    with labels, the row's name says so: what it proposes is not what DINO would."""

    title = "DiPS"
    true_route = "map"
    uses = ("data", "encoder", "decoder")
    builds_on = ("cam",)
    SETTINGS = {
        "small": DiPSSettings(),
        # Epochs, batch and rate are not in our sources: TeD-Loc's, from the same group.
        "CUB": DiPSSettings(optimiser=OptimiserSettings(epochs=50, batch_size=16, learning_rate=0.01)),
        "ILSVRC": DiPSSettings(optimiser=OptimiserSettings(epochs=10, learning_rate=0.01)),
    }
    SEARCH = {"optimiser.learning_rate": (0.005, 0.01, 0.02, 0.05), "kept": (1, 2, 3, 4, 5)}

    @property
    def proposer(self) -> str:
        """The ViT whose attention proposes."""
        return self.own.backbone or vit_beside(self.profile.encoder.name) or DINO

    def rows(self) -> dict[str, str | None]:
        return {self.title if "dino" in self.proposer else f"{self.title} (supervised attention)": None}

    def lacks(self) -> str | None:
        return None if in_reach(self.proposer) else f"a ViT such as {self.proposer} (model hub)"

    def network(self, shape: Shape) -> DiPSNet:
        return DiPSNet(shape.dim, shape.classes, self.profile.decoder)

    def fit(self, folder: Path | None = None) -> None:
        self.scorer = LinearCAM(self.profile, self.seed, self.device)
        self.scorer.fit(subfolder(folder, "classifier"))
        super().fit(folder)

    @torch.inference_mode()
    def prepare(self) -> None:
        """Proposals of the training images, (N, kept, h, w) uint8, the best first."""
        e, images = self.profile.encoder, self.images("train")
        same = self.proposer == e.name
        vit = {
            "name": self.proposer,
            "image_size": e.image_size if same else None,
            "weights": e.weights if same else None,
        }
        code = fingerprints.environment(type(self).__module__, DATASETS[self.profile.data.name])
        found = torch.from_numpy(train_proposals(images, vit, self.own.heads, self.device, code))
        labels, kept = torch.from_numpy(images.labels), []
        for index in torch.arange(len(images)).split(SCORED):
            maps = found[index].to(self.device)
            x = self.scorer.net[0](self.input("train", index.numpy()))
            kept.append(best(maps, self.scorer.net[1], x, labels[index].to(self.device), self.own.kept).cpu())
        self.proposals = torch.cat(kept)

    def loss(self, net: DiPSNet, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        g, scores = net(batch.x)
        which = batch.draws.randint(self.proposals.shape[1])
        maps = self.proposals[batch.index, which.cpu()].to(g.device) / 255
        maps = torch.where(batch.mirrored[:, None, None], maps.flip(-1), maps)
        pools = sampler.pools(sampler.to_grid(maps, tuple(g.shape[1:])), self.own.sampler, batch.draws)
        samples = sampler.sample(*pools, self.own.sampler.samples, batch.draws)
        partial, image = patch_classification(g, samples), F.cross_entropy(scores, batch.labels)
        return partial + image, {"partial CE": partial.detach(), "CE": image.detach()}

    def routes(self, net: DiPSNet, x: Tensor, labels: Tensor) -> dict[str, Route]:
        g, scores = net(x)
        return {"map": Route(g.sigmoid(), scores)}
