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
# first? Nothing here was run at that size. The numbers are **estimates** of what the code does under the profiles' own
# settings: operations are counted from the full-size architectures, what runs on CPU cores is measured on the machine
# that built this page, and the rest is arithmetic on the assumptions that the tables name.

# %% tags=["parameters"]
profile = "smoke"

# %% tags=["remove-input"]
from dataclasses import replace

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown

from tedloc import plots, profiles
from tedloc.book import report
from tedloc.cost import bits, measured, plan

plots.use_style()
repeat = 5 if profile == "smoke" else 50
counted_on = report.measured_on(device="the architectures (counted) and one CPU core (measured)")

# %%
# What is to be done, as the profiles set it, and what an image costs: counted.
SETS = ("CUB", "ILSVRC")
WORK = {name: plan.at_paper_scale(profiles.get(name.lower())) for name in SETS}
many = replace(WORK["ILSVRC"], train=100_000_000, val=0, epochs=1, batch_size=256)
WORK["100 M photos"] = many
MACHINES = {gpus: plan.Machine(gpus) for gpus in (1, 8, 64)}
clock = measured.of_a_core(repeat)
costs = {}
for name, work in WORK.items():
    costs[name] = plan.with_cores(plan.counted(work.classes), clock)

# %% tags=["remove-input"]
one, reading = MACHINES[1], WORK["ILSVRC"].reading
cost = costs["ILSVRC"]
processes = {None: "a process for each core of a GPU's share", 0: "the process that feeds the GPU, in turns with it"}
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
            ("a training step", f"{cost.operators} operators", "counted"),
            ("launching an operator", f"{1e6 * plan.LAUNCH:.0f} µs", "assumed"),
            (
                "patch embeddings of one view",
                f"{cost.numbers * many.number_bytes / 1e6:.2f} MB",
                f"counted, {8 * many.number_bytes} bits a number, as the profiles set it",
            ),
            ("pseudo-label of one image", f"{cost.map_bytes} bytes", "counted, uint8"),
            (
                "decoding and resizing a photo",
                f"{1000 * clock['decode']:.1f} ms of a core",
                "measured, 500 × 375 pixels",
            ),
            ("scoring a map at 1,000 thresholds", f"{1000 * clock['score']:.1f} ms of a core", "measured"),
            ("who decodes", processes.get(reading.workers, f"{reading.workers} processes a GPU"), "the code"),
            *(
                (f"{name}: share of the slower of reading and network", f"{100 * share:.0f} %", reading.known)
                for name, share in reading.shares.items()
            ),
            *(
                (
                    f"a GPU in {kind}",
                    f"{peak / 1e12:g} TFLOP/s, of which {100 * plan.REACHED[kind]:.0f} % are reached",
                    "A100, data sheet; the share is assumed",
                )
                for kind, peak in plan.PEAK.items()
            ),
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
# A stage takes as long as its slowest part: the GPU's arithmetic, launching its operators one after the other, decoding
# photos, reading the cache; scoring maps comes on top, done by the process that made them. `limit` says which part takes
# the longest on one GPU. Patch embeddings are computed once, for each training image and its mirror image and for the
# images of validation and test, and read in every epoch. A step is shared by no more GPUs than a batch has images, and
# launching takes no less time on more of them.

# %%
# Every stage of each work.
machines = list(MACHINES.values())
frames = {}
for name, work in WORK.items():
    frames[name] = plan.by_gpus(work, costs[name], machines)
frame = pd.concat(frames)
frame.index = [f"{name}: {stage}" for name, stage in frame.index]
words = "Estimated, not run. One seed, one run."
frame = frame.rename_axis("stage")
report.plain_table(frame, words, decimals=2, provenance=counted_on)

# %% [markdown]
# ## Measured on a GPU
#
# `python -m benchmarks.gpu_box` runs the stages on one GPU for six minutes, on generated photos and with random weights.
# Its result stands here beside what the assumptions above give for an A100.

# %% tags=["remove-input"]
encoder, clip_es = measured.on_gpu("encoder") or {}, measured.on_gpu("clip-es") or {}
epochs, tests = measured.on_gpu("epochs") or {}, measured.on_gpu("tests")
pace = encoder.get("photos a second, both views", {})


def rate(flops: float, kind: str) -> float:
    return plan.PEAK[kind] * plan.REACHED[kind] / flops


rows = {
    **{
        f"EVA-L, forward passes in {kind} (images a second)": (
            rate(cost.encoder, kind),
            encoder.get("plain (images/s)", {}).get(kind),
        )
        for kind in plan.PEAK
    },
    "EVA-L, from photos to the cache (photos a second, two views each)": (None, pace.get("from files")),
    "its photos read and made square, nothing else": (None, pace.get("reading alone")),
    "its passes on photos in memory": (None, pace.get("network alone")),
    "its cache written, nothing else": (None, pace.get("writing alone")),
    **{
        f"CLIP-ES on ViT-B/16 in {kind} (images a second)": (
            rate(cost.clip_es, kind),
            clip_es.get("CLIP-ES (images/s)", {}).get(kind),
        )
        for kind in plan.PEAK
    },
    "a training epoch from the cache (images a second)": (None, epochs.get("cached epoch (images/s)")),
    "a training epoch without a cache (images a second)": (None, epochs.get("uncached epoch (images/s)")),
    "peak memory of training from the cache (GB)": (
        plan.training_bytes(1000, WORK["ILSVRC"].batch_size) / 1e9,
        epochs.get("cached epoch, peak memory (GB)"),
    ),
}
report.plain_table(
    pd.DataFrame(
        {
            name: {
                "counted, A100": report.MISSING if counted is None else report.number(counted, 1),
                "measured": measured.NOT_MEASURED if found is None else report.number(found, 1),
            }
            for name, (counted, found) in rows.items()
        }
    ).T.rename_axis("on one GPU"),
    f"Counted and measured. The right column is {measured.gpu()}."
    + (f" There the tests that need a GPU: {tests['passed']} passed, {tests['failed']} failed." if tests else ""),
    provenance=counted_on,
)

# %% tags=["remove-input"] mystnb={"image": {"alt": "Left, hours against the number of GPUs on logarithmic axes, one pair of lines a data set: solid with cached embeddings, dotted with the encoder run in every epoch. Right, bars of the gigabytes that pseudo-labels and cached patch embeddings take, by data set."}}
figure, axes = plt.subplots(1, 2, figsize=(10.0, 4.0))
for (name, work), marker, colour in zip(WORK.items(), "osD", plots.PALETTE):
    for cached, line, how in ((True, "-", "embeddings cached"), (False, ":", "encoder in every epoch")):
        same = replace(work, cached=cached)
        hours = [plan.stages(same, costs[name], m)["hours"].sum() for m in MACHINES.values()]
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
stored = plan.stages(many, costs["100 M photos"], one)["stored"]
with_cache, without = (
    plan.stages(replace(many, cached=cached), costs["100 M photos"], MACHINES[64])["hours"].sum()
    for cached in (True, False)
)
pace = rate(cost.encoder, many.encoder)
cores = pace * clock["decode"]
memory = {name: plan.training_bytes(work.classes, work.batch_size) / 1e9 for name, work in WORK.items()}
Markdown(
    f"**The cache, by its size.** At a hundred million photos it would hold {stored['cache of patch embeddings'] / 1e12:,.0f} TB. "
    f"For a single pass over the data it pays little: on 64 GPUs, from images to scores takes {with_cache:.0f} hours with it "
    f"and {without:.0f} without. The setting `encoder.cache = False` trains without one; the size is foretold before a byte is "
    f"written, and refused where the disk is too small. Pseudo-labels stay small: {stored['pseudo-labels'] / 1e9:,.0f} GB, in "
    "shards that processes share.\n\n"
    f"**Then the CPU cores.** A GPU that reaches {100 * plan.REACHED[many.encoder]:.0f} % of its peak in {many.encoder} embeds "
    f"{pace:,.0f} photos a second, and decoding them takes {cores:.1f} cores of the kind that this page was built on. Where fewer "
    "stand beside it, photos should be stored at the size they are used in.\n\n"
    "**Then the batch.** A step of so few images is short: launching its operators takes "
    f"{1e3 * cost.operators * plan.LAUNCH:.1f} ms on any number of GPUs, and no more of them can share it than it has images.\n\n"
    "**Never the memory of the trained part.** From cached embeddings a training step holds "
    + ", ".join(f"{gigabytes:.1f} GB ({name}, batch {WORK[name].batch_size})" for name, gigabytes in memory.items())
    + ": counted from the tensors that the backward pass keeps, in float32, with momentum and gradients."
)

# %% [markdown]
# ## Fewer bits
#
# Two things are rounded more coarsely than they need be. Profiles at the paper's scale keep patch embeddings as int8
# codes, with a range for each channel, in half the bytes of fp16 (`encoder.cache_type`); the small profiles keep fp16.
# And on a GPU, frozen networks compute in bf16 (`encoder.precision`, `pseudo_labels.precision`). What that costs was
# measured by training TeD-Loc from each cache, with one seed and the same pseudo-labels, and by making CLIP-ES's maps
# of the validation images in both precisions.

# %% tags=["remove-input"]
report.plain_table(
    bits.caches(),
    f"TeD-Loc trained from either cache, on the test split. Stored results of: {bits.commands()}.",
    decimals=2,
    provenance=bits.provenance(),
)

# %% tags=["remove-input"]
report.plain_table(
    bits.teachers(),
    "CLIP-ES in bf16 beside float32: how the maps of the validation images correlate, and what each scores.",
    decimals={name: 4 for name in bits.teachers() if "correlation" in name},
    provenance=bits.provenance(),
)
