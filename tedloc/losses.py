"""The training loss of TeD-Loc: L = λ1 L_KD + λ2 P_CL + λ3 I_CL (Eq. 5).

The paper writes sums over the sampled patches; we take means, so that the λs do not depend on how many
patches are sampled (our choice).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from tedloc.model import Output
from tedloc.sampler import Samples
from tedloc.settings import LossSettings
from tedloc.training import distributed


def knowledge_distillation(
    z: Tensor, valid: Tensor, labels: Tensor, anchors: Tensor, logit_scale: float = 1.0
) -> Tensor:
    """L_KD, Eq. 1: cross-entropy of sampled foreground patches against the anchors.

    z: (B, n, d) embeddings of the sampled patches; valid: (B, n) bool; labels: (B,); anchors: (K, d).
    """
    logits = logit_scale * F.linear(z, anchors)  # (B, n, K)
    losses = F.cross_entropy(logits.transpose(1, 2), labels[:, None].expand_as(valid), reduction="none")
    return (losses * valid).sum() / distributed.divisor(valid.sum(), len(valid)).clamp_min(1)


def patch_classification(g: Tensor, samples: Samples) -> Tensor:
    """P_CL, Eq. 2: binary cross-entropy of g on sampled foreground (1) and background (0) patches.

    g: (B, H, W) logits.
    """
    g = g.flatten(1)
    valid = samples.valid
    positive = F.softplus(-g.gather(1, samples.foreground))
    negative = F.softplus(g.gather(1, samples.background))
    both = ((positive + negative) * valid).sum()
    return both / distributed.divisor(2 * valid.sum(), len(valid)).clamp_min(1)


def image_classification(scores: Tensor, labels: Tensor, logit_scale: float = 1.0) -> Tensor:
    """I_CL, Eq. 4: cross-entropy of the image embedding's scores. scores: (B, K); labels: (B,)."""
    return F.cross_entropy(logit_scale * scores, labels)


def total(
    output: Output, samples: Samples, labels: Tensor, anchors: Tensor, settings: LossSettings
) -> tuple[Tensor, dict[str, Tensor]]:
    """Eq. 5. Returns the loss and its detached terms by name; terms with λ = 0 are not computed."""
    terms: dict[str, Tensor] = {}
    if settings.kd:
        terms["L_KD"] = knowledge_distillation(
            output.z_at(samples.foreground), samples.valid, labels, anchors, settings.logit_scale
        )
    if settings.patch:
        terms["P_CL"] = patch_classification(output.g, samples)
    if settings.image:
        terms["I_CL"] = image_classification(output.scores, labels, settings.logit_scale)
    weights = {"L_KD": settings.kd, "P_CL": settings.patch, "I_CL": settings.image}
    loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return loss, {name: term.detach() for name, term in terms.items()}
