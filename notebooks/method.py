# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The method
#
# TeD-Loc {cite}`murtaza2025tedloc` in the order of its computation. Equations carry the paper's numbers. Below each
# stand the lines of {mod}`tedloc` that compute it, read from the package when this page was made, and a picture that
# those lines computed. What the paper leaves open is said so, with the choice made here; every such choice is a field
# of {mod}`tedloc.settings` or of the module named.
#
# ```{raw} html
# :file: ../method.svg
# ```
#
# Dashed: frozen. Blue: trained. Orange: what comes out. Plus and minus: patches taken for the object and for the
# background. Every part of the diagram leads to its code.

# %% tags=["parameters"]
profile = "smoke"
settings = {}  # changes to the profile by dotted name: {"optimiser.epochs": 5}

# %% tags=["remove-input"]
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown
from matplotlib.colors import ListedColormap
from matplotlib.ticker import MaxNLocator

from tedloc import anchors, losses, methods, model, plots, profiles, runs, sampler
from tedloc.backbones.text import class_text, templates
from tedloc.book import evidence, examples, illustrations, report
from tedloc.data import open_data
from tedloc.methods import pseudo_label_quality as quality
from tedloc.methods.tedloc import TeDLocMethod
from tedloc.metrics import boxes
from tedloc.training import devices
from tedloc.training.distributed import Draws

plots.use_style()

# %%
# One run of TeD-Loc, trained where it is missing, else read; and what it was made of.
P = profiles.get(profile, settings)
(run,) = runs.collect(runs.grid(P, seeds=P.seeds[:1], routes=("g",)))
method = methods.create("tedloc", P, P.seeds[0], devices.default())
method.fit(run.folder)  # reads the finished run's weights
method.prepare()  # and the pseudo-labels that it was trained with
standardise, net = method.net.cpu()

# %% tags=["remove-input"]
images = open_data(P.data, "train")
size = tuple(side * P.decoder.upsampling for side in method.stored("train").grid)

# One training image for the whole page: the median one, by the share of its foreground samples that are right.
cams = torch.from_numpy(np.array(method.cams))
if all(map(len, images.boxes)):
    judged = quality.sample_quality(method.cams, quality.object_truth(images, size), P.sampler)
    CHOSEN = examples.median(judged.foreground)
    truth = quality.object_truth(images, size, np.array([CHOSEN]))[0]
    rule = (
        "the training image that is the median when all are ordered by the share of their foreground samples that are "
        "right"
    )
else:  # no boxes or masks in this training split: nothing to order by
    CHOSEN, truth, rule = len(images) // 2, None, "the middle image of the training split"
photo, label = images.image(CHOSEN), int(images.labels[CHOSEN])
name = images.class_names[label]
extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
DIVERGING = "PuOr_r"
Markdown(
    f"**What is shown.** Profile `{P.name}`: {report.number(len(images), 0)} "
    f"{'**synthetic** ' if P.synthetic else ''}training images of {len(images.class_names)} classes, seed "
    f"{P.seeds[0]}. Pictures of training show one image, of the class “{name}”. It was chosen by rule: {rule}. Its "
    "outline is drawn to judge by; training never saw it."
)


# %% tags=["remove-input"]
def panel(ax, title, picture=None, below="", outline=True, **how):
    """One picture on the decoder's grid, or the photo, with the object's outline."""
    if picture is None:
        ax.imshow(photo, extent=extent)
    else:
        shown = ax.imshow(picture, extent=extent, interpolation="nearest", **how)
    if outline and truth is not None:
        ax.contour(truth, levels=[0.5], colors=[plots.GROUND_TRUTH], linewidths=1.4)
    ax.set(xticks=[], yticks=[], xlabel=below)
    ax.set_title(title, loc="center", fontsize=11)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return None if picture is None else shown


def symmetric(picture):
    """Limits of a diverging colour scale."""
    top = float(np.abs(picture).max()) or 1.0
    return {"cmap": DIVERGING, "vmin": -top, "vmax": top}


# %% [markdown]
# ## Patch embeddings
#
# An image $x$ has a label $y$, one of $K$ classes. The encoder $E$, a vision transformer pre-trained for
# classification {cite}`dosovitskiy2021vit,fang2023eva`, is frozen; its last block gives a coarse grid of patches. The
# decoder $D$ turns that grid into a finer one, with an embedding $\bm{z}_p \in \mathbb{R}^d$ at every position $p$,
# where $d$ is the dimension of the anchors below. A linear patch classifier $g(\bm{z}_p) \in (0, 1)$ says how likely
# $p$ is to lie on the object; its values on the grid are the localization map $M$.
#
# Only $D$ and $g$ are trained. *Open in the paper:* the shape of $D$ and the output resolution. Here: a 3×3
# convolution, then blocks that double the grid and convolve (as one operation), then a 1×1 convolution to $d$. This last
# layer of $D$ and $g$ are both linear, so $g$ and the pooling below follow from the layer's input, with the same result;
# $\bm{z}_p$ itself is made only where a loss or a map asks for it.

# %% tags=["remove-input"]
illustrations.source(model.Decoder)

# %% tags=["remove-input"]
illustrations.source(model.TeDLoc.forward)

# %% tags=["remove-input"]
coarse = method.stored("train").grid
trained = sum(parameter.numel() for parameter in net.parameters())
Markdown(
    f"In this profile the encoder `{P.encoder.name}` gives {coarse[0]} × {coarse[1]} patches of "
    f"{method.stored('train').dim} channels, the decoder {size[0]} × {size[1]} of "
    f"{net.anchors.shape[1]}. {report.number(trained, 0)} parameters are trained."
)

# %% [markdown]
# In code: {mod}`tedloc.backbones.encoders` for $E$; {mod}`tedloc.model` for $D$ and $g$; {mod}`tedloc.training.features` keeps the
# encoder's output, which never changes.
#
# ## Anchors from text
#
# Each class name is put into a prompt and encoded by the text tower of CLIP {cite}`radford2021clip`. The embeddings
# are the rows of $T \in \mathbb{R}^{K \times d_T}$. Names of similar classes lie close together in that space
# {cite}`wang2024rectify`, which is a poor start for telling them apart. So the rows are made orthogonal by a QR
# decomposition {cite}`gander1980qr`, and the result, the **anchors** $\bm{t}_1, \dots, \bm{t}_K$, is frozen. After
# that the text tower is not needed any more. A vector $\bm{v}$ is scored for class $k$ by a dot product,
#
# $$
# f(\bm{v}, \bm{t}_k) = \langle \bm{v}, \bm{t}_k \rangle .
# $$
#
# *Open in the paper:* which matrix is decomposed. $K$ orthonormal vectors need at least $K$ dimensions, and ILSVRC
# has more classes than most CLIP models have dimensions. The readings, and what each gives when $K$ exceeds $d_T$:
#
# `qr_rows` (default)
# : $T = QR$, anchors are the rows of $Q$. Exists for every $K$. For $K \le d_T$ the rows are exactly orthonormal
#   (and know only the first $K$ coordinates of the texts); beyond that they cannot be, and form a tight frame.
#
# `qr_full`
# : the rows of the *full* QR's $Q$, which is $K \times K$: for $K > d_T$ the rows of `qr_rows`, completed in $K - d_T$
#   further dimensions, which hold nothing of the texts, so that they are exactly orthonormal. For $K \le d_T$ the same
#   as `qr_rows`.
#
# `qr_cols`
# : $T^\top = QR$, that is Gram–Schmidt over the classes. Depends on their order; does not exist for $K > d_T$, and
#   asking for it then is an error.
#
# `polar`
# : $UV^\top$ from $T = U \Sigma V^\top$, the nearest orthonormal set {cite}`higham1986polar`. Independent of the order.
#
# `none`, `random`, `onehot`
# : the text as it is, and two controls without text. Since any two orthonormal sets differ by a rotation, and a
#   decoder can learn a rotation, one should ask whether the text still matters after orthogonalization. The chapter
#   on [orthogonalization](orthogonalization.ipynb) asks.

# %% tags=["remove-input"]
illustrations.source(class_text)

# %% tags=["remove-input"]
illustrations.source(anchors.orthogonalise)

# %% tags=["remove-input"] mystnb={"image": {"alt": "Two matrices of cosines between the first class names, before and after orthogonalization, and below them the singular values of all anchors before and after. Before, the off-diagonal cosines are large and the singular values fall; after, they are small and the values are level."}}
text = class_text(P.anchors.text, images.class_names, P.anchors.template)
made = anchors.orthogonalise(text, P.anchors.orthogonaliser, seed=P.anchors.seed)
before, after = anchors.cosines(text), anchors.cosines(made)
few = slice(0, 8)
figure, axes = plt.subplot_mosaic(
    [["before", "after"], ["spectrum", "spectrum"]], figsize=(7.0, 6.2), height_ratios=(1.5, 1)
)
for place, matrix in (("before", before), ("after", after)):
    ax, shown = axes[place], matrix[few, few]
    ax.imshow(shown, cmap=DIVERGING, vmin=-1, vmax=1)
    for (i, j), value in np.ndenumerate(shown.numpy()):
        ax.text(
            j,
            i,
            f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−"),
            ha="center",
            va="center",
            fontsize=10,
            color="white" if abs(value) > 0.55 else "#222222",
        )
    numbers = range(1, len(shown) + 1)
    ax.set(xticks=range(len(shown)), xticklabels=numbers, yticks=range(len(shown)), yticklabels=numbers)
    ax.grid(False)
    ax.set_title(
        {"before": "cosines, text as it is", "after": f"cosines, {P.anchors.orthogonaliser}"}[place],
        loc="center",
        fontsize=11,
    )
for label_, matrix, colour, line in (("text as it is", text, 1, "--"), (P.anchors.orthogonaliser, made, 0, "-")):
    strength = torch.linalg.svdvals(matrix.double())
    axes["spectrum"].plot(
        range(1, len(strength) + 1), strength, line, marker="o", markersize=4, color=plots.PALETTE[colour], label=label_
    )
axes["spectrum"].set(xlabel="rank", ylabel="singular value", ylim=(0, None), title=f"All {len(text)} classes")
axes["spectrum"].xaxis.set_major_locator(MaxNLocator(integer=True))
axes["spectrum"].legend()
plt.show()

# %% tags=["remove-input"]
Markdown(
    f"The prompt is “{templates(P.anchors.template)[0]}”, the text encoder `{P.anchors.text}` with "
    f"{text.shape[1]} dimensions. The matrices show the first {len(before[few])} of {len(text)} classes: "
    f"{'; '.join(f'{i} {each}' for i, each in enumerate(images.class_names[few], 1))}. The largest cosine between two "
    f"different ones of all classes is {anchors.coherence(text):.3f} before and {anchors.coherence(made):.3f} after. "
    f"Before, the strongest direction alone holds "
    f"{float(anchors.energies(text)[0]):.0%} of the texts' squared length."
)

# %% [markdown]
# In code: {mod}`tedloc.backbones.text` for prompts and embeddings; {mod}`tedloc.anchors` for the orthogonalisers.
#
# ## Pseudo-labels for patches
#
# No patch has a label, so a teacher supplies some: a class activation map of the true class, made once before
# training. The paper uses CLIP-ES {cite}`lin2023clipes`, a Grad-CAM {cite}`selvaraju2017gradcam` through CLIP's
# softmax that is then spread along CLIP's own attention, and says that any such map would do.
#
# From the map, at every training step and for every image: Otsu's threshold {cite}`otsu1979threshold` splits it
# in two; the $n^+$ strongest positions of the upper part are a foreground pool, the $n^-$ weakest positions outside it
# a background pool; the same number is drawn at random from each. Call the drawn foreground $\omega^+$, everything
# drawn $\omega$, and let $y'_p$ be 1 on the foreground and 0 on the background. All other patches stay without a
# label in that step. Drawing anew each time keeps the decoder from memorising the map's mistakes.
#
# *Open in the paper:* $n^+$, $n^-$ and the number drawn. Here: the pools are shares of the Otsu region and of the
# image, and as many are drawn as in the authors' earlier work {cite}`belharbi2022fcam`.

# %% tags=["remove-input"]
illustrations.source(sampler.pools)

# %% tags=["remove-input"]
illustrations.source(sampler.sample)

# %% tags=["remove-input"] mystnb={"image": {"alt": "Eight panels for one training image: the image with the object's outline, the teacher's map, the histogram of the map with Otsu's threshold, the two pools, the patches drawn in three steps, and how often each patch was drawn over many steps."}}
STEPS = 100
cam = sampler.to_grid(cams[CHOSEN : CHOSEN + 1].float() / 255, size)
threshold = int(sampler.otsu(cam.flatten(1))[0])
pools = sampler.pools(cam, P.sampler, Draws(torch.Generator().manual_seed(0), 1))
drawn, positive, negative = illustrations.tallies(*pools, P.sampler.samples, STEPS, torch.Generator().manual_seed(0))
FOREGROUND, BACKGROUND = plots.PALETTE[5], plots.PALETTE[4]
figure, axes = plt.subplots(2, 4, figsize=(7.2, 4.3))
panel(axes[0, 0], "image")
panel(axes[0, 1], "teacher's map", cam[0], cmap="magma", vmin=0, vmax=255)
levels = np.bincount(cam.flatten().numpy(), minlength=256)
bins = np.add.reduceat(levels, np.arange(0, 256, 16))
axes[0, 2].bar(
    np.arange(0, 256, 16) + 8,
    bins,
    width=15,
    color=[FOREGROUND if low > threshold else "#999999" for low in range(0, 256, 16)],
)
axes[0, 2].axvline(threshold, color="#222222", linewidth=1.4, linestyle="--")
axes[0, 2].set(xticks=[], yticks=[], xlabel="level of the map")
axes[0, 2].set_title("Otsu's split", loc="center", fontsize=11)
axes[0, 2].grid(False)
kinds = pools[0].int() + 2 * pools[1].int()
panel(axes[0, 3], "pools", kinds.view(size), cmap=ListedColormap(["#222222", FOREGROUND, BACKGROUND]), vmin=0, vmax=2)
for step, ax in enumerate(axes[1, :3]):
    panel(ax, f"step {step + 1}")
    for flat, colour, marker in ((drawn[step].foreground, FOREGROUND, "o"), (drawn[step].background, BACKGROUND, "s")):
        y, x = np.divmod(flat[drawn[step].valid].numpy(), size[1])
        ax.scatter(x, y, s=20, marker=marker, color=colour, edgecolor="black", linewidth=0.6)
panel(axes[1, 3], f"{STEPS} steps", (positive - negative).reshape(size), **symmetric(positive - negative))
handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in (FOREGROUND, BACKGROUND)]
figure.legend(handles, ["drawn as object", "drawn as background"], loc="outside lower center", ncols=2)
plt.show()

# %% tags=["remove-input"]
reached = float((positive[pools[0][0].numpy()] > 0).mean()) if pools[0].any() else float("nan")
right = (
    ""
    if truth is None
    else (
        f" Of the foreground pool {judged.foreground[CHOSEN]:.0%} lies on the object, of the background pool "
        f"{judged.background[CHOSEN]:.0%} outside it; the foreground pool reaches {judged.coverage[CHOSEN]:.0%} of the "
        "object."
    )
)
Markdown(
    f"Each step draws {P.sampler.samples} patches of each kind out of pools of {int(pools[0].sum())} and "
    f"{int(pools[1].sum())}; the last panel counts {STEPS} steps, orange for object and purple for background, after "
    f"which {reached:.0%} of the foreground pool has been drawn.{right} Patches in neither pool (dark) are never drawn."
)

# %% [markdown]
# In code: {mod}`tedloc.methods.clip_es` for the teacher; {mod}`tedloc.methods.pseudo_labels` for making its maps, and for controls that
# know only the centre of the image, or are another image's; {mod}`tedloc.sampler` for Otsu's threshold, the pools and
# the drawing. How good the samples are over all images, and what that is worth, is the matter of
# [Pseudo-labels](pseudo_labels.ipynb).
#
# ## Three losses
#
# ### Distillation
#
# Each drawn foreground patch is classified against all anchors, and should come out as the image's class:
#
# $$
# L_{\mathrm{KD}} = - \sum_{p \in \omega^+} \log
#   \frac{\exp f(\bm{z}_p, \bm{t}_y)}{\sum_{k=1}^{K} \exp f(\bm{z}_p, \bm{t}_k)}
# $$ (eq-kd)
#
# Background patches take no part, since no anchor stands for background.

# %% tags=["remove-input"]
illustrations.source(losses.knowledge_distillation)

# %% [markdown]
# ### Patch classification
#
# The background is learned by $g$, from drawn patches of both kinds:
#
# $$
# P_{\mathrm{CL}} = - \sum_{p \in \omega} \Big[ y'_p \log g(\bm{z}_p) + (1 - y'_p) \log \big( 1 - g(\bm{z}_p) \big) \Big]
# $$ (eq-pcl)

# %% tags=["remove-input"]
illustrations.source(losses.patch_classification)

# %% [markdown]
# ### Image classification
#
# The embedding of the whole image is the mean of its patch embeddings, weighted by $g$:
#
# $$
# \bm{h} = \sum_p a_p \bm{z}_p , \qquad a_p = \frac{g(\bm{z}_p)}{\sum_j g(\bm{z}_j)}
# $$ (eq-pool)

# %% tags=["remove-input"]
illustrations.source(model.pool)

# %% [markdown]
# It, too, should be closest to its class's anchor:
#
# $$
# I_{\mathrm{CL}} = - \log \frac{\exp f(\bm{h}, \bm{t}_y)}{\sum_{k=1}^{K} \exp f(\bm{h}, \bm{t}_k)}
# $$ (eq-icl)

# %% tags=["remove-input"]
illustrations.source(losses.image_classification)

# %% [markdown]
# ### Where the score of $\bm{h}$ comes from
#
# The pooled score is a sum over patches, $\langle \bm{h}, \bm{t}_y \rangle = \sum_p a_p \langle \bm{z}_p, \bm{t}_y
# \rangle$. So it can be taken apart: which patches count, how much each of them looks like the class, and what each
# adds. Below, for the image above after training.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Three panels on the patch grid of one image: the map g, each patch's similarity to the anchor of the image's class, and each patch's share of the pooled score."}}
with torch.no_grad():
    now = net(standardise(method.input("train", np.array([CHOSEN])).cpu()))
    weights, shares = illustrations.score_shares(now, net.anchors[label])
    similar = model.anchor_maps(now.z, net.anchors, torch.tensor([label]))[0]
figure, axes = plt.subplots(1, 3, figsize=(7.0, 3.0))
for ax, title, picture, how in (
    (axes[0], "$g(z_p)$", now.g[0].sigmoid(), {"cmap": "magma", "vmin": 0, "vmax": 1}),
    (axes[1], r"$\langle z_p, t_y\rangle$", similar, symmetric(similar)),
    (axes[2], r"$a_p\,\langle z_p, t_y\rangle$", shares, symmetric(shares)),
):
    scale = figure.colorbar(panel(ax, title, picture, **how), ax=ax, location="bottom", shrink=0.9)
    scale.ax.locator_params(nbins=3)
    scale.ax.tick_params(labelsize=10)
plt.show()

# %% tags=["remove-input"] mystnb={"image": {"alt": "Bars: the scores of the pooled embedding for the classes that it resembles most, the true class in blue, the others in grey."}}
scores = now.scores[0]
best = scores.topk(min(6, len(scores))).indices.tolist()
best = best if label in best else [*best[:-1], label]
figure, ax = plt.subplots(figsize=(7.0, 2.6))
ax.barh(range(len(best)), scores[best], color=[plots.OURS if k == label else "#999999" for k in best])
ax.set(yticks=range(len(best)), xlabel=r"$\langle h, t_k\rangle$", title="Scores of the pooled embedding")
names = [textwrap.shorten(images.class_names[k], 34, placeholder=" …") for k in best]
ax.set_yticklabels([plots.written(name) for name in names], fontsize=10)
ax.invert_yaxis()
ax.axvline(0, color="#222222", linewidth=0.8)
ax.grid(False, axis="y")
plt.show()

# %% tags=["remove-input"]
rank = 1 + int((scores > scores[label]).sum())
half = illustrations.fewest(weights, 0.5)
on_object = (
    ""
    if truth is None
    else (
        f" Patches on the object hold {float(weights[torch.from_numpy(truth)].sum()):.0%} of the weight and give "
        f"{report.number(float(shares[torch.from_numpy(truth)].sum()), 2)} of the score of "
        f"{report.number(float(scores[label]), 2)}."
    )
)
Markdown(
    f"{half} of {weights.numel()} patches hold half of the weight.{on_object} The true class comes out "
    f"{'first' if rank == 1 else f'at rank {rank}'} of {len(scores)}."
)

# %% [markdown]
# ### What each loss pulls
#
# Through {eq}`eq-pool` image classification reaches every patch, drawn or not, and teaches $g$ which patches tell the
# class. Training minimises
#
# $$
# L = \lambda_1 L_{\mathrm{KD}} + \lambda_2 P_{\mathrm{CL}} + \lambda_3 I_{\mathrm{CL}}
# $$ (eq-total)
#
# by stochastic gradient descent.

# %% tags=["remove-input"]
illustrations.source(losses.total)

# %% [markdown]
# The three do not ask for the same. Automatic differentiation says what each asks of every single patch, as if it
# could move by itself: of $\bm{z}_p$, a step towards the anchor of the class (orange) or away from it (purple); of
# $g$, more object (orange) or more background (purple). The upper row is an untrained decoder, the lower one the
# trained one, with the same drawn patches.

# %% tags=["remove-input"] mystnb={"image": {"alt": "Two rows, before and after training, of four panels on the patch grid: the pull of L_KD on patch embeddings at the drawn foreground patches, the pull of P_CL on g at all drawn patches, and the pulls of I_CL on embeddings and on g at all patches."}}
fresh = method.model().train()  # as at the first step: batch norm takes the statistics of a batch
batch = np.unique([*np.linspace(0, len(images) - 1, P.optimiser.batch_size).astype(int), CHOSEN])
with torch.no_grad():
    first = fresh(method.input("train", batch).cpu())
row = int(np.flatnonzero(batch == CHOSEN)[0])
alone = {name: getattr(first, name)[row : row + 1] for name in ("features", "g", "h", "scores")}
stages = {"before": first._replace(**alone), "after": now}
found = {
    stage: illustrations.pulls(output, drawn[0], torch.tensor([label]), net.anchors, P.loss)
    for stage, output in stages.items()
}
COLUMNS = [
    ("L_KD", "anchor", "$L_{KD}$ on $z_p$"),
    ("P_CL", "object", "$P_{CL}$ on $g$"),
    ("I_CL", "anchor", "$I_{CL}$ on $z_p$"),
    ("I_CL", "object", "$I_{CL}$ on $g$"),
]
figure, axes = plt.subplots(2, len(COLUMNS), figsize=(7.2, 4.6))
for line, (stage, pulled) in zip(axes, found.items()):
    for ax, (loss, kind, title) in zip(line, COLUMNS):
        picture = getattr(pulled[loss], kind)
        panel(
            ax,
            title if stage == "before" else "",
            picture,
            f"up to {float(picture.abs().max()):.1g}",
            **symmetric(picture),
        )
    line[0].set_ylabel(f"{stage} training", fontsize=11)
plt.show()

# %% [markdown]
# The number below a panel is its largest pull; the colours of each panel are its own. $L_{\mathrm{KD}}$ acts at the drawn
# foreground patches alone, $P_{\mathrm{CL}}$ at drawn patches of both kinds. $I_{\mathrm{CL}}$ pulls every $\bm{z}_p$ in
# proportion to its weight $a_p$; and it raises $g$ where a patch speaks for the class against its rivals more clearly
# than $\bm{h}$ does, and lowers it elsewhere.

# %% tags=["remove-input"]
pull = found["after"]["I_CL"].object.numpy()
Markdown(
    ""
    if truth is None
    else (
        f"On this image, after training, image classification asks for more object at {float((pull[truth] > 0).mean()):.0%} "
        f"of the object's own patches and for more background at {float((pull[truth] < 0).mean()):.0%} of them. To name the "
        "class it need not cover the object, and the patch classifier's own loss has to hold the map together."
    )
)

# %% [markdown]
# What each loss is worth over the whole test split is measured in [What each loss adds](loss_ablation.ipynb).
#
# *Open in the paper:* the $\lambda$s, of which it gives the range, and a temperature, of which it shows none. Here: the
# sums over patches are means, so that the $\lambda$s do not depend on how many patches are drawn; there is no
# temperature and no normalisation of embeddings unless a setting asks for one; and the sum of $g$ in {eq}`eq-pool` is
# kept from reaching zero.
#
# In code: {mod}`tedloc.losses` for {eq}`eq-kd`, {eq}`eq-pcl`, {eq}`eq-icl` and {eq}`eq-total`; {mod}`tedloc.model` for
# {eq}`eq-pool`; {mod}`tedloc.training.engine` for the training loop.
#
# ## At test time
#
# One pass through $E$, $D$ and $g$, without text tower, label or teacher:
#
# - the **class** is the one whose anchor has the largest $f(\bm{h}, \bm{t}_k)$;
# - the **map** is $M$, that is $g$ at every patch; it does not depend on the class;
# - a second route to a map is $\langle \bm{z}_p, \bm{t}_k \rangle$ at every patch, for the true or for the predicted
#   class ([patch-anchor localization](patch_anchor_localization.ipynb)).

# %% tags=["remove-input"]
illustrations.source(TeDLocMethod.routes)

# %% tags=["remove-input"] mystnb={"image": {"alt": "One test image with its box, beside the map g and the anchor maps of the true and of the predicted class, each with the box that the map g gives or none."}}
test = open_data(P.data, "test")
results = evidence.by_image(run.meter(), test.ids)
SHOWN = examples.median(results["iou"])
result = results.iloc[SHOWN]
with torch.no_grad():
    routes = method.routes(
        net, standardise(method.input("test", np.array([SHOWN])).cpu()), torch.from_numpy(test.labels[[SHOWN]])
    )
TITLES = {"g": "$g(z_p)$", "anchor-true": "anchor,\ntrue class", "anchor-pred": "anchor,\npredicted class"}
figure, axes = plt.subplots(1, 1 + len(TITLES), figsize=(7.2, 2.5))
plots.show_localization(axes[0], test.picture(SHOWN), gt_boxes=test.boxes[SHOWN], title="test image")
for ax, (route, title) in zip(axes[1:], TITLES.items()):
    grid_map = boxes.to_grid(routes[route].maps[0].numpy(), P.evaluation.grid)
    plots.show_localization(
        ax,
        test.picture(SHOWN),
        grid_map,
        test.boxes[SHOWN],
        result[["x0", "y0", "x1", "y1"]] if route == "g" else None,
        title,
    )
for ax in axes:
    ax.title.set_fontsize(11)
plt.show()

# %% tags=["remove-input"]
guess = test.class_names[int(result["predicted"])]
Markdown(
    f"The test image whose box overlaps its object as well as the median of all does (IoU {result['iou']:.2f}). Dashed: "
    "its box; solid: the box from the map of g at the threshold that is best over the test split. The model calls it "
    f"“{guess}”, which is {'right' if result['predicted'] == result['label'] else 'wrong'}. Each map is stretched "
    "between its own least and largest value."
)

# %% [markdown]
# How a map becomes a box, and a box a score, is the benchmark's matter {cite}`choe2020evaluating` and has a
# [chapter of its own](protocol.ipynb).
