# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Explore
#
# Two things that a table hides. How a map becomes a box: choose a test image, a method and a threshold, and see
# which outline the protocol takes, what box it draws, and what that does to the score of all images. And what
# orthogonalization does to the class names: choose two, and see how alike they were before and how alike they
# are after.
#
# Everything shown was computed when this page was made; moving a slider computes no result anew. Both pieces work
# by mouse, finger and keyboard.

# %% tags=["parameters"]
profile = "smoke"
settings = {}  # changes to the profile by dotted name

# %% tags=["remove-input"]
import matplotlib.pyplot as plt
from IPython.display import Markdown

from tedloc import plots, profiles, runs
from tedloc.backbones.text import class_text
from tedloc.book import anchors_explorer, compared, evidence, explorer, report
from tedloc.data import open_data

plots.use_style()
OURS, PLAIN = "TeD-Loc", "CAM"

# %%
# Every method that is computed here, one run each: its boxes at all thresholds, and
# its maps of the test images whose maps were kept. A run that is read has none.
P = profiles.get(profile, settings)
rows = {row.label: row for row in compared.rows(P) if not row.lacks}
requests = {label: row.requests(P, P.seeds[:1]) for label, row in rows.items()}
found = runs.collect_named(requests)
methods = {}
for label in dict.fromkeys([OURS, *rows]):  # TeD-Loc leads the list
    run = found[label][0]
    if compared.read([run]):
        continue
    methods[label] = explorer.of_run(run, rows[label].route_of(run))

# %% tags=["remove-input"]
TEACHER = compared.teacher(P, list(rows.values()))[0].label
images = open_data(P.data, "test")
kept = found[OURS][0].maps()["index"]
on = evidence.measured_on(P, found[OURS], threshold="as chosen")
localized = explorer.localization(methods, images, kept, OURS, report.badge(on))

# %% [markdown]
# ## From a map to a box
#
# The map is enlarged to the protocol's grid and cut at a threshold, a share of its maximum. Of the outlines that
# remain the one that encloses the largest area gets the box; the others count for nothing. The box is right when
# its overlap with a true box (IoU) is at least one half. One threshold holds for all images: the curve below shows
# the share of test images that are right at each. *Best on test* is the one by which MaxBoxAcc is reported, chosen
# with the true boxes of the test images; *from validation* was chosen without them. The thin lines are the other
# methods.

# %% tags=["remove-input"]
localized

# %% tags=["remove-input", "explorer-fallback"] mystnb={"image": {"alt": "Four test images, from TeD-Loc's best to its worst, under TeD-Loc, its teacher and CAM: the score map over the image, the ground-truth box dashed, the box at the method's best threshold solid, its IoU below."}}
explorer.static_localization(localized, (OURS, TEACHER, PLAIN))
plt.show()

# %% tags=["remove-input"]
shown, agreeing = localized.payload, explorer.agreement(methods, images, kept)
same, alike = (min(pair[n] for pair in agreeing.values()) for n in (0, 1))
given = [name for name, method in methods.items() if not method.has_maps]
read = "" if len(methods) == len(rows) else " What is kept with the package of the others holds no maps."
without = f" Rows that give a box without a map have no threshold to move: {'; '.join(given)}." if given else ""
Markdown(
    f"**Which images, and how exact.** The {len(shown['images'])} images were not picked by hand: of the "
    f"{len(kept)} test images whose maps were kept, evenly spaced through the split, they stand at even ranks of "
    f"TeD-Loc's own IoU, from its best to its worst. The list holds {len(methods)} of the {len(rows)} rows of the main results, "
    f"those that were computed for this page, with one seed.{read}{without} Maps were kept in half precision, the tables were computed from single "
    "precision: at its best threshold every method judges at least "
    f"{report.number(100 * alike)} % of the kept images as in the tables, and of all "
    f"levels a map can be cut at at least {report.number(100 * same)} % give the very same box."
)

# %% [markdown]
# Things to try: a low threshold makes every box too large, a high one shrinks it to the brightest spot. Where the
# curve has a broad top, the choice hardly matters; where it is narrow, the reported number depends on having been
# chosen on the test images. The last images are those where TeD-Loc does worst; see which methods do better there.
#
# ## Class names before and after orthogonalization
#
# Each cell is the cosine between the text embeddings of two class names: 1 for the same direction, 0 for no
# likeness. The left matrix shows the text encoder's own embeddings, the right one what the chosen orthogonalization
# makes of them. Hover, tap, or use the arrow keys. The [orthogonalization](orthogonalization.ipynb) chapter
# measures what this is worth.

# %% tags=["remove-input"]
texts = [P.anchors.text]
if hard := compared.hard_clip(P):
    texts.append(hard["anchors__text"])
class_names = images.class_names
embedded = {name: class_text(name, class_names, P.anchors.template) for name in texts}
width = embedded[P.anchors.text].shape[1]
source = (
    f"Cosines between the embeddings of the {len(class_names)} class names of {P.data.name}"
    f"{' (synthetic images)' if P.synthetic else ''}, {width} dimensions; no image and no seed enters, but for the random control"
)
compared_anchors = anchors_explorer.orthogonalization(
    embedded, class_names, f"{source} · profile {P.name} · text encoders {', '.join(texts)}"
)
compared_anchors

# %% tags=["remove-input", "explorer-fallback"] mystnb={"image": {"alt": "Two matrices of cosines between class names: on the left the text as it is, with warm colours far from the diagonal, on the right after QR, where all but the diagonal is near zero."}}
anchors_explorer.static_orthogonalization(compared_anchors)
plt.show()
