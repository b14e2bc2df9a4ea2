"""What the chapters show beside the method is what the method's own functions do."""

import inspect

import numpy as np
import pytest
import torch

from tedloc import losses, model, sampler
from tedloc.book import illustrations
from tedloc.errors import UserError
from tedloc.settings import LossSettings
from tedloc.training.distributed import Draws

CLASSES, DIM, SIDE = 4, 6, 5


@pytest.fixture
def image():
    """Output of a small trained part for one image, its samples, label and anchors."""
    torch.manual_seed(0)
    anchors = torch.linalg.qr(torch.randn(DIM, CLASSES))[0].T.contiguous()
    net = model.TeDLoc(3, anchors, model.DecoderSettings(width=4, upsampling=1)).eval()
    output = net.requires_grad_(False)(torch.randn(1, 3, SIDE, SIDE))
    foreground, background = (torch.zeros(1, SIDE * SIDE, dtype=torch.bool) for _ in range(2))
    foreground[0, :8], background[0, 15:] = True, True
    samples = sampler.sample(foreground, background, 3, Draws(torch.Generator().manual_seed(0), 1))
    return output, samples, torch.tensor([2]), anchors


def test_source_is_what_runs_without_its_docstring():
    shown = illustrations.source(model.pool)
    assert shown.name == "tedloc.model.pool" and shown.code.startswith("def pool(")
    assert "Eq. 3" not in shown.code and "clamp_min(eps)" in shown.code
    for line in shown.code.splitlines():
        assert line in inspect.getsource(model.pool)
    assert 'href="../api/method.html#tedloc.model.pool"' in shown._repr_html_()


def test_source_of_a_class_and_of_a_method():
    shown = illustrations.source(model.Decoder).code.splitlines()
    assert shown[1].strip().startswith("def __init__")
    assert illustrations.source(model.TeDLoc.forward).code.startswith("def forward(self")


def test_source_that_the_page_does_not_describe_is_refused():
    with pytest.raises(UserError, match="not a public name"):
        illustrations.source(model.TeDLoc.__init__)
    with pytest.raises(UserError, match="not a public name"):
        illustrations.source(np.mean)


def test_tallies_count_every_draw_once():
    foreground, background = (torch.zeros(1, 30, dtype=torch.bool) for _ in range(2))
    foreground[0, :4], background[0, 10:] = True, True
    drawn, positive, negative = illustrations.tallies(foreground, background, 6, 5, torch.Generator().manual_seed(0))
    assert len(drawn) == 5
    assert (positive[:4] == 5).all() and positive[4:].sum() == 0  # a pool of four is drawn whole
    assert negative.sum() == 5 * 4 and negative[:10].sum() == 0  # as many of the other kind


def test_shares_of_a_score_sum_to_it(image):
    output, _, labels, anchors = image
    weights, shares = illustrations.score_shares(output, anchors[labels[0]])
    assert float(weights.sum()) == pytest.approx(1)
    assert float(shares.sum()) == pytest.approx(float(output.scores[0, labels[0]]), abs=1e-6)


def test_the_fewest_patches_that_hold_a_share_of_the_weight():
    weights = torch.tensor([[0.1, 0.4], [0.3, 0.2]])
    assert [illustrations.fewest(weights, share) for share in (0.3, 0.5, 0.75)] == [1, 2, 3]


def test_each_loss_pulls_where_its_equation_reaches(image):
    output, samples, labels, anchors = image
    found = illustrations.pulls(output, samples, labels, anchors, LossSettings())
    drawn = {name: torch.zeros(SIDE * SIDE, dtype=torch.bool) for name in ("foreground", "background")}
    for name, mask in drawn.items():
        mask[getattr(samples, name)[0]] = True
    kd, patch, whole = (found[name] for name in ("L_KD", "P_CL", "I_CL"))
    assert (kd.anchor.flatten()[drawn["foreground"]] > 0).all()
    assert not kd.anchor.flatten()[~drawn["foreground"]].any() and not kd.object.any()
    assert (patch.object.flatten()[drawn["foreground"]] > 0).all()
    assert (patch.object.flatten()[drawn["background"]] < 0).all()
    assert not patch.object.flatten()[~(drawn["foreground"] | drawn["background"])].any() and not patch.anchor.any()
    assert (whole.anchor > 0).all() and (whole.object != 0).all()


def test_pulls_are_the_gradient_of_the_loss(image):
    """Moving one free patch a little along the pull lowers the loss by as much as the pull says."""
    output, samples, labels, anchors = image
    found = illustrations.pulls(output, samples, labels, anchors, LossSettings(image=0.5))
    step = 1e-2

    def loss(z, g):
        h = model.pool(z, g.sigmoid())
        moved = model.Output(z, torch.nn.Identity(), g, h, torch.nn.functional.linear(h, anchors))
        return losses.total(moved, samples, labels, anchors, LossSettings(kd=0.0, patch=0.0, image=0.5))[0]

    z, g = output.z.double(), output.g.double()
    anchors = anchors.double()
    unit = anchors[labels[0]] / anchors[labels[0]].norm()
    there, back = z.clone(), z.clone()
    there[0, :, 1, 2] += step * unit
    back[0, :, 1, 2] -= step * unit
    assert float(loss(back, g) - loss(there, g)) / (2 * step) == pytest.approx(
        float(found["I_CL"].anchor[1, 2]), rel=1e-3
    )
    there, back = g.clone(), g.clone()
    there[0, 1, 2] += step
    back[0, 1, 2] -= step
    assert float(loss(z, back) - loss(z, there)) / (2 * step) == pytest.approx(
        float(found["I_CL"].object[1, 2]), rel=1e-3, abs=1e-7
    )


def test_a_loss_that_is_switched_off_pulls_nothing(image):
    assert illustrations.pulls(*image, LossSettings(kd=0.0)).keys() == {"P_CL", "I_CL"}


def test_overlap_of_a_map_that_sees_a_part():
    truth, seen = np.zeros((4, 4), bool), np.zeros((4, 4))
    truth[:, :2], seen[0, :2], seen[0, 2] = True, 1.0, 0.4
    assert illustrations.overlap(seen, truth) == (1.0, 0.25)
    assert np.isnan(illustrations.overlap(np.zeros((4, 4)), truth).inside)


def test_overlaps_are_those_of_maps_as_the_protocol_stretches_them():
    truth = np.zeros((2, 8, 8), bool)
    truth[:, :, :4] = True
    maps = np.full((2, 2, 2), 3.0)  # of any range and size; the second is flat, so empty
    maps[0, :, 1] = -5.0
    found = illustrations.overlaps(maps, truth)
    assert found.shape == (2, 2) and found[0].tolist() == [1.0, 1.0]
    assert np.isnan(found[1, 0]) and found[1, 1] == 0


def test_the_typical_one_is_nearest_to_the_centre():
    values = np.array([[0.0, 0.0], [0.6, 0.4], [1.0, 1.0]])
    assert illustrations.typical(values, np.array([0.5, 0.5])) == 1
