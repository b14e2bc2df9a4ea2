# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your photos
#
# Does it work on *your* photos? This chapter is a report that answers for any folder: what is in it, what
# TeD-Loc scores there beside its teacher and beside boxes that look at no photo, where it fails, where it looks,
# and what to try next. One command makes it for a folder of yours
# (the page *Run it on your data* says how the folder may look):
#
# ```bash
# papermill notebooks/your_photos.ipynb out.ipynb -p data_root FOLDER
# ```
#
# As it stands in the book it runs on a folder that the package draws: `python -m tedloc.data example FOLDER`.

# %% tags=["parameters"]
profile = "smoke"  # of the book; a folder of your own is trained on under the profile "photos"
data_root = ""  # a folder of photos, one folder a class; empty: an example is drawn
settings = {}  # changes to the profile by dotted name: {"encoder.image_size": 448}

# %% tags=["remove-input"]
import textwrap

import matplotlib.pyplot as plt
from IPython.display import Markdown

from tedloc import plots, predict, runs
from tedloc.book import evidence, own_photos, report
from tedloc.data import SPLITS, describe, example, open_data

plots.use_style()

# %%
# TeD-Loc on the folder, and the linear classifier whose maps teach it; finished runs
# are read, not computed again. Then every photo is looked at once.
P = own_photos.profile(profile, data_root, settings)
request = runs.Request(P, seed=P.seeds[0])
run, teacher = runs.collect([request, request.teacher()])
localizer = predict.load(run.folder)
splits = {split: open_data(P.data, split) for split in SPLITS}
story = describe.describe(splits)

# %% tags=["remove-input"]
images = splits["test"]
on = evidence.measured_on(P, [run], threshold="oracle on test")
origin = (
    "The folder holds **drawn birds**, made for this page."
    if P.synthetic
    else f"The photos are those of `{P.data.root}`."
)
seconds = [f"{each.metrics['provenance']['seconds']['fit']:.0f}" for each in (run, teacher)]
Markdown(
    f"**What was run.** {origin} TeD-Loc trained a decoder on the frozen encoder `{P.encoder.name}`, with anchors from "
    f"`{P.anchors.text}`, one seed; a linear classifier on the same encoder, trained first, was its teacher "
    f"(`{P.pseudo_labels.teacher}`). No box was seen in training. The training took {seconds[0]} seconds on "
    f"{run.metrics['provenance']['device']}, after {seconds[1]} for the teacher."
)

# %% [markdown]
# ## What is in the folder

# %% tags=["remove-input"]
Markdown("\n".join(f"- {note}" for note in story["notes"]))

# %% tags=["remove-input"]
report.plain_table(
    describe.table(story).rename_axis("split"),
    "Photos and boxes of each split; how much of its photo an object's largest box fills. Boxes that fill much of the photo "
    "are easy to hit without looking.",
    provenance=on | {"threshold": None},
)

# %% tags=["remove-input"]
double = [" = ".join(group) for group in story["identical"]]
double += [" ~ ".join(pair) for pair in story["near-duplicates across splits"]]
Markdown(
    f"Photos that cannot be read: {len(story['unreadable']) or 'none'}. Identical photos, and near-duplicates in two "
    f"splits: {len(double) or 'none'}." + "".join(f"\n- {each}" for each in double[:10])
)

# %% tags=["remove-input"] mystnb={"image": {"alt": "A sheet of photos of the folder, evenly spaced through its splits, each with its class and split above and its boxes drawn dashed where it has some."}}
describe.contact_sheet(splits)
plt.show()

# %% [markdown]
# ## Scores
#
# *MaxBoxAcc* is the share of test photos whose box overlaps an annotated one by at least a half, at the best threshold on
# test; the next column takes the threshold that val chose, which is what a new photo gets. The last rows look at no photo:
# a method that does not pass them has found nothing. Top-1 Loc asks for the right class, too.

# %% tags=["remove-input"]
report.plain_table(
    own_photos.scores(run, teacher, P),
    f"{len(images)} test photos of {len(images.class_names)} classes (%).",
    provenance=on,
)

# %% [markdown]
# ## Class by class

# %% tags=["remove-input"]
report.plain_table(
    own_photos.by_class(run.meter(), images.class_names).head(30),
    "The classes with the fewest right answers first, at most 30. Boxes at the best threshold on test.",
    provenance=on,
)

# %% [markdown]
# ## Examples, by rule
#
# Not picked by hand: of the test photos whose maps were kept, evenly spaced, those at fixed ranks from the best to the
# worst overlap. Left TeD-Loc, right its teacher. (Without boxes: evenly spaced photos.)

# %% tags=["remove-input"] mystnb={"image": {"alt": "Test photos, one a row: TeD-Loc's map and box on the left, its teacher's on the right, the annotated boxes dashed, the overlap below; from the best photo at the top to the worst."}}
shown, panels = own_photos.examples_by_rule(run, teacher, images, localizer)
names = [textwrap.fill(images.class_names[images.labels[i]], 18) for i in shown]
plots.grid_of_localizations(panels, [own_photos.OURS, own_photos.TEACHER][: len(panels[0])], names, cell=1.9)
plt.show()

# %% [markdown]
# ## The worst cases
#
# The test photos with the least overlap, of all (without boxes: those whose best class scores lowest). What they have in
# common is the next thing to mend.

# %% tags=["remove-input"] mystnb={"image": {"alt": "The test photos that TeD-Loc does worst on, each with its map, its box and the annotated boxes, and below what it says of them."}}
worst = own_photos.worst(run, images, localizer)
plots.grid_of_localizations([worst[i : i + 4] for i in range(0, len(worst), 4)], cell=1.9)
plt.show()

# %% [markdown]
# ## Where it looks
#
# The mean of the maps, and where the boxes of test lie. A mean map that stays in the centre while boxes do not is a model
# that has learnt where photographers point.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Two squares, each standing for a photo stretched to it: the mean of TeD-Loc's maps over test photos, and the share of test photos whose boxes cover each place."}}
found = {"mean map": own_photos.mean_map(run), "boxes of test": own_photos.mean_box(images, localizer.size)}
found = {name: each for name, each in found.items() if each is not None}
figure, axes = plt.subplots(1, len(found), figsize=(3.2 * len(found), 3.1), squeeze=False)
for ax, (name, each) in zip(axes[0], found.items()):
    drawn = ax.imshow(each, extent=(0, 1, 1, 0), cmap="magma", vmin=0, vmax=1)
    ax.set(title=name, xticks=[], yticks=[])
    ax.grid(False)
figure.colorbar(drawn, ax=axes, shrink=0.8, label="share")
plt.show()

# %% [markdown]
# ## Photos without the object
#
# There is always an answer. `predict --min-score Q` refuses a photo that is less familiar than a share Q of the *val*
# photos, so about that share of photos like these is lost. A photo is as familiar as the lower of two ranks among them: of
# its best class's score, and of its map's highest value. How many photos without an object are refused depends on what
# they show; here it is measured on drawn scenes without a bird where the folder is drawn, and cannot be where it is yours:
# try it on photos that you know to be empty.

# %% tags=["remove-input"]
report.plain_table(
    own_photos.refusals(localizer, images, example.without_bird(100) if P.synthetic else ()),
    "What is refused at some values of `--min-score` (%).",
    provenance=on | {"threshold": None},
)

# %% [markdown]
# ## What to try next

# %% tags=["remove-input"]
Markdown("\n".join(f"1. {each}" for each in own_photos.advice(story, run, P)))
