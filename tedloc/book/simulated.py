"""The rule of ``tedloc.metrics.verdicts`` where the truth is known: how often is it wrong, and what does it miss?

A simulated world holds N images of its own. On a share of them the two variants differ, one right and the other wrong;
the world's true difference is ``truth`` plus an effect of the world, of standard deviation ``sd`` points. What is
observed is the difference on the N images. The rule of the book's first edition is simulated beside it: three seeds on
one set of images, a verdict where all have one sign and the bootstrap interval over the images leaves out zero.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from tedloc.metrics import uncertainty, verdicts

WORLDS, IMAGES = 5, 600  # as in the book's evidence from the aviary
DIFFERENT = 0.25  # of the images: one variant right, the other wrong; our choice, near what close methods have
SPREADS = (0.5, 1.0, 2.0, 4.0)  # points
EFFECTS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {  # of mean 0 and deviation 1
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "one world in ten collapses": lambda rng, shape: np.where(rng.random(shape) < 0.1, -3.0, 1 / 3),
}


def _truths(rng, truth, sd, repetitions, count, effect) -> np.ndarray:
    """(R, W) true differences of worlds, as shares; no more than the share of images that differ."""
    return np.clip((truth + sd * EFFECTS[effect](rng, (repetitions, count))) / 100, -DIFFERENT, DIFFERENT)


def _outcomes(rng, truths: np.ndarray, images: int) -> np.ndarray:
    """(R, W, N) 1, -1 or 0: which variant is right, on images that all worlds of a repetition share."""
    place = rng.random((len(truths), 1, images))
    better, worse = (DIFFERENT + truths) / 2, (DIFFERENT - truths) / 2
    return (place < better[..., None]).astype(np.int8) - (place > 1 - worse[..., None])


def of_rule(
    truth: float,
    sd: float,
    repetitions: int = 1000,
    *,
    worlds: int = WORLDS,
    images: int = IMAGES,
    effect: str = "normal",
    shared: bool = False,
    seed: int = 0,
) -> np.ndarray:
    """(R,) p of each repetition, negative where the mean difference is.

    truth, sd: points; effect: of ``EFFECTS``; shared: the worlds have their test images in common
    """
    rng = np.random.default_rng(seed)
    truths = _truths(rng, truth, sd, repetitions, worlds, effect)
    found = []
    for each in truths:
        if shared:
            outcomes = _outcomes(rng, each[None], images)[0].astype(np.float32)
            points, drawn = outcomes.mean(axis=1), outcomes @ verdicts.image_counts(images, 0).T / images
        else:
            chances = np.stack([(DIFFERENT + each) / 2, (DIFFERENT - each) / 2, np.full(worlds, 1 - DIFFERENT)], axis=1)
            seen = rng.multinomial(images, chances) / images
            again = rng.multinomial(images, seen[:, None], size=(worlds, verdicts.IMAGE_SAMPLES)) / images
            points, drawn = seen[:, 0] - seen[:, 1], again[..., 0] - again[..., 1]
        mean, *_, p = verdicts.judged(100 * points, 100 * drawn, shared)
        found.append(p if mean >= 0 else -p)
    return np.array(found)


def shares(found: np.ndarray, claims: int = 1) -> tuple[float, float]:
    """Shares (%) of repetitions in which a claim holds and does not hold, as the clearest of so many claims."""
    clear = np.abs(found) * claims <= verdicts.LEVEL
    return 100 * float((clear & (found > 0)).mean()), 100 * float((clear & (found < 0)).mean())


def of_first_edition(
    truth: float,
    sd: float,
    repetitions: int = 1000,
    *,
    seeds: int = 3,
    images: int = IMAGES,
    one_world: bool,
    seed: int = 0,
) -> tuple[float, float]:
    """Shares (%) of repetitions in which a claim holds, and does not hold, by the first edition's rule.

    one_world: the seeds share the effect of the one world that they are run in, as they did; otherwise each seed has an
    effect of its own, as if seeds differed as much as worlds do
    """
    rng = np.random.default_rng(seed)
    truths = _truths(rng, truth, sd, repetitions, 1 if one_world else seeds, "normal")
    outcomes = _outcomes(rng, np.repeat(truths, seeds // truths.shape[1], axis=1), images)
    by_seed, mean = outcomes.mean(axis=2), outcomes.mean(axis=1, dtype=np.float32)
    drawn = np.concatenate(list(uncertainty.resamples(images, seed, 1000))) @ mean.T / images
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    better, worse = (by_seed > 0).all(axis=1) & (low > 0), (by_seed < 0).all(axis=1) & (high < 0)
    return 100 * float(better.mean()), 100 * float(worse.mean())


def table(truths: Sequence[float], repetitions: int) -> pd.DataFrame:
    """Verdicts (%) by true difference and spread of worlds: wrong ones where the truth is zero, right ones elsewhere.

    Rows: (true difference, standard deviation of worlds), both in points. Columns: the rule, on images of each world
    and on shared ones, with a collapsing variant, and the first edition's rule in both readings.
    """
    lines, rare = {}, "one world in ten collapses"
    for truth, sd in itertools.product(truths, SPREADS):
        found = {
            "the rule": shares(of_rule(truth, sd, repetitions)),
            "the rule, images shared": shares(of_rule(truth, sd, repetitions, shared=True)),
            f"the rule, {rare}": shares(of_rule(truth, sd, repetitions, effect=rare)),
            "first edition, seeds differ": of_first_edition(truth, sd, repetitions, one_world=False),
            "first edition, one world": of_first_edition(truth, sd, repetitions, one_world=True),
        }
        lines[truth, sd] = {name: sum(both) if truth == 0 else both[0] for name, both in found.items()}
    frame = pd.DataFrame.from_dict(lines, orient="index")
    frame.index = pd.MultiIndex.from_tuples(lines, names=["true difference", "standard deviation of worlds"])
    return frame


def power(truths: Sequence[float], repetitions: int, claims: int, worlds: int = WORLDS) -> pd.DataFrame:
    """True differences found (%) by spread of worlds: of each, alone and as the clearest of so many claims."""
    found = {
        (f"{truth:g} points", words): [
            shares(of_rule(truth, sd, repetitions, worlds=worlds), among)[0] for sd in SPREADS
        ]
        for truth in truths
        for words, among in (("alone", 1), (f"of {claims}", claims))
    }
    return pd.DataFrame(found, index=list(SPREADS))
