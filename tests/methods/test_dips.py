"""DiPS keeps the proposals that a classifier believes, and learns from one pixel of each kind a step."""

import numpy as np
import pytest
import torch
from torch import nn

from tedloc import profiles, sampler
from tedloc.data import open_data
from tedloc.methods import dips
from tedloc.methods.dips import DiPS, DiPSNet, best, proposals, region_scores, regions, train_proposals
from tedloc.methods.trained import Batch
from tedloc.settings import DecoderSettings, override
from tedloc.training import engine
from tedloc.training.distributed import Draws

DIM, CLASSES, SIDE = 8, 4, 10
SMALL = override(profiles.get("smoke"), {"data.per_class": 1})


def blob(row: int, column: int, random: torch.Generator | None = None) -> torch.Tensor:
    """(SIDE, SIDE) uint8 map with a bright 3x3 square on a dim ramp, or on its values in random order."""
    ramp = torch.linspace(0, 60, SIDE * SIDE)
    ramp = (ramp if random is None else ramp[torch.randperm(len(ramp), generator=random)]).view(SIDE, SIDE)
    ramp[row : row + 3, column : column + 3] = 255
    return ramp.to(torch.uint8)


FLAT = torch.full((SIDE, SIDE), 7, dtype=torch.uint8)


def evidence(labels: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """Patch embeddings (B, DIM, SIDE, SIDE) that speak for the class in a square, elsewhere for the next."""
    x = torch.zeros(len(labels), DIM, SIDE, SIDE)
    for i, label in enumerate(labels):
        x[i, (label + 1) % CLASSES] = 2
        x[i, :, row : row + 3, column : column + 3] = 0
        x[i, label, row : row + 3, column : column + 3] = 4
    return x


def classifier() -> nn.Linear:
    """Class c is channel c."""
    linear = nn.Linear(DIM, CLASSES, bias=False)
    linear.weight.data = torch.eye(CLASSES, DIM)
    return linear


def batch_of(x: torch.Tensor, labels: torch.Tensor, mirrored: bool = False, seed: int = 0) -> Batch:
    draws = Draws(torch.Generator().manual_seed(seed), len(x))
    return Batch(x, labels, np.arange(len(x)), torch.full((len(x),), mirrored), draws)


def test_the_proposal_that_holds_the_classs_evidence_is_kept_and_others_dropped():
    labels = torch.tensor([0, 1, 2])
    maps = torch.stack([FLAT, blob(6, 6), blob(1, 1), blob(1, 6)]).expand(3, -1, -1, -1)
    x = evidence(labels, 1, 1)
    kept = best(maps, classifier(), x, labels, 1)
    assert torch.equal(kept, maps[:, 2:3])
    scores = region_scores(classifier(), x, regions(maps), labels)
    assert (scores[:, 0] == -1).all()  # a flat map has no region
    assert (scores[:, 2] > 0.9).all() and (scores[:, [1, 3]] < 0.2).all()
    every = best(maps, classifier(), x, labels, 9)
    assert every.shape == maps.shape and torch.equal(every[:, -1], maps[:, 0])  # the flat one comes last


def test_proposals_are_the_first_heads_and_the_mean_of_all():
    attention = torch.rand(2, 6, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    attention[0, 1] = 0.3
    found = proposals(attention, heads=4)
    assert found.shape == (2, 5, SIDE, SIDE) and found.dtype == torch.uint8
    assert not found[0, 1].any() and (found.flatten(2).amax(2) == 255).sum() == 9  # one head saw nothing
    assert found[1, 4].argmax() == attention[1].mean(0).argmax()
    assert found[1, 2].argmin() == attention[1, 2].argmin()
    assert proposals(attention, heads=9).shape[1] == 7


class Fixed(nn.Module):
    """Stands for the network: logits that are a parameter."""

    def __init__(self, images: int, side: int):
        super().__init__()
        self.g = nn.Parameter(torch.zeros(images, side, side))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.g, torch.zeros(len(x), CLASSES)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_step_learns_from_exactly_one_pixel_of_each_kind(mirrored):
    method, labels, side = DiPS(profiles.get("aviary")), torch.zeros(6, dtype=torch.int64), 2 * SIDE
    method.proposals = torch.stack([blob(1, 1), blob(6, 2)]).expand(6, -1, -1, -1)
    seen = set()
    for seed in range(20):
        net = Fixed(6, side)
        loss, terms = method.loss(net, batch_of(evidence(labels, 1, 1), labels, mirrored, seed))
        loss.backward()
        pulled = net.g.grad.flip(-1) if mirrored else net.g.grad
        for image in pulled:
            (up,), (down,) = (image < 0).nonzero().tolist(), (image > 0).nonzero().tolist()
            at = torch.tensor(up) // 2
            inside = [bool(regions(one[None])[0, at[0], at[1]]) for one in (blob(1, 1), blob(6, 2))]
            assert any(inside) and down[0] < side / 2  # in a region, and where the ramp is low
            seen.add(inside.index(True))
    assert seen == {0, 1}  # either proposal is drawn


def test_the_decoder_finds_the_object_that_noisy_proposals_share():
    method = DiPS(profiles.get("aviary"))
    net = engine.seeded(0, lambda: DiPSNet(DIM, CLASSES, DecoderSettings(width=16)))
    labels = torch.arange(16) % CLASSES
    random = torch.Generator().manual_seed(0)
    places = torch.randint(SIDE - 2, (16, 2, 2), generator=random).tolist()
    x = torch.cat([evidence(labels[i : i + 1], *places[i][0]) for i in range(16)])
    # one proposal of each image is right, the other anywhere
    method.proposals = torch.stack([torch.stack([blob(*place, random) for place in pair]) for pair in places])
    optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    for step in range(150):
        loss, _ = method.loss(net, batch_of(x, labels, seed=step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    with torch.no_grad():
        maps = method.routes(net, x, labels)["map"].maps
    inside = regions(torch.stack([blob(*right) for right, _ in places]))
    inside = sampler.to_grid(inside.float(), tuple(maps.shape[1:])) > 127
    assert maps[inside].mean() > maps[~inside].mean() + 0.35


def test_proposals_are_computed_once(monkeypatch):
    images, vit = open_data(SMALL.data, "train"), {"name": "aviary/vit"}
    first = train_proposals(images, vit, 4, "cpu", "code")
    assert first.shape == (len(images), 5, 10, 10)

    def gone(**arguments):
        raise AssertionError("looked again")

    monkeypatch.setattr(dips, "AttentionViT", gone)
    assert np.array_equal(train_proposals(images, vit, 4, "cpu", "code"), first)
    with pytest.raises(AssertionError, match="looked again"):
        train_proposals(images, vit, 3, "cpu", "code")


def test_an_encoder_without_attention_sends_for_a_vit():
    lacking = DiPS(profiles.get("imagenette-small")).lacks()
    assert lacking is None or lacking == "a ViT such as timm/vit_small_patch16_224.dino (model hub)"
    assert DiPS(profiles.get("aviary")).lacks() is None
