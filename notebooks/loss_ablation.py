# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What each loss adds
#
# TeD-Loc is trained with three losses: $L_{\mathrm{KD}}$ draws sampled foreground patches to the anchor of
# their class, $P_{\mathrm{CL}}$ teaches the patch classifier $g$ to tell foreground from background, and
# $I_{\mathrm{CL}}$ classifies the image from the pooled patches. Table 2 of the paper switches them on one
# after the other, on CUB, and the text draws two claims from it: $L_{\mathrm{KD}}$ alone localizes poorly
# and $P_{\mathrm{CL}}$ improves on it greatly; $I_{\mathrm{CL}}$ then improves on both.
#
# The paper shows three of the seven possible combinations. With all seven one can also ask what each loss
# does *by itself*, and whether the others are needed beside it.

# %% tags=["parameters"]
profile = "smoke"
settings = {}  # changes to the profile by dotted name: {"optimiser.epochs": 5}

# %% tags=["remove-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown

from tedloc import paper, plots, profiles, runs
from tedloc.book import compared, evidence, report

plots.use_style()
TERMS = {"L_KD": "kd", "P_CL": "patch", "I_CL": "image"}
VARIANTS = ["L_KD", "P_CL", "I_CL", "L_KD + P_CL", "L_KD + I_CL", "P_CL + I_CL", "L_KD + P_CL + I_CL"]

# %%
# Every combination of the three losses, in every world: a term that is left out has
# the weight 0. Each is scored by the map of g and by that of the true class's anchor.
P, requests = profiles.get(profile, settings), {}
for name in VARIANTS:
    off = {f"loss__{field}": 0.0 for term, field in TERMS.items() if term not in name}
    requests[name] = runs.grid(P, routes=("g", "anchor-true"), **off)
found = runs.collect_named(requests)
decided = evidence.decisive(P, found)  # means and verdicts, not of the first world

# %% tags=["remove-input"]
FITTING = {name: "g" if "P_CL" in name else "anchor-true" for name in VARIANTS}
HALF = evidence.HALF
on = evidence.measured_on(P, decided["L_KD"], threshold="oracle on test")

# %% tags=["remove-input"]
lambdas = ", ".join(f"{term} {getattr(P.loss, field):g}" for term, field in TERMS.items())
Markdown(
    f"**What was run.** Profile `{P.name}`: each of the {len(VARIANTS)} combinations, trained for "
    f"{report.plural(P.optimiser.epochs, 'epoch')}. {compared.origin(P, found)} A seed fixes the initial weights, the "
    "order of the images and the sampled patches, so every combination starts from the same point. Weights of the terms "
    f"that are on: {lambdas}; all else as in the profile."
)

# %% [markdown]
# ## Which map is a variant's map?
#
# There are two ways to get a map from a trained model: the patch classifier's own map $M = g(\bm{z}_p)$,
# and the dot product $\langle \bm{z}_p, \bm{t}_y \rangle$ of each patch with the anchor of the true class.
# Each needs a loss that trains it:
#
# - $g$ is told what foreground is only by $P_{\mathrm{CL}}$. Under $L_{\mathrm{KD}}$ alone nothing trains
#   it, and its map is that of random weights. Under $I_{\mathrm{CL}}$ it receives some gradient as the
#   pooling weight of Eq. 3.
# - The anchor map, like the class scores, means something once $L_{\mathrm{KD}}$ or $I_{\mathrm{CL}}$ has
#   tied the embeddings to the anchors.
#
# So the *fitting* map is $g$ where $P_{\mathrm{CL}}$ is on, and the anchor map where it is off. The paper
# does not say which map its row for $L_{\mathrm{KD}}$ uses. The first table uses the fitting map; the
# second shows both for every combination, so that nothing hangs on that choice.

# %% tags=["remove-input"]
masks = found["L_KD"][0].metrics.get("PxAP") is not None
columns = {"MaxBoxAcc": HALF, "Top-1 Loc": "Top-1 Loc", "Top-1 CL": "Top-1 CL"} | ({"PxAP": "PxAP"} if masks else {})
in_paper = {name: paper.quoted(2, name, "MaxBoxAcc", "CUB") for name in VARIANTS}
caption = "Table 2 with the missing combinations, by each variant's fitting map (%)."

# %%
# Table 2: the paper's three rows beside all seven of ours, one value a world.
rows = []
for column, metric in columns.items():
    for name in VARIANTS:
        ours = [run.route(FITTING[name])[metric] for run in decided[name]]
        both = {"paper": paper.quoted(2, name, column, "CUB"), "ours": ours}
        if P.synthetic:
            both["here"] = found[name][0].route(FITTING[name])[metric]
        rows.append({"row": name, "column": column, **both})
report.comparison(rows, on, paper_dataset="CUB", caption=caption)

# %% tags=["remove-input"]
WAYS = {"g": "map of g", "anchor-true": "anchor map, true class"}
both = {}
for name in VARIANTS:
    both[name] = {("fitting map", ""): WAYS[FITTING[name]]}
    for route, title in WAYS.items():
        both[name] |= compared.over_worlds(P, found[name], title, lambda run, route=route: run.route(route)[HALF])
both = pd.DataFrame.from_dict(both, orient="index").rename_axis("losses")
centre = np.mean([run.metrics["centre box"][HALF] for run in decided["L_KD"]])
report.plain_table(
    both,
    "MaxBoxAcc (%) by each way of getting a map. The best centred box of one size scores "
    f"{report.number(centre)}: a map at or below that has localized nothing.",
    provenance=on,
)

# %% tags=["remove-input"] mystnb={"image": {"alt": "MaxBoxAcc of every combination of the three losses: for each, the worlds and their mean for the map of g (circles) and for the anchor map (squares), filled where the map fits the combination; hollow diamonds are the paper's values on CUB, a dotted line the best centred box."}}
figure, ax = plt.subplots(figsize=(8.0, 4.6))
position = np.arange(len(VARIANTS))
for shift, route, marker, colour, label in (
    (-0.14, "g", "o", plots.PALETTE[0], "map of $g$"),
    (0.14, "anchor-true", "s", plots.PALETTE[4], "anchor map, true class"),
):
    for place, name in zip(position + shift, VARIANTS):
        values = [run.route(route)[HALF] for run in decided[name]]
        fits = FITTING[name] == route
        ax.hlines(np.mean(values), place - 0.1, place + 0.1, color=colour, linewidth=3)
        ax.scatter(
            place + 0.03 * (np.arange(len(values)) - (len(values) - 1) / 2),
            values,
            marker=marker,
            s=30,
            facecolor=colour if fits else "white",
            edgecolor=colour,
            zorder=3,
        )
    ax.scatter([], [], marker=marker, s=34, color=colour, label=label)
ax.scatter(
    position,
    np.array(list(in_paper.values()), float),
    marker="D",
    s=50,
    facecolor="white",
    edgecolor=plots.PAPER,
    linewidth=1.6,
    zorder=4,
    label="paper, CUB",
)
ax.axhline(centre, color="#666666", linewidth=1.2, linestyle=":", label="best centred box")
pretty = [
    name.replace("L_KD", r"$L_{\mathrm{KD}}$")
    .replace("P_CL", r"$P_{\mathrm{CL}}$")
    .replace("I_CL", r"$I_{\mathrm{CL}}$")
    .replace(" + ", "\n+ ")
    for name in VARIANTS
]
ax.set(xticks=position, xticklabels=pretty, ylabel="MaxBoxAcc (%)", title="Localization by combination of losses")
ax.grid(False, axis="x")
figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
plt.show()

# %% [markdown]
# A point is a world. Filled points are the fitting map, hollow ones the other; a bar marks their mean. Hollow
# diamonds are the paper's values on CUB, where it has any. Where a map comes from weights that no loss has
# trained, its score says what the frozen encoder's features and the decoder's shape alone are worth, and
# the dotted line what no image at all is worth.
#
# ## What a loss adds to the others
#
# Each row adds one loss to a combination that lacks it and keeps all else, world by world, on the same test
# images. [How we judge](how_we_judge.ipynb) says when a difference counts.


# %% tags=["remove-input"]
def added(term: str, base: str) -> str:
    return next(name for name in VARIANTS if set(name.split(" + ")) == {term, *base.split(" + ")})


def gain(more: str, fewer: str, key: str = HALF) -> evidence.Difference:
    sides = evidence.paired(P, *((found[name], FITTING[name]) for name in (more, fewer)))
    return evidence.difference(*sides, key)


steps = [(term, base) for term in TERMS for base in VARIANTS if term not in base]
gains = {}
for term, base in steps:
    row = gains.setdefault(f"{term} added to {base}", {})
    for title, key in (("MaxBoxAcc", HALF), ("Top-1 CL", "Top-1 CL")):
        found_gain = gain(added(term, base), base, key)
        row |= {
            (title, "gain (95 % interval)"): evidence.brief(found_gain),
            (title, "by world"): evidence.by_world(found_gain),
        }
report.plain_table(
    pd.DataFrame(gains).T.rename_axis("step"),
    "Gain from one more loss, in points; each variant by its fitting map.",
    provenance=on,
)

# %% [markdown]
# ## Do the paper's claims hold here?

# %% tags=["remove-input"]
full, two, one = "L_KD + P_CL + I_CL", "L_KD + P_CL", "L_KD"


def quoted(more: str, fewer: str) -> str:
    gap = report.number(in_paper[more] - in_paper[fewer], signed=True)
    return f"paper, CUB: {in_paper[fewer]:g} to {in_paper[more]:g} ({gap} points). Here: "


fitting = dict(zip(VARIANTS, evidence.paired(P, *((found[name], FITTING[name]) for name in VARIANTS))))
evidence.verdicts(
    P,
    [
        evidence.judge("adding-p-cl", gain(two, one), quoted(two, one)),
        evidence.judge("adding-i-cl", gain(full, two), quoted(full, two)),
        evidence.judge_best(
            "all-losses",
            fitting[full],
            {name: fitting[name] for name in VARIANTS if name != full},
            before="all three with every smaller combination, ",
        ),
        evidence.judge("l-kd-helps", gain(full, "P_CL + I_CL")),
        evidence.judge("i-cl-classifies", gain(full, two, "Top-1 CL"), "Top-1 CL: "),
    ],
    "Claims of Table 2, checked in this profile.",
)

# %% [markdown]
# The paper gives one value a row and no seeds, so how much of its own differences is chance cannot be told.
