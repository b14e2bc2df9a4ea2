# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How we judge
#
# When is one variant better than another? A number in a table answers for the images, the encoder and the start that it
# was measured with. A claim is about others, too. This page says by which rule the book decides, and how often that
# rule is wrong.
#
# ## Worlds
#
# A *world* is one drawing of everything that chance decides: the images to train, to validate and to test on, the
# encoder and the CLIP, which are trained on further images, and the start of each training. World 0 is where settings
# were chosen, so it can flatter them, and decides nothing. Verdicts come from the worlds after it, which nobody looked at
# before.
#
# ## The rule
#
# 1. **A difference in every world.** Two variants are compared on the same images, in each world with its own. What
#    counts is the mean of these differences. Both sides always have the same worlds.
# 2. **An interval for other worlds and other images.** Two intervals are computed, and at each end the outer one counts.
#    Student's *t* interval looks at how much the worlds differ from each other. A bootstrap draws worlds anew and, in each
#    one drawn, its images. Five worlds may agree by accident, and then the first interval is too narrow; or differ widely,
#    and then the second is.
# 3. **All claims of a chapter together.** Who tests twenty claims that are all false finds one that seems true at 5 %.
#    Holm's method asks the clearest claim of $m$ for a p value of at most $5\,\% / m$, the next for $5\,\% / (m - 1)$, and
#    stops at the first that fails.
# 4. **Three answers.** A claim *holds* when its difference is positive by this rule, *does not hold* when it is negative,
#    and *cannot be decided here* otherwise. A claim over several differences, "better than each of the others", holds
#    when each is positive, and does not hold when one is negative even after a correction for their number.
# 5. **One world decides nothing.** What is computed live with this book is one world. There the interval is over its
#    images, and says so.
#
# Photos are of one set: there worlds share the test images. The rule sees that, and adds what the choice of those images
# does to all worlds alike.
#
# Each claim stands in the file `tedloc/paper/claims.csv` with the paper's sentence and with what would speak for and
# against it, and was written down before the results. The rule itself is one module, `tedloc.metrics.verdicts`.

# %% tags=["parameters"]
profile = "smoke"

# %% tags=["remove-input"]
import pandas as pd
from IPython.display import Markdown

from tedloc import profiles
from tedloc.book import other_worlds, report, simulated
from tedloc.metrics import verdicts

REPETITIONS = 1000 if profiles.get(profile).meaningful else 100
TRUTHS, CLAIMS = (2.0, 5.0, 10.0), 10
RULE, SHARED, RARE = "the rule", "the rule, images shared", "the rule, one world in ten collapses"
SEEDS, WORLD = "first edition, seeds differ", "first edition, one world"

# %%
# Simulated worlds whose true difference is known: how often is a verdict given?
table = simulated.table((0.0,), REPETITIONS)
power = simulated.power(TRUTHS, REPETITIONS, claims=CLAIMS)

# %% tags=["remove-input"]
wrong = table.loc[0.0]
noise = 100 * (0.05 * 0.95 / REPETITIONS) ** 0.5
Markdown(
    "## How often it is wrong\n\n"
    f"Here nothing differs in truth, and {report.number(REPETITIONS, 0)} times {simulated.WORLDS} worlds of "
    f"{simulated.IMAGES} images are drawn. The variants differ on {simulated.DIFFERENT:.0%} of the images, in favour of one "
    "as often as of the other, and each world favours one of them by chance, with the standard deviation on the left. "
    f"Every verdict is wrong. At most 5 % are allowed; the simulation itself is uncertain by {report.number(noise)} points."
)

# %% tags=["remove-input"]
report.plain_table(
    wrong[[RULE, SHARED, SEEDS, WORLD]].rename_axis("standard deviation of worlds (points)"),
    "Wrong verdicts (%) where nothing differs. The first edition's rule: once as if its three seeds differed as much as "
    "worlds do, and once as it was, with all seeds in one world.",
)

# %% tags=["remove-input"]
Markdown(
    f"The rule gives between {report.number(wrong[RULE].min())} and {report.number(wrong[RULE].max())} % wrong verdicts, and "
    f"between {report.number(wrong[SHARED].min())} and {report.number(wrong[SHARED].max())} % where worlds share their images.\n\n"
    "**What was wrong in the first edition.** It asked for three seeds of one sign and for an interval over images that "
    "leaves out zero. Both look like caution, and neither asks about another world. Three seeds that share images, encoder "
    "and CLIP share what these favour by chance; then their agreement says nothing, and the interval over images treats "
    f"that chance as truth. At {wrong.index[-1]:g} points between worlds {report.number(wrong[WORLD].iloc[-1])} % of its "
    f"verdicts are wrong where nothing differs, and {report.number(wrong[SEEDS].iloc[-1])} % even if each seed were a world."
)

# %% [markdown]
# ## What it misses
#
# Caution has its price: small differences stay undecided. *Alone* is a chapter with a single claim. *Of ten* is the
# clearest of ten claims, which must pass the strictest step of Holm's correction.

# %% tags=["remove-input"]
frame = pd.DataFrame(power).rename_axis("standard deviation of worlds (points)")
report.plain_table(
    frame.rename_axis(columns=["true difference", ""]),
    f"Differences found (%), by the rule, from {simulated.WORLDS} worlds of {simulated.IMAGES} images.",
    decimals=0,
)

# %% [markdown]
# ## Would other worlds have said the same?
#
# The worlds of the verdicts are as good as any others. So TeD-Loc and the three methods whose MaxBoxAcc is nearest to its
# own were run in further worlds, which no verdict rests on, and put to the same rule.

# %% tags=["remove-input"]
again = other_worlds.table(profiles.get("aviary"))
if again is None:
    shown = Markdown("Not computed with this version: results of further worlds are not kept.")
else:
    first, second = (again[name] for name in again if name.startswith("verdict"))
    shown = report.plain_table(
        again,
        "Differences in MaxBoxAcc, in points, with 95 % intervals, and the verdicts of both sets of worlds, corrected for "
        f"{len(again)} differences. {(first != second).sum()} of {len(again)} verdicts differ.",
    )
shown

# %% tags=["remove-input"]
share = 0.9**simulated.WORLDS
Markdown(
    "## What it cannot know\n\n"
    "The rule takes worlds as they come. Suppose that a variant collapses in one world of ten, and is a little better in "
    f"the other nine so that nothing differs on average: {share:.0%} of all draws of {simulated.WORLDS} worlds hold no "
    f"collapse, and nothing in them speaks of one. Then up to {report.number(wrong[RARE].max())} % of verdicts are wrong, at "
    f"a standard deviation of {wrong[RARE].idxmax():g} points. More worlds are the only help. Nor does a simulated image "
    "have a threshold; that the best threshold is searched anew in every resample is part of the measure, not of this test. "
    f"The level is {verdicts.LEVEL:.0%} in each chapter, not over the whole book."
)
