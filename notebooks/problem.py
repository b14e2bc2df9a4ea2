# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The problem in one picture
#
# Where is the bird? A detector learns to answer from boxes that people drew. *Weakly supervised* object localization
# {cite}`zhou2016cam,choe2020evaluating` has none: it learns from images and the name of what each shows, and must
# answer with a box all the same.
#
# A classifier seems to know the answer. To name the bird it must have looked at it somewhere, and a class activation
# map shows where. But to name is not to find: what tells one species from its sister may be the crown alone, and then
# the crown is all that the map needs to show. A second way asks a model that knows images *and* words, CLIP
# {cite}`radford2021clip`, where in this image the words are. That helps, and costs something else: somebody must say
# which words. At test time nobody does.
#
# The picture below sets these ways beside TeD-Loc {cite}`murtaza2025tedloc` on one image. It is this book's
# counterpart of the paper's Figure 1.

# %% tags=["parameters"]
profile = "smoke"
settings = {}  # changes to the profile by dotted name: {"optimiser.epochs": 5}

# %% tags=["remove-input"]
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.patches import Rectangle

from tedloc import plots, profiles, runs
from tedloc.book import compared, evidence, illustrations, localized, report
from tedloc.data import open_data
from tedloc.methods import pseudo_label_quality as quality

plots.use_style()
OURS, PLAIN = "TeD-Loc", "CAM"

# %%
# Four rows of the main results, in every world: a classifier's map, the teacher's
# when it is told the class and when it must guess, and TeD-Loc's.
P = profiles.get(profile, settings)
rows = {row.label: row for row in compared.rows(P)}
TOLD, GUESSED = (row.label for row in compared.teacher(P, list(rows.values())))
LABELS = (PLAIN, TOLD, GUESSED, OURS)
requests = {label: rows[label].requests(P, P.seeds) for label in LABELS}
found = runs.collect_named(requests)
decided = evidence.decisive(P, found)  # means and verdicts, not of the first world

# %% tags=["remove-input"]
route = {label: rows[label].route_of(found[label][0]) for label in LABELS}
meters = dict(zip(LABELS, evidence.paired(P, *((found[label], route[label]) for label in LABELS))))
images, GRID = open_data(P.data, "test"), P.evaluation.grid  # of the first world, like all pictures
shown = {label: localized.Localized(found[label][0], route[label], images, GRID) for label in LABELS}
tables = {label: each.results for label, each in shown.items()}
kept = shown[OURS].kept
clip = P.pseudo_labels.teacher == "clip-es"
TEACHER = "CLIP-ES" if clip else "the encoder's own classifier"
KEY = evidence.HALF
on = evidence.measured_on(P, decided[OURS], threshold="oracle on test")

# %% tags=["remove-input"]
guessed_wrong = (tables[GUESSED]["rank"] != 1).to_numpy()[kept]
candidates = kept[guessed_wrong] if guessed_wrong.any() else kept
overlaps = np.stack([tables[label]["iou"].to_numpy() for label in LABELS], axis=1)
SHOWN = int(candidates[illustrations.typical(overlaps[candidates], overlaps.mean(axis=0))])
name = images.class_names[images.labels[SHOWN]]
guess = images.class_names[int(tables[GUESSED]["predicted"].iloc[SHOWN])]
Markdown(
    f"**What is shown.** Profile `{P.name}`: {report.number(len(images), 0)} {'**synthetic** ' if P.synthetic else ''}"
    f"test images of {len(images.class_names)} classes, “{name}” in the picture. The teacher that TeD-Loc "
    f"learns from is {TEACHER}. The image was chosen by rule: of the {len(kept)} test images whose maps are kept, those "
    "of which the teacher itself guesses the class wrongly, and of these the one on which the four methods do most nearly "
    f"as well as they do on average.\n\n**What was run.** {compared.origin(P, found)}"
)

# %% tags=["remove-input"] mystnb={"image": {"alt": "One test image five times: with its true box; with the CAM of a classifier; with the teacher's map when it is told the true class; with its map of the class that it guesses; and with the map of TeD-Loc. On each map the box that it gives, beside the true one, and below it how well the two overlap."}}
TITLES = {
    None: "the image",
    PLAIN: "a classifier's map (CAM)",
    TOLD: f"{'CLIP-ES' if clip else 'teacher'}, told the class",
    GUESSED: f"{'CLIP-ES' if clip else 'teacher'}, own guess",
    OURS: "TeD-Loc, no class",
}


def draw(ax, label, index):
    """One method's map and box on a test image; no method: the image."""
    bare = {"image": images.picture(index), "gt_boxes": images.boxes[index]}
    plots.show_localization(ax, **(shown[label].panel(index) if label else bare))
    ax.set_title(TITLES[label], loc="center", fontsize=11)


def legend(ax):
    """What the boxes mean, in a place of its own."""
    ax.axis("off")
    handles = [
        Rectangle((0, 0), 1, 1, fill=False, edgecolor=plots.GROUND_TRUTH, linewidth=2, linestyle="--"),
        Rectangle((0, 0), 1, 1, fill=False, edgecolor=plots.PREDICTION, linewidth=2),
    ]
    ax.legend(handles, ["true box", "box from the map"], loc="center", fontsize=11)


figure, axes = plt.subplots(2, 3, figsize=(7.0, 5.6))
for ax, label in zip(axes.flat, (None, PLAIN, TOLD, GUESSED, OURS)):
    draw(ax, label, SHOWN)
    said = {None: name, TOLD: name, GUESSED: guess}.get(label)
    overlap = f"IoU {shown[label].iou(SHOWN):.2f}" if label else ""
    ax.set_xlabel("\n".join(part for part in (overlap, said and textwrap.fill(f"“{said}”", 26)) if part), fontsize=10)
legend(axes[1, 2])
figure.draw_without_rendering()  # once before it is shown: room for words of several lines
plt.show()
main = figure

# %% tags=["remove-input"]
centre = np.mean([run.metrics["centre box"][KEY] for run in decided[OURS]])
ASKS = {PLAIN: "the true class", TOLD: "the true class", GUESSED: "its own guess", OURS: "nothing"}
truth = quality.object_truth(images, (GRID, GRID), kept)
seen = {label: illustrations.overlaps(shown[label].maps, truth) for label in LABELS}
means = {label: 100 * np.nanmean(seen[label], axis=0) for label in LABELS}
caption = (
    f"The four maps over the whole test split; the two last columns over the {len(kept)} images whose maps are kept, of "
    f"{'world' if P.synthetic else 'seed'} {P.seeds[0]}. The bright part is what lies above half of a map's maximum. The "
    f"best box of one size in the centre of every image reaches {report.number(centre)} MaxBoxAcc."
)


def measured(label: str, metric: str, found: dict[str, list[runs.Run]]) -> str:
    return report.measured(rows[label].measured(found[label], metric))


# %%
# The four maps in numbers: right boxes, without the class and with it; how much of a
# map's bright part lies on the object, and how much of the object that covers.
frame = pd.DataFrame({"told at test time": ASKS})
for label in LABELS:
    for column, metric in (("MaxBoxAcc (%)", KEY), ("Top-1 Loc (%)", "Top-1 Loc")):
        frame.loc[label, column] = measured(label, metric, decided)
    if P.synthetic:
        first = {label: found[label][:1]}
        frame.loc[label, "MaxBoxAcc, world 0 (%)"] = measured(label, KEY, first)
    frame.loc[label, "bright part inside (%)"] = report.number(means[label][0], 0)
    frame.loc[label, "object covered (%)"] = report.number(means[label][1], 0)
report.plain_table(frame.rename_axis("map"), caption, provenance=on)

# %% [markdown]
# MaxBoxAcc counts a box as right when it overlaps the true one by at least half (IoU ≥ 0.5); Top-1 Loc asks for the
# right class besides. [How localization is scored](protocol.ipynb) explains both, and [Main results](main_results.ipynb)
# compares many more methods.
#
# ## Beside the object, or a part of it
#
# Two things can be wrong with a map: its bright part can lie beside the object, or can be only a part of it. Each point
# below is one test image. A map that marks the whole object and nothing else would lie in the upper right corner; one
# that marks a telling part lies on the right and low.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Scatter plot, one point an image and map: the share of the map's bright part that lies on the object against the share of the object that it covers, for the classifier's map, the teacher told the class, and TeD-Loc; large marks are the means."}}
figure, ax = plt.subplots(figsize=(6.4, 4.4))
for label, marker, colour in zip((PLAIN, TOLD, OURS), "osD", (6, 1, 0)):
    ax.scatter(*(100 * seen[label]).T, marker=marker, s=22, color=plots.PALETTE[colour], alpha=0.35, linewidth=0)
    ax.scatter(
        *means[label],
        marker=marker,
        s=150,
        color=plots.PALETTE[colour],
        edgecolor="black",
        zorder=3,
        label=f"{label}, mean",
    )
ax.set(xlabel="bright part inside the object (%)", ylabel="object covered (%)", xlim=(-3, 103), ylim=(-3, 103))
figure.legend(loc="outside upper center", ncols=3, columnspacing=1.0, handletextpad=0.3)
plt.show()

# %% tags=["remove-input"]
inside, covered = means[PLAIN]
kind_of_failure = (
    "That is the textbook's failure, a telling part."
    if inside >= 50 > covered
    else "That is not the textbook's failure, a telling part: much of what the map marks lies beside the object."
    if inside < 50
    else "Neither failure is large here."
)
Markdown(
    f"Of CAM's bright part {inside:.0f} % lies on the object, and it makes up {covered:.0f} % of the object. "
    f"{kind_of_failure if P.meaningful else ''} TeD-Loc's bright part covers {means[OURS][1]:.0f} % of the object, and "
    f"{means[OURS][0]:.0f} % of it lies there."
)

# %% [markdown]
# ## Nobody tells the class
#
# The paper's Figure 1 shows what becomes of CLIP-ES when the class is not told. It must then use its own guess. Does
# the map of a wrong class miss the object? That depends on the rivals: sister species share most of their body, so that
# the wrong name may still lead to the right bird. What is lost for certain is the name.

# %% tags=["remove-input"]
wrong = {world: meter.records.rank != 1 for world, meter in meters[GUESSED].items()}
missed = sum(int(each.sum()) for each in wrong.values())
if all(each.any() for each in wrong.values()):
    on_wrong = evidence.difference(meters[TOLD], meters[GUESSED], KEY, subset=wrong)
    told, own = (np.mean(evidence.values(meters[label], KEY, subset=wrong)) for label in (TOLD, GUESSED))
    lost = (
        f"Where it guesses wrongly, {report.number(told)} % of its boxes are right with the true class and "
        f"{report.number(own)} % with the wrong one."
    )
else:
    on_wrong, lost = None, "Here it always guesses right."
classified = {label: report.number(np.mean(evidence.values(meters[label], "Top-1 CL"))) for label in (GUESSED, OURS)}
Markdown(
    f"Left alone, {TEACHER} names {classified[GUESSED]} % of the {report.number(len(images), 0)} test images rightly, "
    f"TeD-Loc {classified[OURS]} %. {lost}"
)

# %% tags=["remove-input"]
before = f"MaxBoxAcc on the {missed} images whose class it guesses wrongly, true class minus guess: "
spoilt = (
    evidence.judge("wrong-class-map", on_wrong, before)
    if on_wrong
    else evidence.undecided("wrong-class-map", "it guesses no class wrongly in some world")
)
evidence.verdicts(P, [spoilt])

# %% [markdown]
# ## More of the same, good and bad
#
# The picture at the top is typical, and typical hides the ends. These rows are fixed ranks of TeD-Loc's own overlap,
# from its best image to its worst, out of those whose maps are kept.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Four rows of test images, from TeD-Loc's best to its worst: the image with its true box, the classifier's map, the teacher's map of the true class, and TeD-Loc's map, each with its box and overlap."}}
chosen = shown[OURS].by_iou(4)
figure, axes = plt.subplots(len(chosen), 4, figsize=(7.2, 2.1 * len(chosen) + 0.3))
for line, index in zip(axes, chosen):
    for ax, label in zip(line, (None, PLAIN, TOLD, OURS)):
        draw(ax, label, index)
        title = {None: "image", PLAIN: "CAM", TOLD: "told the class", OURS: "TeD-Loc"}[label]
        ax.set_title(title if index == chosen[0] else "", loc="center", fontsize=11)
        ax.set_xlabel(f"IoU {shown[label].iou(index):.2f}" if label else "", fontsize=10)
plt.show()

# %% [markdown]
# How TeD-Loc gets its map, and why it needs no class for it, is the next chapter: [The method](method.ipynb).
