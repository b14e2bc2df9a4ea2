"""Maps of class names: few names have few neighbours, the same layout comes every time, every pair has its line."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from tedloc import anchors
from tedloc.book import name_maps

TEXT = torch.randn(12, 16, generator=torch.Generator().manual_seed(0)) + 0.5
NAMES = [f"class {n}" for n in range(12)]


def test_so_few_names_have_fewer_neighbours():
    assert name_maps.perplexity(1000) == name_maps.PERPLEXITY and name_maps.perplexity(10) == 3


def test_the_layout_is_the_same_every_time_and_knows_directions_alone():
    place = name_maps.layout(TEXT, steps=300)
    assert place.shape == (12, 2) and np.isfinite(place).all()
    assert np.array_equal(place, name_maps.layout(TEXT, steps=300))
    assert np.allclose(place, name_maps.layout(4 * TEXT, steps=300))


@pytest.mark.parametrize("groups", [None, ["wren"] * 6 + ["owl"] * 6], ids=["by place", "by group"])
def test_a_picture_has_a_panel_for_each_set_and_a_numbered_line_for_each_pair(groups):
    pairs = anchors.closest_pairs(TEXT, 2)
    panels = {"before": TEXT, "after": anchors.orthogonalise(TEXT)}
    figure = name_maps.draw(panels, pairs, NAMES, np.arange(12), groups, steps=300)
    drawn = [ax for ax in figure.axes if ax.get_xlabel().startswith("t-SNE")]
    assert len(drawn) == 2 and all([text.get_text() for text in ax.texts] == ["1", "2"] for ax in drawn)
    first = pairs[0]
    named = f"1: {NAMES[first[0]]} – {NAMES[first[1]]}".replace(" ", "\N{NO-BREAK SPACE}")
    assert named in figure._supxlabel.get_text()
    plt.close(figure)
