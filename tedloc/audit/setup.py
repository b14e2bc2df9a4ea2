"""Checks of what surrounds the paper's localization numbers: cost, data, protocol, anchors, references.

Each returns a ``Finding`` (``tedloc.audit.rules``). Code cannot read a figure; a finding that rests on one says so.
"""

import numpy as np
import pandas as pd
import torch

from tedloc import paper
from tedloc.anchors import coherence, mean_abs_cosine, orthogonalise, welch_bound
from tedloc.audit.rules import CONSISTENT, IMPOSSIBLE, IN_PART, MISLABELLED, REFUTED, UNDECIDED, Finding, number_text

TERA, GIGA = 1e12, 1e9
METHODS = ("TS-CAM", "GenPromp", "TeD-Loc")


def _interval(value: float, decimals: int) -> tuple[float, float]:
    """What a printed number may stand for, rounded or cut off."""
    unit = 10.0**-decimals
    return value - unit / 2, value + unit


def steps_behind(total: float, fixed: float, step: float) -> list[int]:
    """Numbers of steps m for which fixed (T) + step (G) * m can be printed as total (T)."""
    low, high = (np.array(_interval(total, 2)) - np.array(_interval(fixed, 1))[::-1]) * TERA
    return [m for m in range(1, 100) if low <= step * GIGA * m <= high]


def flops_row() -> Finding:
    m = {
        name: steps_behind(
            paper.value(6, "GenPromp", name),
            paper.value(6, "TeD-Loc", name),
            paper.value(6, "TeD-Loc", f"{name} per step"),
        )
        for name in ("FLOPs", "MACs")
    }
    same = m["FLOPs"] == m["MACs"] and len(m["FLOPs"]) == 1
    return Finding(
        "Table 6: TeD-Loc takes 3.7T + 741.5G × m FLOPs, m being the number of steps",
        MISLABELLED if same else UNDECIDED,
        f"TeD-Loc has no steps; the formula gives GenPromp's own 5.16T FLOPs for m = {m['FLOPs']} and its "
        f"2.57T MACs for m = {m['MACs']}, and for no other m",
        "both rows are GenPromp's; TeD-Loc's FLOPs are not reported. Counted in the complexity chapter, "
        "they are far below: the conclusion stands, and is stronger than printed",
    )


def two_flops_a_mac() -> Finding:
    pairs = [
        ("TS-CAM", "FLOPs", "MACs"),
        ("GenPromp", "FLOPs", "MACs"),
        ("TeD-Loc", "FLOPs", "MACs"),
        ("TeD-Loc", "FLOPs per step", "MACs per step"),
    ]
    ratios = [paper.value(6, row, flops) / paper.value(6, row, macs) for row, flops, macs in pairs]
    return Finding(
        "FLOPs are twice the MACs in Table 6",
        CONSISTENT if all(abs(ratio - 2) < 0.06 for ratio in ratios) else IMPOSSIBLE,
        "ratios " + ", ".join(f"{ratio:.2f}" for ratio in ratios),
        "nothing",
    )


def genpromp_steps() -> Finding:
    most, few = (paper.claimed("GenPromp", f"{word} denoising steps") for word in ("Most", "Fewest"))
    hundred, released = (
        paper.claimed("GenPromp", "Denoising steps"),
        paper.elsewhere("genpromp steps")["value"][0],
    )
    return Finding(
        f"GenPromp iterates over {hundred:.0f} time steps (4.3); m runs from {few:.0f} to {most:.0f} (B.3)",
        MISLABELLED if released != hundred else CONSISTENT,
        f"its released inference runs {released:.0f} passes of the U-Net, at the timesteps numbered 0 and "
        "99; the printed cost is that of m = 2",
        f"the printed cost is that of two passes; the words describe {hundred / released:.0f} times as many",
    )


def genpromp_parts() -> Finding:
    names = ("classifier", "VAE", "text encoder", "U-Net")
    parts = [paper.claimed("GenPromp", f"Parameters of the {name}") for name in names]
    total = paper.value(6, "GenPromp", "Parameters")
    return Finding(
        "GenPromp's 1133.35 M parameters are the sum of its parts",
        CONSISTENT if abs(sum(parts) - total) < 0.07 else IMPOSSIBLE,
        f"{' + '.join(map(str, parts))} = {sum(parts):.2f} M, printed {total} M",
        "nothing; the complexity chapter counts the same number from the architectures",
    )


def half_the_parameters() -> Finding:
    share = paper.value(6, "TeD-Loc", "Parameters") / paper.value(6, "GenPromp", "Parameters")
    return Finding(
        "TeD-Loc has half of GenPromp's parameters (B.3)",
        CONSISTENT if abs(share - 0.5) < 0.02 else IMPOSSIBLE,
        f"{share:.3f} of them",
        "nothing",
    )


def tedloc_parameters(encoder: int) -> Finding:
    """encoder: parameters of EVA-L, counted."""
    total = paper.value(6, "TeD-Loc", "Parameters")
    return Finding(
        "TeD-Loc has 569.67 M parameters, with a ViT-EVA-L encoder and a compact head",
        UNDECIDED,
        f"the encoder has {encoder / 1e6:.1f} M, so {total - encoder / 1e6:.1f} M are decoder and g; "
        "neither is described",
        "the latency and parameter claims rest on a decoder that the text does not give",
    )


def gpus_and_times() -> Finding:
    times = {row: (paper.value(3, row, "Inference time"), paper.value(6, row, "Inference time")) for row in METHODS}
    same = all(a == b for a, b in times.values())
    gpus = [quote.split()[0].split("-")[-1] if "-" in quote else quote.split()[1] for quote in paper.quotes("gpu")]
    return Finding(
        f"Latency was measured on an {gpus[0]} (4.3) and on an {gpus[1]} (B.3)",
        MISLABELLED if same and gpus[0] != gpus[1] else CONSISTENT,
        f"all {len(times)} times are equal to the hundredth of a millisecond under both names: one is a slip",
        "which GPU it was cannot be decided, so the times compare with each other but not with other papers",
    )


def latency_elsewhere() -> Finding:
    page = paper.elsewhere("latency").set_index("row")["value"]
    printed = {row: paper.value(3, row, "Inference time") for row in METHODS}
    apart = [row for row in METHODS if abs(page[row] - printed[row]) > 1]
    return Finding(
        "TeD-Loc takes 28.31 ms an image (Tables 3 and 6)",
        UNDECIDED if apart else CONSISTENT,
        "the authors' project page, five days later: "
        + ", ".join(f"{row} {page[row]:.0f} ms" for row in METHODS)
        + "; the paper: "
        + ", ".join(f"{row} {printed[row]}" for row in METHODS),
        f"GenPromp is {printed['GenPromp'] / printed['TeD-Loc']:.1f} times as slow by the paper, "
        f"{page['GenPromp'] / page['TeD-Loc']:.1f} times by the page; faster than GenPromp either way",
    )


def ilsvrc_test_images() -> Finding:
    protocol = paper.elsewhere("protocol").query("row == 'images' and dataset == 'ILSVRC'").set_index("column")["value"]
    stated = paper.claimed("images", "test", "ILSVRC")
    return Finding(
        "ILSVRC's original validation split, 10,000 images, is the test set (4.1)",
        CONSISTENT if stated == protocol["test"] else MISLABELLED,
        f"that split has {number_text(int(protocol['test']))} images; {number_text(int(protocol['val']))} "
        "is the size of the protocol's validation set (ImageNetV2)",
        "most likely a slip of the pen; had the numbers been measured on ImageNetV2 they would not "
        "compare with the other rows, and the paper alone does not exclude it",
    )


def cub_splits() -> Finding:
    stated = {split: paper.claimed("images", split, "CUB") for split in ("train", "val", "test", "all")}
    protocol = paper.elsewhere("protocol").query("row == 'images' and dataset == 'CUB'").set_index("column")["value"]
    agree = all(stated[split] == protocol[split] for split in protocol.index)
    whole = stated["train"] + stated["test"] == stated["all"]
    each = stated["val"] / paper.claimed("classes", "", "CUB")
    return Finding(
        "CUB: 11,788 images in 200 classes, 5,994 to train, 5,794 to test, 5 a class to validate",
        CONSISTENT if agree and whole and each == 5 else IMPOSSIBLE,
        f"{stated['train']:.0f} + {stated['test']:.0f} = {stated['all']:.0f}; {stated['val']:.0f} / 200 = "
        f"{each:.0f}; the benchmark's files say the same",
        "nothing",
    )


def map_resolution() -> Finding:
    side = paper.claimed("map side", "")
    protocol = paper.elsewhere("protocol").query("row == 'map side'")["value"].iloc[0]
    return Finding(
        "The common protocol is strictly adhered to (4.1), with maps evaluated at 256 × 256",
        CONSISTENT if side == protocol else REFUTED,
        f"the protocol scores on a grid of {protocol:.0f} × {protocol:.0f}",
        "boxes on the two grids differ by rounding; the protocol chapter is about such choices",
    )


def oracle_thresholds() -> Finding:
    table = paper.thresholds()
    by = {rule: ", ".join(rows["method"]) for rule, rows in table.groupby("rule")}
    return Finding(
        "Table 1: TeD-Loc does without thresholds derived from ground truth",
        REFUTED,
        "4.1 names no rule for the threshold and adopts a protocol whose MaxBoxAcc takes the best one on the test "
        "boxes, for TeD-Loc too. "
        + ". ".join(f"{rule[0].upper()}{rule[1:]}: {methods}" for rule, methods in by.items()),
        "against rows with a fixed threshold TeD-Loc has an advantage whose size the paper does not let "
        "us compute; our chapters give both rules for every method that runs here",
    )


def selected_by_boxes() -> Finding:
    chosen, _ = paper.quotes("selection")
    supervised, _ = paper.quotes("supervision")
    images = paper.claimed("images", "val", "CUB")
    return Finding(
        f"TeD-Loc learns “{supervised}” (Figure 2)",
        IN_PART,
        f"no box is in its losses, but it is “{chosen}” (section 1), and localization performance takes boxes; the "
        f"validation images of 4.1, {number_text(int(images))} on CUB, have them; which chose is not said",
        "the protocol allows it; but class labels alone do not give these numbers, and that no model is selected by "
        "its classifier means that it is selected by boxes. Our settings are chosen on validation boxes, too",
    )


def encoder_accuracy() -> Finding:
    known = paper.elsewhere("encoder accuracy").set_index("row")["value"]
    stated = paper.claimed("TeD-Loc", "CL", "ILSVRC")
    first = known[known.index.str.startswith("EVA-01")].max()
    return Finding(
        "With a frozen ViT-EVA-L (reference: EVA-01) TeD-Loc classifies 89.9 % of ILSVRC",
        UNDECIDED,
        f"timm's EVA-01-L reaches at most {first} % with its own head, fine-tuned; {known.idxmax()} "
        f"{known.max()} %; the paper states {stated} %",
        "the encoder was probably EVA-02-L or a larger input; either has seen ILSVRC's labels, none has seen boxes",
    )


def correlated_texts(classes: int, width: int, seed: int, shared: float = 1.35) -> torch.Tensor:
    """(K, d) random unit vectors with a common part, as class texts have; their mean cosine is about 0.65."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(classes, width, generator=generator, dtype=torch.float64) / width**0.5
    common = torch.randn(width, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(noise + shared * common / common.norm(), dim=1)


def anchor_coherence(
    classes: int = 1000,
    methods: tuple[str, ...] = ("none", "qr_rows", "polar"),
    widths: tuple[int, ...] = (512, 768, 1024),
    seed: int = 0,
) -> pd.DataFrame:
    """Largest and mean |cos| of anchors by orthogonaliser and text dimension, beside the Welch bound."""
    lines = []
    for width in widths:
        text = correlated_texts(classes, width, seed)
        for method in methods:
            anchors = orthogonalise(text, method)
            lines.append((width, method, coherence(anchors), mean_abs_cosine(anchors), welch_bound(classes, width)))
    return pd.DataFrame(lines, columns=["d", "orthogonaliser", "largest |cos|", "mean |cos|", "Welch bound"])


def orthogonal_anchors(classes: int = 1000) -> Finding:
    dims = paper.elsewhere("text dimension").set_index("row")["value"].astype(int)
    small = dims[dims < classes]
    cosines = anchor_coherence(classes, ("none", "qr_rows"), tuple(small)).set_index("d")
    text, table = (cosines[cosines["orthogonaliser"] == name] for name in ("none", "qr_rows"))
    fewer = text[["largest |cos|", "mean |cos|"]] / table[["largest |cos|", "mean |cos|"]]
    square, _ = torch.linalg.qr(correlated_texts(classes, int(small.max()), seed=0), mode="complete")
    outside = coherence(square) < 1e-6
    shown = "; ".join(
        f"{clip}, d = {d}: the least possible is {table.loc[d, 'Welch bound']:.3f}, rows of Q reach "
        f"{table.loc[d, 'largest |cos|']:.3f}"
        for clip, d in small.items()
    )
    return Finding(
        "The anchors of ILSVRC's 1,000 classes are orthogonal (3.1, Figure 3)",
        UNDECIDED if outside else IMPOSSIBLE,
        f"in the text's own space they cannot be: d dimensions hold d orthogonal directions; largest |cos| of "
        f"{number_text(classes)} anchors: {shown}. The paper's CLIP [22] has a ViT (Table 1), thus d ≤ {small.max()}. "
        f"But a full QR gives a square Q, whose {number_text(classes)} rows of length {number_text(classes)} are "
        "orthogonal outside that space, and the paper does not say which QR it takes",
        "what the square Q adds beyond d coordinates holds nothing of the texts. In the text's space nearly "
        "orthogonal anchors will do: on random correlated texts QR lowers the largest cosine "
        f"by a factor of {fewer.iloc[:, 0].min():.0f} to {fewer.iloc[:, 0].max():.0f} and the mean by "
        f"{fewer.iloc[:, 1].min():.0f} or more. On CUB (K = 200) orthogonality is exact in any CLIP; there the "
        "rows of Q use the first K coordinates of each text and no others",
    )


def figure_2() -> Finding:
    (quote,) = paper.quotes("figure 2 caption")
    return Finding(
        "Figure 2 and its caption show the losses of Eqs. 1 and 2",
        MISLABELLED,
        "read from the figure, not checked by code: L_KD is attached to the FG/BG classifier and P_CL to "
        f"the text similarities, swapped against the equations; and the caption says “{quote}”, where Eq. "
        "1 maximises it",
        "nothing: the equations are unambiguous in this",
    )


def references() -> Finding:
    slips = {
        "CLIP [25] is NACLIP": "clip reference",
        "NACLIP is listed twice, [25] and [34]": "naclip twice",
        "ViT [20] is a paper on video": "vit reference",
        "GenPromp is ICCV in Table 1 and CVPR in the list": "genpromp venue",
        "Grad-CAM [1] is CLIP-ES": "grad-cam reference",
    }
    found = [words for words, topic in slips.items() if len(paper.quotes(topic)) == 2]
    return Finding(
        "References point to what the text names",
        MISLABELLED if found else CONSISTENT,
        "; ".join(found),
        "nothing",
    )


def second_version() -> Finding:
    return Finding(
        "Version 2 (April 2026) adds histology and renames the losses",
        UNDECIDED,
        "only its abstract was read; it keeps the claim of about 5 %",
        "whether it mends what is listed here is not known",
    )


def setup_findings(encoder: int) -> list[Finding]:
    """All findings of this module, in the chapter's order. encoder: parameters of EVA-L, counted."""
    checks = (
        flops_row,
        two_flops_a_mac,
        genpromp_steps,
        genpromp_parts,
        half_the_parameters,
        lambda: tedloc_parameters(encoder),
        gpus_and_times,
        latency_elsewhere,
        ilsvrc_test_images,
        cub_splits,
        map_resolution,
        oracle_thresholds,
        selected_by_boxes,
        encoder_accuracy,
        orthogonal_anchors,
        figure_2,
        references,
        second_version,
    )
    return [check() for check in checks]
