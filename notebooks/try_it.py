# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Try it on your image
#
# The model of this book is small enough to run where you read it. Below, your browser runs it on a picture of
# yours, or on one of ours: it says where the object is, and which of its classes it takes it for. The picture
# stays on your computer; nothing is sent anywhere.

# %% tags=["parameters"]
profile = "smoke"
settings = {}  # changes to the profile by dotted name: {"optimiser.epochs": 5}

# %% tags=["remove-input"]
import textwrap

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown

from tedloc import plots, predict, profiles, runs
from tedloc.book import report, try_it
from tedloc.data import open_data
from tedloc.metrics import boxes

plots.use_style()

# %%
# One run of TeD-Loc, trained where it is missing, loaded as `tedloc.predict` does.
P = profiles.get(profile, settings)
(run,) = runs.collect(runs.grid(P, seeds=P.seeds[:1], routes=(predict.ROUTE,)))
localizer = predict.load(run.folder)
images = open_data(P.data, "test")

# %% tags=["remove-input"]
samples = try_it.samples(localizer, images)
try_it.Page(localizer, samples)

# %% tags=["remove-input"]
kind = "synthetic birds" if P.synthetic else "photos"
noise = np.random.default_rng(0).integers(0, 256, (20, 80, 80, 3), dtype=np.uint8)
on_noise = try_it.best_shares(localizer, noise)
every = range(0, len(images), max(1, len(images) // 40))
on_test = try_it.best_shares(localizer, (images.image(i) for i in every))
Markdown(
    f"""
**What it knows, and what it does not.** The model was trained on {len(localizer.class_names)} classes of {kind} and
knows no other. It has no way of saying that nothing is there, or that it does not know: a photo of a street gets the
box of whatever looks most like an object to it, and the name of one of its classes. The softmax shares sum to one
whatever the picture shows, so a high share is no sign that the answer means anything. On pictures of pure noise the
best class gets a share of {100 * on_noise.mean():.0f} % on average ({len(noise)} pictures), on test images
{100 * on_test.mean():.0f} % ({len(on_test)} of them). Its accuracy is known for pictures like its test images only:
MaxBoxAcc {report.number(run["MaxBoxAcc@0.5 (val threshold)"])} % at the threshold used here, which was chosen on
validation images, and Top-1 accuracy {report.number(run["Top-1 CL"])} % over {run["num_images"]} test images, at a
resolution of {localizer.encoder.image_size} x {localizer.encoder.image_size} pixels, to which every picture is
squeezed.
"""
)

# %% [markdown]
# ## What PyTorch says of the sample pictures
#
# The page computes in the browser what `python -m tedloc.predict` computes in Python: the same resizing, the same
# network (exported by `python -m tedloc.export`, run by ONNX Runtime), the same way from the map to the
# box. Here are PyTorch's own answers for the samples; the page compares its box with them and tells when they
# differ. Dashed is the true box.

# %% tags=["remove-input"] mystnb={"image": {"alt": "The sample pictures, each with TeD-Loc's score map, its box, and the true box where there is one; below each, the class that the model names and its softmax share."}}
panels = [
    dict(
        image=sample.image,
        score_map=boxes.to_grid(sample.found.map, localizer.size),
        gt_boxes=[] if sample.target is None else [sample.target],
        predicted_box=sample.found.box,
        title=textwrap.fill(try_it.describe(localizer, sample), 24),
    )
    for sample in samples
]
plots.grid_of_localizations([panels[i : i + 3] for i in range(0, len(panels), 3)], cell=1.9)
plt.show()

# %% [markdown]
# ## On your own machine
#
# With the package installed, the same model, or one that you trained on your own classes, answers for any number
# of files and writes a JSON and a picture for each:
#
# ```bash
# python -m tedloc.predict --checkpoint runs/aviary/tedloc-seed0-... photo.jpg --out found
# python -m tedloc.export --checkpoint runs/aviary/tedloc-seed0-... tedloc.onnx
# ```
#
# `python -m tedloc.train` prints the folder of a run; the page *The package* says, at `tedloc.predict`, what is in
# the files.
