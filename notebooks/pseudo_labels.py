# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Pseudo-labels: what TeD-Loc learns from
#
# No training image comes with a box. What TeD-Loc knows of *where* it draws from another model's class
# activation map (CAM), as Appendix A of the paper describes: Otsu's threshold splits the CAM, the most
# active pixels of the upper part form a foreground pool, the least active pixels outside it a background
# pool, and every training step draws a few new pixels of each kind, equally many. The paper names the sizes
# of the pools, $n^+$ and $n^-$, and the number of samples, but gives none of them, and says that any CAM
# would do.
#
# This chapter shows the steps on images, measures how often the sampled pixels are right, and asks two
# things: do better pseudo-labels give better localization, and does TeD-Loc end up better than the maps
# that taught it?
#
# Training images have boxes or masks in some data sets. They are used here **only to measure** the
# pseudo-labels; no training, no choice of a setting and no other chapter sees them.

# %% tags=["parameters"]
profile = "smoke"
settings = {}  # changes to the profile by dotted name: {"optimiser.epochs": 5}

# %% tags=["remove-input"]
import dataclasses
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from matplotlib.colors import ListedColormap

from tedloc import plots, profiles, runs, sampler
from tedloc.book import compared, evidence, report
from tedloc.data import open_data
from tedloc.methods import pseudo_label_quality as quality
from tedloc.methods.pseudo_labels import pseudo_label_cams
from tedloc.metrics import baselines
from tedloc.settings import override
from tedloc.training import devices
from tedloc.training.distributed import Draws
from tedloc.training.features import features

plots.use_style()

# %%
# TeD-Loc taught by the profile's teacher, two controls, a second CLIP; the teacher.
P = profiles.get(profile, settings)
hard = compared.hard_clip(P)
itself = runs.grid(P, method=P.pseudo_labels.teacher, routes=("true",))
g = {"routes": ("g",)}
requests = {"the profile's teacher": runs.grid(P, **g)}
requests["centre prior"] = runs.grid(P, pseudo_labels__teacher="centre-prior", **g)
requests["shuffled"] = runs.grid(P, pseudo_labels__shuffled=True, **g)
found = runs.collect_named(requests | {"teacher itself": itself})
if hard:
    harder = {"hard CLIP": compared.with_towers(runs.grid(P, **hard, **g))}
    requests, found = requests | harder, found | runs.collect_named(harder)

# %% tags=["remove-input"]
clip = P.pseudo_labels.teacher == "clip-es"
MAIN = "the profile's teacher"
WORLD = f"{'world' if P.synthetic else 'seed'} {P.seeds[0]}"
where_from = compared.origin(P, found)
teacher = found.pop("teacher itself")
decided = evidence.decisive(P, found)  # means and verdicts; settings were chosen in the first world
worlds = {name: [run.metrics["provenance"]["seed"] for run in group] for name, group in decided.items()}

device = devices.default()
split = "train" if all(map(len, open_data(P.data, "train").boxes)) else "val"
images = open_data(P.data, split)
size = tuple(side * P.decoder.upsampling for side in features(P.data, "train", P.encoder, device).grid)
cams = {name: pseudo_label_cams(group[0].profile, split, device) for name, group in requests.items()}
truth = quality.object_truth(images, size)
of_what = "mask" if images.mask(0) is not None else "box"
on = evidence.measured_on(P, found[MAIN], split=split, num_images=len(images), seeds=None)

# %% tags=["remove-input"]
named = f"`{P.pseudo_labels.teacher}`" + (f" on `{P.pseudo_labels.clip}`" if clip else "")
fourth = (
    " A second CLIP of the aviary, `aviary/clip-hard`, gives a fourth set; its numbers are of "
    f"{report.plural(len(worlds['hard CLIP']), 'world')} ({', '.join(map(str, worlds['hard CLIP']))})."
    if hard
    else ""
)
Markdown(
    f"**What was run.** Profile `{P.name}`. The teacher is {named}; its CAMs of the {len(images)} images of "
    f"the {split} split of {WORLD} are judged by each image's {of_what} on the decoder's grid of {size[0]} × {size[1]} "
    f"pixels. Every step samples {P.sampler.samples} + {P.sampler.samples} pixels; the foreground pool is "
    f"the top {P.sampler.foreground:.0%} of the Otsu region, the background pool the bottom "
    f"{P.sampler.background:.0%} of all pixels, outside that region. Two controls share everything but the "
    "CAMs: a *centre prior*, the same blurred disc for every image, and *shuffled* CAMs, where each image "
    f"gets the map of another one.{fourth} {where_from}"
)

# %% [markdown]
# ## From CAM to samples
#
# One row an image, at the 10th, 40th, 70th and 95th percentile of the share of foreground samples that are
# right, so that poor pseudo-labels are in the picture too. Dark pixels of the fourth column belong to no
# pool and are never sampled. The samples of three steps have three shapes.

# %% tags=["remove-input"] mystnb={"image": {"alt": "One row for each of four images: the image with its mask, the teacher's map, what lies above Otsu's threshold, the foreground and background pools, and the points sampled in three steps, orange for foreground and blue for background."}}
main = sampler.to_grid(torch.from_numpy(np.ascontiguousarray(cams[MAIN])).float() / 255, size)
pools = sampler.pools(main, P.sampler, Draws(torch.Generator().manual_seed(0), len(main)))
threshold = sampler.otsu(main.flatten(1))
judged = quality.sample_quality(cams[MAIN], truth, P.sampler)
usable = np.flatnonzero(np.isfinite(judged.foreground))
ranked = usable[np.argsort(judged.foreground[usable], kind="stable")]
chosen = ranked[[int(q * (len(ranked) - 1)) for q in (0.10, 0.40, 0.70, 0.95)]]
steps, draws = [], Draws(torch.Generator().manual_seed(0), len(chosen))
for _ in range(3):
    steps.append(sampler.sample(pools[0][chosen], pools[1][chosen], P.sampler.samples, draws))

FOREGROUND, BACKGROUND = plots.PALETTE[5], plots.PALETTE[4]
figure, axes = plt.subplots(len(chosen), 5, figsize=(10.5, 2.25 * len(chosen) + 0.5))
for row, (line, index) in enumerate(zip(axes, chosen)):
    image = images.picture(index)
    extent = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
    mask = images.mask(index)
    plots.show_localization(line[0], image, gt_boxes=images.boxes[index])
    if mask is not None:
        line[0].contour(mask, levels=[0.5], colors=[plots.GROUND_TRUTH], linewidths=1.2)
    line[1].imshow(main[index], extent=extent, cmap="magma", vmin=0, vmax=255)
    line[2].imshow(
        main[index] > threshold[index],
        extent=extent,
        cmap=ListedColormap(["#222222", "#eeeeee"]),
        vmin=0,
        vmax=1,
    )
    shown = pools[0][index].int() + 2 * pools[1][index].int()
    line[3].imshow(
        shown.view(size),
        extent=extent,
        cmap=ListedColormap(["#222222", FOREGROUND, BACKGROUND]),
        vmin=0,
        vmax=2,
        interpolation="nearest",
    )
    plots.show_localization(line[4], image)
    for draw, marker in zip(steps, "os^"):
        for flat, colour in ((draw.foreground, FOREGROUND), (draw.background, BACKGROUND)):
            y, x = np.divmod(flat[row][draw.valid[row]].numpy(), size[1])
            line[4].scatter(
                (x + 0.5) * image.shape[1] / size[1] - 0.5,
                (y + 0.5) * image.shape[0] / size[0] - 0.5,
                marker=marker,
                s=22,
                color=colour,
                edgecolor="black",
                linewidth=0.6,
            )
    for ax in line:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        ax.spines[:].set_visible(False)
    line[0].set_ylabel(plots.written(textwrap.fill(images.class_names[images.labels[index]], 18)), fontsize=9)
    line[4].set_xlabel(
        f"right: foreground {judged.foreground[index]:.0%},\nbackground {judged.background[index]:.0%}",
        fontsize=9,
    )
for ax, title in zip(axes[0], (f"image and {of_what}", "CAM", "Otsu's split", "pools", "samples of 3 steps")):
    ax.set_title(title, loc="center")
handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in (FOREGROUND, BACKGROUND)]
figure.legend(handles, ["foreground", "background"], loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# ## How often the samples are right
#
# A foreground sample is right inside the object, a background sample outside it. Sampling is uniform within
# a pool, so the expected share of right samples is that of the pool; no draw is needed. Being right is not
# enough: a pool on the bird's crown alone is always right and never shows the rest of the bird. So the
# share of the object that the foreground pool *reaches* stands beside it. *Any pixel* is what sampling
# without a CAM would give. MaxBoxAcc is that of the CAM itself as a localization map of these images.

# %% tags=["remove-input"]
NAMED = quality.NAMED
rows = {name: quality.summary(group, images, truth, P.sampler, P.evaluation) for name, group in cams.items()}
share = 100 * float(truth.mean())
rows["any pixel"] = {
    NAMED["both"]: 50.0,
    NAMED["foreground"]: share,
    NAMED["background"]: 100 - share,
    NAMED["coverage"]: 100.0,
}
table = pd.DataFrame(rows).T.rename_axis("pseudo-labels")
report.plain_table(table, f"Quality of the pseudo-labels (%), against each image's {of_what}.", provenance=on)

# %% [markdown]
# ### The size of the pools
#
# $n^+$ and $n^-$ are ours to choose, as the paper does not give them. Small pools are safer and show less.
# (The two pools do not influence each other, so curves say what a table of all pairs would.) The dotted
# line is the profile's setting.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Three panels against the size of a pool, one curve for each kind of pseudo-label: share of foreground samples in the object, share of the object reached, share of background samples outside it; a dotted line marks the setting used."}}
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
swept = {}
for name, group in cams.items():
    for share in SHARES:
        scores = quality.sample_quality(group, truth, sampler.SamplerSettings(foreground=share, background=share))
        swept[name, share] = scores.percent()
figure, axes = plt.subplots(1, 3, figsize=(12.0, 3.9), sharey=True)
panels = (
    (
        "foreground",
        "Foreground samples in the object",
        r"$n^+$ (share of the Otsu region)",
        P.sampler.foreground,
    ),
    ("coverage", "Object reached", r"$n^+$ (share of the Otsu region)", P.sampler.foreground),
    ("background", "Background samples outside it", r"$n^-$ (share of all pixels)", P.sampler.background),
)
for ax, (key, title, xlabel, setting) in zip(axes, panels):
    for name, marker, colour in zip(cams, "osD^", plots.PALETTE):
        ax.plot(
            SHARES,
            [swept[name, share][key] for share in SHARES],
            marker=marker,
            markersize=5,
            color=colour,
            label=name,
        )
    ax.axvline(setting, color="#666666", linewidth=1.2, linestyle=":")
    ax.set(title=title, xlabel=xlabel, ylim=(0, 102))
axes[0].set_ylabel("share (%)")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(cams))
plt.show()

# %% [markdown]
# ## What makes the teacher
#
# CLIP-ES asks which patches raise the probability of the image's class *against rivals*: words for the
# background, and, if asked, the other classes of the data set. Then it spreads the map along CLIP's own
# attention (affinity). With one class and no rival at all the probability is constantly one and the map is
# empty, so at least one kind of rival must stay. Each row changes one part. The background words are the list
# of CLIP-ES's authors, made for photos; in the aviary one row has the words for what is drawn behind the birds instead.

# %% tags=["remove-input"]
DRAWN_WORDS = "the renderer's background words"
if clip:
    part = min(P.data.per_class or 25, 25)
    subset = {"data.per_class": part}
    es = P.pseudo_labels.clip_es
    changes = {
        "as in the profile": {},
        "without affinity" if es.affinity else "with affinity": {"affinity": not es.affinity},
        "without sibling classes" if es.siblings else "with sibling classes": {"siblings": not es.siblings},
        "without background words": {"background": "none"},
        "without any rival": {"siblings": False, "background": "none"},
    }
    if es.background != "voc":
        changes["CLIP-ES's own background words"] = {"background": "voc"}
    if P.data.name == "aviary" and es.background != "aviary":
        changes[DRAWN_WORDS] = {"background": "aviary"}
    rows = {}
    for name, change in changes.items():
        variant = override(P, subset | {f"pseudo_labels.clip_es.{key}": value for key, value in change.items()})
        few = open_data(variant.data, split)
        made, right = pseudo_label_cams(variant, split, device), quality.object_truth(few, size)
        rows[name] = quality.summary(made, few, right, P.sampler, P.evaluation)
    shown = report.plain_table(
        pd.DataFrame(rows).T.rename_axis("CLIP-ES"),
        f"Parts of CLIP-ES, on the first {part} images of each class of the {split} split (%).",
        provenance=on | {"num_images": len(few)},
    )
else:
    shown = Markdown(
        "The parts of CLIP-ES are not compared in this profile: needs weights: CLIP. Its "
        f"teacher is `{P.pseudo_labels.teacher}`."
    )
shown

# %% [markdown]
# ## Do better pseudo-labels give better localization?
#
# Each mark is a TeD-Loc, trained on one kind of pseudo-labels and scored on the test split: filled ones are the mean
# over worlds with its 95 % interval, hollow ones the first world. The pseudo-labels are those of the first world: on
# the left they are judged as training sees them, by their samples, on the right as maps, by the MaxBoxAcc of the CAMs
# themselves on the training images. Above the dashed line, a student beats its pseudo-labels. The kinds differ in the
# maps alone, except that the student of the hard CLIP also has that CLIP's class texts, orthogonalised, as anchors.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Localization of the student against the quality of its pseudo-labels, for each kind the mean over worlds with an interval and, hollow, the first world: left by the share of right samples, right by the MaxBoxAcc of the maps, where a dashed diagonal means that student and maps are equal."}}
KEY = evidence.HALF
frame = pd.DataFrame(
    {
        "right samples": {name: table.loc[name, "right samples"] for name in found},
        "MaxBoxAcc of the CAM": {name: table.loc[name, "MaxBoxAcc of the CAM"] for name in found},
        "TeD-Loc": {name: np.mean([run[KEY] for run in group]) for name, group in decided.items()},
    }
)
centre = np.mean([run.metrics["centre box"][KEY] for run in decided[MAIN]])
figure, axes = plt.subplots(1, 2, figsize=(10.0, 4.6), sharey=True)
for ax, column in zip(axes, ("right samples", "MaxBoxAcc of the CAM")):
    for name, marker, colour in zip(frame.index, "osD^", plots.PALETTE):
        low, high = evidence.interval(evidence.meters(decided[name]), KEY)
        x, y = frame.loc[name, [column, "TeD-Loc"]]
        ax.vlines(x, low, high, color=colour, linewidth=2.5, alpha=0.6)
        ax.scatter(x, y, marker=marker, s=80, color=colour, zorder=3, label=name)
        ax.scatter(x, found[name][0][KEY], marker=marker, s=50, facecolor="none", edgecolor=colour, zorder=4)
    ax.axhline(centre, color="#666666", linewidth=1.2, linestyle=":", label="best centred box")
    ax.margins(x=0.12)
axes[1].axline((centre, centre), slope=1, color="#666666", linewidth=1.2, linestyle="--", label="student = CAM")
axes[0].set(
    xlabel="right samples, training images (%)",
    ylabel="MaxBoxAcc of TeD-Loc, test images (%)",
    title="Judged by samples",
)
axes[1].set(xlabel="MaxBoxAcc of the CAMs, training images (%)", title="Judged as maps")
figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %% tags=["remove-input"]
shown = frame.assign(**{f"rank by {name}": frame[name].rank(ascending=False).astype(int) for name in frame.columns})
shown["TeD-Loc"] = pd.Series({name: report.measured([run[KEY] for run in group]) for name, group in decided.items()})
if P.synthetic:
    shown.insert(3, f"TeD-Loc, {WORLD}", pd.Series({name: group[0][KEY] for name, group in found.items()}))
report.plain_table(
    shown.rename_axis("pseudo-labels"),
    f"Pseudo-labels on the {split} split of {WORLD}; TeD-Loc's MaxBoxAcc on the test split (%), mean ± sd over worlds. "
    f"The best centred box scores {report.number(centre)}.",
    provenance=evidence.measured_on(P, decided[MAIN]),
)

# %% [markdown]
# ## What the numbers say
#
# The first claim is about an order, so it is tested on every pair: of two kinds of pseudo-labels, does the
# better one give the better TeD-Loc on the same test images? It holds if all pairs say so clearly
# ([How we judge](how_we_judge.ipynb)), fails if one clearly says the opposite, and is undecided otherwise. A handful
# of points cannot prove a law. "Better" is taken in both senses, since they can disagree: a CAM on a part
# has right samples and makes a poor map. Which labels are better is measured in the first world, which student is, in
# the worlds that decide.
#
# The last claim compares the student of the centre prior with the centred disc, the only map that it was taught.
# Below stands the same for the CAMs of its teacher for the true class.

# %% tags=["remove-input"]
judged = []
kinds = [name for name in found if worlds[name] == worlds[MAIN]]
students = dict(zip(kinds, evidence.paired(P, *((found[name], None) for name in kinds))))
left_out = "".join(f", without {name}, which is not there in these worlds" for name in found if name not in kinds)
for claim, column in (("better-labels-samples", "right samples"), ("better-labels-maps", "MaxBoxAcc of the CAM")):
    correlation = frame.loc[kinds, column].corr(frame.loc[kinds, "TeD-Loc"], method="spearman")
    before = f"rank correlation {report.number(correlation, 2)} over {len(kinds)} kinds{left_out}; "
    judged.append(evidence.judge_order(claim, frame.loc[kinds, column].to_dict(), students, KEY, before))
(centred,) = evidence.paired(P, (found["centre prior"], None))
data = {world: P.in_world(world).data for world in centred}
disc = {
    each: baselines.gaussian_meter(open_data(each, "test"), P.evaluation.grid, P.evaluation.step)
    for each in set(data.values())
}
gap = evidence.difference(centred, {world: disc[each] for world, each in data.items()}, KEY)
judged.append(evidence.judge("over-centre-prior", gap, "MaxBoxAcc on test, TeD-Loc minus centred disc: "))
evidence.verdicts(P, judged)

# %% tags=["remove-input"]
gap = evidence.difference(*evidence.paired(P, (found[MAIN], None), (teacher, "true")), KEY)
Markdown(
    f"With the maps of {named} for the true class, which taught it, TeD-Loc's own compare by {evidence.told(gap)}. That "
    "claim of Table 1 is judged once, in the chapter *Main results*."
)

# %% [markdown]
# ## Who teaches
#
# "Generally, any CAM-based model can be used" (section 3.1). So each method below that maps the true class takes the
# teacher's place, under its own settings and with its own run, and TeD-Loc itself, taught as above. A
# teacher is a run of its own, made before its student's. In the aviary CLIP-ES stands in two rows: with the background
# words of its authors, and with the renderer's.

# %%
# One TeD-Loc for each teacher, in every world, and the run of its teacher there.
asked = {}
for name in compared.teachers(P):
    asked[name] = runs.grid(P, pseudo_labels__teacher=name, **g)
if P.data.name == "aviary" and clip:
    words = {"pseudo_labels__clip_es__background": "aviary"}
    asked[f"clip-es, {DRAWN_WORDS}"] = runs.grid(P, **words, **g)
own = {}
for name, group in asked.items():
    own[name] = [dataclasses.replace(one.teacher(), seed=one.seed) for one in group]
students, teachers = runs.collect_named(asked), runs.collect_named(own)

# %% tags=["remove-input"]
lines = {}
for name, group in students.items():
    of_teacher = (teachers[name], own[name][0].routes[0])
    gain = evidence.difference(*evidence.paired(P, (group, None), of_teacher), KEY)
    lines[name] = {
        **compared.over_worlds(P, group, "the teacher's own", lambda run: run.metrics["teacher"][KEY]),
        **compared.over_worlds(P, group, "TeD-Loc that it taught", lambda run: run[KEY]),
        ("gain", "95 % interval"): evidence.brief(gain),
    }
report.plain_table(
    pd.DataFrame.from_dict(lines, orient="index").rename_axis("teacher"),
    "MaxBoxAcc (%) on the test split: of each teacher's maps of the true class, and of the map g of the TeD-Loc that "
    f"learned from them. The best centred box scores {report.number(centre)}. {compared.origin(P, students)}",
    provenance=evidence.measured_on(P, evidence.decisive(P, students)["cam"]),
)
