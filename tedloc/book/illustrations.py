"""What the chapters *The problem in one picture* and *The method* show beside the method itself.

Nothing here is part of TeD-Loc: it takes the package's own functions and a trained model's output and prepares them to
be looked at. ``source`` shows the lines of a function; ``tallies`` counts what the sampler draws; ``score_shares`` says
which patch a class score comes from; ``pulls`` says where each loss would move the patches of one image; ``overlap``
and ``typical`` describe and choose examples.
"""

import ast
import html
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tedloc import losses
from tedloc.errors import UserError
from tedloc.metrics import boxes
from tedloc.model import Output, pool
from tedloc.sampler import Samples, sample
from tedloc.settings import LossSettings
from tedloc.training.distributed import Draws

API = "../api/"  # the package's pages, seen from an executed notebook's: one a room, and one for the paper's four files


@dataclass(frozen=True)
class Source:
    """A function's or class's lines, shown as a link to its place in the package's page and the code below it."""

    name: str  # tedloc.model.pool
    code: str

    def _repr_html_(self) -> str:
        from pygments import highlight  # where no page is made, it need not be there
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer

        shown = highlight(self.code, PythonLexer(), HtmlFormatter(nowrap=True))
        name, room = html.escape(self.name), self.name.split(".")[1]
        page = "method" if room in ("model", "losses", "sampler", "anchors") else room
        return (
            f'<div class="source-lines"><p><a href="{API}{page}.html#{name}"><code>{name}</code></a></p>'
            f'<div class="highlight" tabindex="0"><pre>{shown}</pre></div></div>'
        )

    def __repr__(self) -> str:
        return f"# {self.name}\n{self.code}"


def source(thing: Callable) -> Source:
    """The source of a function, method or class as it runs now, without its docstring.

    Raises ``UserError`` for anything that has no public place in the package: its page could not be linked.
    """
    name = f"{thing.__module__}.{thing.__qualname__}"
    if not name.startswith("tedloc.") or any(part.startswith("_") for part in name.split(".")):
        raise UserError(f"{name} is not a public name of tedloc; show one that the package's page describes")
    text = textwrap.dedent(inspect.getsource(thing))
    lines = text.splitlines()
    body = ast.parse(text).body[0].body
    first = body[0]
    if len(body) > 1 and isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        del lines[first.lineno - 1 : first.end_lineno]
        while not lines[first.lineno - 1].strip():  # the blank line below a class's docstring
            del lines[first.lineno - 1]
    return Source(name, "\n".join(lines))


def tallies(
    foreground: Tensor, background: Tensor, n: int, steps: int, generator: torch.Generator
) -> tuple[list[Samples], np.ndarray, np.ndarray]:
    """What the sampler draws for one image in so many steps of training.

    foreground, background: (1, P) bool pools; n: of each kind, a step. Returns the steps' samples and how often each
    pixel was drawn as foreground and as background, two (P,) int64 arrays.
    """
    drawn = [sample(foreground, background, n, Draws(generator, 1)) for _ in range(steps)]
    counts = np.zeros((2, foreground.shape[1]), np.int64)
    for each in drawn:
        for row, pixels in enumerate((each.foreground, each.background)):
            counts[row] += np.bincount(pixels[each.valid].numpy(), minlength=foreground.shape[1])
    return drawn, counts[0], counts[1]


def score_shares(output: Output, anchor: Tensor) -> tuple[Tensor, Tensor]:
    """Where a class score comes from: <h, t> is the sum over patches of a_p <z_p, t> (Eq. 3).

    output: of one image; anchor: (d,). Returns the weights a_p, which sum to one, and the summands, both (H, W).
    """
    weights = output.g[0].sigmoid()
    weights = weights / weights.sum()
    return weights, weights * torch.einsum("dhw,d->hw", output.z[0], anchor)


def fewest(weights: Tensor, share: float = 0.5) -> int:
    """How many of the largest weights, which sum to one, it takes to reach a share of them."""
    return 1 + int((weights.flatten().sort(descending=True).values.cumsum(0) < share).sum())


class Pull(NamedTuple):
    """Where one loss moves the patches of an image; each (H, W), zero where it does not reach.

    anchor: -dL/dz_p along the unit anchor of the image's class: positive towards it
    object: -dL/dg_p, g_p as a logit: positive towards "object"
    """

    anchor: Tensor
    object: Tensor


def pulls(output: Output, samples: Samples, labels: Tensor, anchors: Tensor, settings: LossSettings) -> dict[str, Pull]:
    """What each loss of Eq. 5 asks of every patch of one image, as descent directions by name of the loss.

    output: of one image, (1, ...); z and g are taken as free, each patch by itself: the decoder, which must move them
    together, and the weights of g between the two do not enter. Every loss is taken with its λ.
    """
    z = output.z.detach().requires_grad_()
    g = output.g.detach().requires_grad_()
    h = pool(z, g.sigmoid())
    free = Output(z, torch.nn.Identity(), g, h, F.linear(h, anchors))
    unit = F.normalize(anchors[labels[0]], dim=0)
    found = {}
    for field, name in (("kd", "L_KD"), ("patch", "P_CL"), ("image", "I_CL")):
        others = {other: 0.0 for other in ("kd", "patch", "image") if other != field}
        if not getattr(settings, field):
            continue
        loss, _ = losses.total(free, samples, labels, anchors, replace(settings, **others))
        to_z, to_g = torch.autograd.grad(loss, (z, g), retain_graph=True, allow_unused=True, materialize_grads=True)
        found[name] = Pull(torch.einsum("dhw,d->hw", -to_z[0], unit), -to_g[0])
    return found


class Overlap(NamedTuple):
    """Of the pixels above a share of a map's maximum: ``inside``, the share that lies on the object; ``covered``,
    the share of the object that they make up. ``inside`` is NaN where no pixel is above it."""

    inside: float
    covered: float


def overlap(score_map: np.ndarray, truth: np.ndarray, share: float = 0.5) -> Overlap:
    """score_map: (H, W) in [0, 1]; truth: (H, W) bool, not empty."""
    high = score_map > share * score_map.max()
    both = np.count_nonzero(high & truth)
    return Overlap(both / high.sum() if high.any() else float("nan"), both / np.count_nonzero(truth))


def overlaps(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N, 2) :class:`Overlap` of each map (N, h, w) of any range, as the protocol stretches it, with truth
    (N, grid, grid) bool."""
    return np.array([overlap(boxes.to_grid(each, len(mask)), mask) for each, mask in zip(maps, truth, strict=True)])


def typical(values: np.ndarray, centre: np.ndarray) -> int:
    """The row of values (N, m) that lies nearest to ``centre`` (m,), the first among equals."""
    return int(np.square(values - centre).sum(axis=1).argmin())
