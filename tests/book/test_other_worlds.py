"""The same rule in other worlds: which methods are the nearest, and when there is something to show."""

import numpy as np

from tedloc import profiles
from tedloc.book import other_worlds
from tedloc.metrics.meter import LocalizationMeter


def side(share, worlds):
    """Worlds in which about this share of 200 boxes is right."""
    found = {}
    for world in worlds:
        meter, right = LocalizationMeter(step=0.1), np.random.default_rng(world).random(200) < share
        boxes = np.where(right[:, None], [0, 0, 99, 99], [150, 150, 199, 199])
        truth = [np.array([[0, 0, 99, 99]])] * 200
        meter.update_boxes([f"{world}/{n}" for n in range(200)], boxes, truth, np.full((200, 2), 224))
        found[world] = meter
    return found


SHARES = {"tedloc": 0.7, "cam": 0.66, "c2am": 0.78, "ddt": 0.2, "bas": 0.71, "psol": 0.5}


def kept_in(monkeypatch, worlds, **shares):
    made = {name: side(share, worlds) for name, share in (SHARES | shares).items()}
    monkeypatch.setattr(
        other_worlds,
        "sides",
        lambda _, asked: {n: {w: s[w] for w in asked if w in s} for n, s in made.items() if {*asked} & {*s}},
    )


def test_the_nearest_methods_are_compared_in_both_sets_of_worlds(monkeypatch):
    kept_in(monkeypatch, range(1, 9), bas=0.95)
    frame = other_worlds.table(profiles.get("aviary", {}))
    assert list(frame.index) == ["CAM", "C2AM", "PSOL"] and len(frame.columns) == 4
    assert frame.columns[2] == "worlds 6, 7, 8"
    assert set(frame.iloc[:, 1]) <= {*other_worlds.WORDS.values()}
    assert frame.loc["PSOL"].iloc[1] == frame.loc["PSOL"].iloc[3] == "TeD-Loc better"


def test_nothing_is_shown_where_one_other_world_is_kept(monkeypatch):
    kept_in(monkeypatch, range(1, 7))
    assert other_worlds.table(profiles.get("aviary")) is None
