# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # At scale
#
# What do CUB, ILSVRC and a collection of a hundred million photos cost on 1, 8 and 64 GPUs, and what breaks
# first? Nothing here was run at that size. The numbers are **estimates**: operations are counted from the
# full-size architectures, what runs on CPU cores is measured on the machine that built this page, and the rest
# is arithmetic on the assumptions that the first table names.

# %% tags=["parameters"]
profile = "smoke"

# %% tags=["remove-input"]
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown

from tedloc import plots, profiles
from tedloc.book import report
from tedloc.cost import plan

plots.use_style()
repeat = 5 if profile == "smoke" else 50
counted_on = report.measured_on(device="the architectures (counted) and one CPU core (measured)")

# %%
# What is to be done, by what, and the cost of an image: counted, but for two times.
WORK = {
    "CUB": plan.at_paper_scale(profiles.get("cub")),
    "ILSVRC": plan.at_paper_scale(profiles.get("ilsvrc")),
    "100 M photos": plan.Work(100_000_000, 50_000, 1_000, 1, 256),
}
MACHINES = {gpus: plan.Machine(gpus) for gpus in (1, 8, 64)}
clock = plan.measured(plan.counted(200), repeat)
times = {"decode": clock.decode, "score": clock.score}
counted = {name: plan.counted(work.classes) for name, work in WORK.items()}
costs = {name: replace(cost, **times) for name, cost in counted.items()}

# %% tags=["remove-input"]
one = MACHINES[1]
cost = costs["ILSVRC"]
report.plain_table(
    pd.DataFrame(
        [
            ("EVA-L, one image of 224 pixels", f"{cost.encoder / 1e9:.0f} GFLOPs", "counted"),
            (
                "decoder, g, pooling, scores",
                f"{cost.head / 1e9:.1f} GFLOPs",
                "counted; a training step takes three times that",
            ),
            (
                "CLIP-ES, one image",
                f"{cost.clip_es / 1e9:.0f} GFLOPs",
                "counted; a tenth added for the backward pass of one block",
            ),
            ("patch embeddings of one view", f"{cost.token_bytes / 1e6:.2f} MB", "counted, fp16"),
            ("pseudo-label of one image", f"{cost.map_bytes} bytes", "counted, uint8"),
            ("decoding and resizing a photo", f"{1000 * clock.decode:.1f} ms of a core", "measured, 500 × 375 pixels"),
            ("scoring a map at 1,000 thresholds", f"{1000 * clock.score:.1f} ms of a core", "measured"),
            ("a GPU", f"{one.peak / 1e12:.0f} TFLOP/s in bf16", "A100, data sheet"),
            ("share of that which code reaches", f"{one.reached:.0%}", "assumed"),
            ("CPU cores a GPU", f"{one.cores}", "assumed"),
            ("disk of a machine of eight GPUs", f"{one.disk / 1e9:.0f} GB/s", "assumed"),
        ],
        columns=["what", "value", "how it is known"],
    ).set_index("what"),
    "What the estimates are made of.",
    provenance=counted_on,
)

# %% [markdown]
# ## Hours and bytes
#
# A stage takes as long as the slowest of GPU, CPU cores and disk; the last column says which that is on eight
# GPUs. Patch embeddings are computed once for each image and its mirror image and read in every epoch.

# %%
# Every stage of each work, as long as the slowest of GPU, CPU cores and disk.
machines, frames = list(MACHINES.values()), {}
for name, work in WORK.items():
    frames[name] = plan.by_gpus(work, costs[name], machines)
frame = pd.concat(frames)
frame.index = [f"{name}: {stage}" for name, stage in frame.index]
words = "Estimated, not run. One seed, one run."
frame = frame.rename_axis("stage")
report.plain_table(frame, words, decimals=2, provenance=counted_on)

# %% tags=["remove-input"] mystnb={"image": {"alt": "Left, hours against the number of GPUs on logarithmic axes, one pair of lines a data set: solid with cached embeddings, dotted with the encoder run in every epoch. Right, bars of the gigabytes that pseudo-labels and cached patch embeddings take, by data set."}}
figure, axes = plt.subplots(1, 2, figsize=(10.0, 4.0))
for (name, work), marker, colour in zip(WORK.items(), "osD", plots.PALETTE):
    for cached, line, how in ((True, "-", "embeddings cached"), (False, ":", "encoder in every epoch")):
        hours = [plan.stages(work, costs[name], m, cached)["hours"].sum() for m in MACHINES.values()]
        axes[0].plot(list(MACHINES), hours, line, marker=marker, color=colour, label=f"{name}, {how}")
axes[0].set(xscale="log", yscale="log", xlabel="GPUs", ylabel="hours (estimate)", title="From images to scores")
axes[0].set_xticks(list(MACHINES), labels=[str(gpus) for gpus in MACHINES])
axes[0].minorticks_off()
stored = {name: plan.stages(work, costs[name], one)["stored"] / 1e9 for name, work in WORK.items()}
for shift, (stage, colour) in zip(
    (-0.2, 0.2), (("pseudo-labels", plots.PALETTE[2]), ("cache of patch embeddings", plots.PALETTE[0]))
):
    axes[1].bar(
        [i + shift for i in range(len(WORK))], [s[stage] for s in stored.values()], 0.38, color=colour, label=stage
    )
axes[1].set(yscale="log", xticks=range(len(WORK)), ylabel="GB (estimate)", title="What is stored")
axes[1].set_xticklabels(WORK)
axes[1].grid(False, axis="x")
axes[1].legend()
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# ## What breaks first

# %% tags=["remove-input"]
large = WORK["100 M photos"]
cache_tb = plan.stages(large, costs["100 M photos"], one).loc["cache of patch embeddings", "stored"] / 1e12
label_gb = plan.stages(large, costs["100 M photos"], one).loc["pseudo-labels", "stored"] / 1e9
with_cache, without = (
    plan.stages(large, costs["100 M photos"], MACHINES[64], cached)["hours"].sum() for cached in (True, False)
)
rate = one.flops / cost.encoder
cores = rate * clock.decode
memory = {name: plan.training_bytes(work.classes, work.batch_size) / 1e9 for name, work in WORK.items()}
Markdown(
    f"**The cache, by its size.** At a hundred million photos it would hold {cache_tb:,.0f} TB. For a single pass over the data "
    f"it is of no use either: on 64 GPUs, from images to scores takes {with_cache:.0f} hours with it and {without:.0f} "
    "without. The setting `encoder.cache = False` trains without one; the size is foretold before a byte is written, "
    f"and refused where the disk is too small. Pseudo-labels stay small: {label_gb:,.0f} GB, in shards that processes share.\n\n"
    f"**Then the CPU cores.** A GPU that reaches {one.reached:.0%} of its peak embeds {rate:,.0f} photos a second, and decoding "
    f"them takes {cores:.1f} cores of the kind that this page was built on. Where fewer stand beside it, photos should "
    "be stored at the size they are used in.\n\n"
    "**Never the memory of the trained part.** From cached embeddings a training step holds "
    + ", ".join(f"{gigabytes:.1f} GB ({name}, batch {WORK[name].batch_size})" for name, gigabytes in memory.items())
    + ": counted from the tensors that the backward pass keeps, in float32, with momentum and gradients."
)
