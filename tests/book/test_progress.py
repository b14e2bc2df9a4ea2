"""Whoever waits for a book is told what is left and what a long run is at."""

import json
import os
import time

import pytest

from tedloc import paths
from tedloc.book import progress


@pytest.mark.parametrize("seconds, words", [(3, "3 s"), (300, "5 min"), (9000, "2.5 h")])
def test_durations_come_in_the_unit_that_fits(seconds, words):
    assert progress.duration(seconds) == words


def test_what_is_left_is_reckoned_from_earlier_executions_and_from_the_others():
    left = progress.Left({"a": 100.0, "b": None, "c": 50.0, "d": 10.0})
    left.skip("d")
    assert left.words() == "0 of 3 chapters, about 4 min left"  # b as the mean of a and c
    left.done("a", 20.0)
    assert left.words() == "1 of 3 chapters, about 85 s left"
    assert left.words(places=2) == "1 of 3 chapters, about 42 s left"
    left.done("b", 5.0), left.done("c", 5.0)
    assert left.words() == "3 of 3 chapters"
    nothing = progress.Left({"a": None})
    assert nothing.words() == "0 of 1 chapters" and nothing.expected("a") == 0


def test_news_is_of_the_run_that_wrote_last():
    start = time.time() - 1
    assert progress.news(start) is None
    for age, (name, file, line) in enumerate(
        [
            ("cub/tedloc", "progress.jsonl", {"epoch": 3, "loss": 1.5, "seconds_left": 600.0}),
            ("cub/cam", "log.jsonl", {"epoch": 9, "loss": 0.25}),
        ]
    ):
        log = paths.runs() / name / file
        log.parent.mkdir(parents=True)
        log.write_text(json.dumps({"epoch": 1, "loss": 9.0}) + "\n" + json.dumps(line) + "\n")
        os.utime(log, (start + 10 - age,) * 2)
    assert progress.news(start) == "cub/tedloc: epoch 3, loss 1.500, 10 min left"
    (paths.runs() / "cub" / "tedloc" / "progress.jsonl").unlink()
    assert progress.news(start) == "cub/cam: epoch 9, loss 0.250"
    assert progress.news(start + 60) is None
    (paths.runs() / "cub" / "cam" / "log.jsonl").write_text('{"epoch": 9, "lo')  # written at this moment
    assert progress.news(0) is None
