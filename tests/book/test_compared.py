"""Tables name every method once, and say what a machine lacks instead of leaving a method out in silence."""

from dataclasses import replace

import pytest

from tedloc import paper, profiles
from tedloc.book import compared
from tedloc.methods import METHODS, create


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_row_has_its_own_label_and_every_method_of_table_1_a_row(name):
    rows = compared.rows(profiles.get(name))
    assert len({row.label for row in rows}) == len(rows)
    assert set(paper.table(1)["row"]) == {row.paper_row for row in rows if row.paper_row}


@pytest.mark.parametrize("name", METHODS)
def test_settings_are_there_for_every_scale(name):
    for profile in profiles.PROFILES:
        method = create(name, profiles.get(profile))
        assert (method.own is None) == (not method.SETTINGS)
        assert set(method.SETTINGS) in (set(), {"small", "CUB", "ILSVRC"})


def test_a_method_whose_weights_are_missing_asks_for_no_run():
    cub = profiles.get("cub")
    rows = {row.label: row for row in compared.rows(cub)}
    row = replace(rows["TS-CAM"], lacks="deit_small_patch16_224.fb_in1k (model hub)")
    assert row.requests(cub, (0, 1)) == []
    assert len(replace(row, lacks=None, method="cam").requests(profiles.get("smoke"), (0, 1))) == 2
    unseeded = replace(row, lacks=None, method="clip-es", route="pred", seeded=False)
    (request,) = unseeded.requests(profiles.get("smoke"), (0, 1))
    assert request.routes == ("pred",)
