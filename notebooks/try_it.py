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
# TeD-Loc is small enough to run where you read this. Below, your browser runs it on a photo of yours, from a file or
# your phone's camera, or on a picture of ours: it says where the object is, which of its classes it takes it for, and
# when the picture is unlike anything it knows. The picture stays with you; nothing is sent anywhere.

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
# One run of TeD-Loc, trained where it is missing, loaded as `tedloc.predict` does;
# where it has seen drawn birds alone, the shipped model of photos for your pictures.
P = profiles.get(profile, settings)
(run,) = runs.collect(runs.grid(P, seeds=P.seeds[:1], routes=(predict.ROUTE,)))
localizer = predict.load(run.folder)
images = open_data(P.data, "test")
photos = try_it.photo_model() if P.synthetic else None

# %% tags=["remove-input"]
samples = try_it.samples(localizer, images)
try_it.Page(localizer, samples, photos)

# %% tags=["remove-input"]
own = photos or localizer
kind = "drawn birds" if own.about["synthetic"] else "photos"
noise = np.random.default_rng(0).integers(0, 256, (20, 80, 80, 3), dtype=np.uint8)
every = range(0, len(images), max(1, len(images) // 40))
drawn = [images.image(i) for i in every]
told = {"pure noise": noise, images.name if photos is None else "drawn birds": drawn}
refused = ", ".join(
    f"{100 * try_it.unlike(own, pictures):.0f} % of {len(pictures)} pictures of {name}"
    for name, pictures in told.items()
)
Markdown(
    f"""
**What it knows, and what it does not.** A picture of yours is looked at by a model that was trained on
{len(own.class_names)} classes of {kind} and knows no other: a photo of a street gets the box of whatever looks most
like an object to it, and the name of one of these classes. On {own.scored["num_images"]} test images of its classes
{report.number(own.scored["MaxBoxAcc@0.5 (val threshold)"])} % of its boxes overlap the true one by half (MaxBoxAcc) at
the threshold used here, which was chosen on validation images, and its class is right for
{report.number(own.scored["Top-1 CL"])} %. It sees {own.encoder.image_size} x {own.encoder.image_size} pixels, to which
every picture is squeezed.{f" It was {own.terms}." if own.terms else ""}

**When a picture is unlike anything it knows.** The softmax shares sum to one whatever a picture shows, so a high share
is no sign that the answer means anything. What says more is how usual the best score, and the map's highest value, would
be among the validation images. The lower of the two ranks is turned into the share of validation images that are less
usual; below {100 * try_it.UNLIKE:.0f} % the page calls a picture unlike anything the model knows. By this rule one in
{1 / try_it.UNLIKE:.0f} validation images is called so too, and so are here {refused}. What it does not promise is to
know every picture of something else.
"""
)

# %% [markdown]
# ## What PyTorch says of the sample pictures
#
# The page computes in the browser what `python -m tedloc.predict` computes in Python: the same resizing, the same
# network (exported by `python -m tedloc.export`, run by ONNX Runtime), the same way from the map to the
# box. The model of photos travels with its weights in 15 bits each. Here are PyTorch's own answers for the samples; the page
# compares its box with them and tells when they differ. Dashed is the true box.

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
# With the package installed, the same models, or one that you trained on your own classes, answer for any number
# of files and write a JSON and a picture for each:
#
# ```bash
# python -m tedloc.predict --checkpoint tedloc/weights/photos photo.jpg --out found
# python -m tedloc.predict --checkpoint runs/aviary/tedloc-seed0-... photo.jpg --out found
# python -m tedloc.export --checkpoint runs/aviary/tedloc-seed0-... tedloc.onnx
# ```
#
# `tedloc/weights/photos` is the model of photos that ships with the package; `python -m tedloc.train` prints the folder
# of a run of yours. The page *The package* says, at `tedloc.predict`, what is in the files.
