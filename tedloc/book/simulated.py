"""The rule of ``tedloc.metrics.verdicts`` where the truth is known: how often is it wrong, and what does it miss?

A simulated world holds N images of its own. On a share of them the two variants differ, one right and the other wrong;
the world's true difference is ``truth`` plus an effect of the world, of standard deviation ``sd`` points. What is
observed is the difference on the N images. The rule of the book's first edition is simulated beside it: three seeds on
one set of images, a verdict where all have one sign and the bootstrap interval over the images leaves out zero.
"""

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
) -> tuple[float, float]:
    """Shares of repetitions in which one claim is found to hold, and not to hold.

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
        found.append(np.sign(mean) if p <= verdicts.LEVEL else 0)
    return float(np.mean(np.equal(found, 1))), float(np.mean(np.equal(found, -1)))


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
    """The same of the first edition's rule. one_world: the seeds share the effect of the one world that they are run
    in, as they did; otherwise each seed has an effect of its own, as if seeds differed as much as worlds do."""
    rng = np.random.default_rng(seed)
    truths = _truths(rng, truth, sd, repetitions, 1 if one_world else seeds, "normal")
    outcomes = _outcomes(rng, np.repeat(truths, seeds // truths.shape[1], axis=1), images)
    by_seed, mean = outcomes.mean(axis=2), outcomes.mean(axis=1, dtype=np.float32)
    drawn = np.concatenate(list(uncertainty.resamples(images, seed, 1000))) @ mean.T / images
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return float(((by_seed > 0).all(axis=1) & (low > 0)).mean()), float(((by_seed < 0).all(axis=1) & (high < 0)).mean())


def table(truths: Sequence[float], repetitions: int) -> pd.DataFrame:
    """Verdicts (%) by true difference and spread of worlds: wrong ones where the truth is zero, right ones elsewhere.

    Rows: (true difference, standard deviation of worlds), both in points. Columns: the rule, on images of each world
    and on shared ones, with a collapsing variant, and the first edition's rule in both readings.
    """
    lines = {}
    for truth in truths:
        for sd in SPREADS:
            shares = {
                "the rule": of_rule(truth, sd, repetitions),
                "the rule, images shared": of_rule(truth, sd, repetitions, shared=True),
                "the rule, one world in ten collapses": of_rule(
                    truth, sd, repetitions, effect="one world in ten collapses"
                ),
                "first edition, seeds differ": of_first_edition(truth, sd, repetitions, one_world=False),
                "first edition, one world": of_first_edition(truth, sd, repetitions, one_world=True),
            }
            lines[truth, sd] = {name: 100 * (sum(both) if truth == 0 else both[0]) for name, both in shares.items()}
    frame = pd.DataFrame.from_dict(lines, orient="index")
    return frame.rename_axis(["true difference", "standard deviation of worlds"])
