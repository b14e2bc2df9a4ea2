"""Checks of the paper's localization numbers: Tables 1, 2, 4 and 5, and what the text says of them.

Each returns a ``Finding``; the rules they apply are in ``tedloc.audit.rules``.
"""

from tedloc import paper
from tedloc.audit.rules import (
    CONSISTENT,
    CUB_TEST_IMAGES,
    IMPOSSIBLE,
    IN_PART,
    MISLABELLED,
    PERMUTED,
    REFUTED,
    SLACK,
    UNDECIDED,
    Finding,
    accuracy_bounds,
    against_published,
    attainable,
    broken_order,
    gains,
    localization,
    mended,
    number_text,
    permuted_rows,
    with_accuracy,
)
from tedloc.paper import DATASETS, METRICS


def order_of_metrics() -> Finding:
    broken = broken_order(localization(1))
    shown = "; ".join(
        f"{row} on {dataset}: Top-1 Loc {paper.value(1, row, 'Top-1 Loc', dataset)} > MaxBoxAcc "
        f"{paper.value(1, row, 'MaxBoxAcc', dataset)}"
        for row, dataset in broken
    )
    others = [where for number in (4, 5) for where in broken_order(localization(number))]
    return Finding(
        "Every row of Tables 1, 4 and 5 can be a measurement: Top-1 Loc ≤ Top-5 Loc ≤ MaxBoxAcc",
        IMPOSSIBLE if broken or others else CONSISTENT,
        shown or "the order holds in every row",
        "two comparison rows cannot stand as printed; no row of TeD-Loc is concerned" if broken else "nothing",
    )


def permuted() -> Finding:
    shown = []
    for row, dataset in permuted_rows():
        ours = " | ".join(str(paper.value(1, row, metric, dataset)) for metric in METRICS)
        theirs = " | ".join(str(paper.own_value(row, metric, dataset)) for metric in METRICS)
        shown.append(f"{row} {dataset}: printed {ours}, its repository {theirs}")
    return Finding(
        "Table 1 quotes each compared method in the order MaxBoxAcc | Top-1 Loc | Top-5 Loc",
        PERMUTED if shown else CONSISTENT,
        "; ".join(shown) or "no row holds its published numbers in another order",
        "TS-CAM and SCM localise better on CUB than Table 1 says (MaxBoxAcc) and classify worse (Top-1 Loc)",
    )


def about_five_points() -> Finding:
    printed, right = gains(localization(1)), gains(mended())
    text = ", ".join(f"{d}: +{right[d][0]} over {right[d][1]}" for d in DATASETS)
    holds = all(4.5 <= lead <= 5.5 for lead, _ in right.values())
    lead, rival = printed["CUB"]
    return Finding(
        "Top-1 Loc improves by about 5 % on CUB and on ILSVRC (abstract)",
        CONSISTENT if holds else IMPOSSIBLE,
        f"with the permuted rows mended: {text}; with Table 1 as printed, only +{lead} on CUB, over {rival}",
        "the claim is right, in percentage points, and Table 1 as printed would contradict it",
    )


def first_everywhere() -> Finding:
    table = mended()
    best = {(d, m): table[table["dataset"] == d].set_index("row")[m].idxmax() for d in DATASETS for m in METRICS}
    others = {key: row for key, row in best.items() if row != "TeD-Loc"}
    return Finding(
        "TeD-Loc is best in every column of Table 1",
        CONSISTENT if not others else IMPOSSIBLE,
        f"first in {len(best) - len(others)} of {len(best)} columns once the permuted rows are mended",
        "the ranking's top is unaffected by the errors found here",
    )


def ts_cam_in_tables_3_and_6() -> Finding:
    printed = {paper.value(number, "TS-CAM", "Top-1 Loc", "CUB") for number in (3, 6)}
    theirs = {metric: paper.own_value("TS-CAM", metric, "CUB") for metric in METRICS}
    source = next((name for name, value in theirs.items() if {value} == printed), "no")
    lead = paper.value(3, "TeD-Loc", "Top-1 Loc", "CUB")
    return Finding(
        "TS-CAM's Top-1 Loc on CUB in Tables 3 and 6",
        CONSISTENT if source == "Top-1 Loc" else MISLABELLED,
        f"printed {', '.join(map(str, sorted(printed)))}, which is its {source}; its Top-1 Loc is "
        f"{theirs['Top-1 Loc']}",
        f"TeD-Loc's lead over TS-CAM on CUB is {lead - theirs['Top-1 Loc']:.1f} points, not the "
        f"{lead - max(printed):.1f} that the tables suggest: the error is to TeD-Loc's own disadvantage",
    )


def other_differences() -> Finding:
    table = against_published()
    own = table[(table["kind"] != "conference")]
    apart = own[own["reading"] == "differs"]
    cut = own[own["reading"] == "cut off"]
    shown = [f"{r.method} {r.dataset} {r.column} {r.printed} for {r.published}" for r in apart.itertuples()]
    largest = (apart["printed"] - apart["published"]).abs().max()
    return Finding(
        "Table 1's other rows repeat what the methods report",
        CONSISTENT if len(apart) == 0 or largest <= 0.5 else MISLABELLED,
        f"of {len(own)} numbers {len(own[own['reading'].isin(['same', 'rounded'])])} agree, {len(cut)} "
        f"have decimals cut off instead of rounded ({', '.join(sorted(set(cut['method'])))}), "
        f"{len(apart)} differ by at most {largest:.1f}: {'; '.join(shown)}",
        "nothing: the differences are far below the gaps between methods",
    )


def da_wsol() -> Finding:
    theirs = {dataset: paper.own_value("DA-WSOL", "Top-1 Loc", dataset) for dataset in DATASETS}
    ours = {dataset: paper.value(1, "DA-WSOL", "Top-1 Loc", dataset) for dataset in DATASETS}
    return Finding(
        "DA-WSOL's row comes from its TPAMI 2024 version",
        UNDECIDED,
        "; ".join(f"{d}: Top-1 Loc printed {ours[d]}, CVPR 2022 {theirs[d]}" for d in DATASETS)
        + "; the TPAMI article was not read",
        "nothing: in either version the row is far from the top",
    )


def bas_version() -> Finding:
    table = against_published().query("method == 'BAS'")
    near = table.assign(gap=(table["printed"] - table["published"]).abs()).groupby("kind")["gap"].max()
    match = near.idxmin()
    return Finding(
        "BAS's row is that of reference [5], the CVPR 2022 paper",
        CONSISTENT if match == "conference" else MISLABELLED,
        f"largest distance to the CVPR version {near['conference']:.2f}, to the IJCV version "
        f"{near['journal']:.2f}; Table 1 itself says IJCV",
        "only the reference is out of date; with InceptionV3 the two versions are within 2.4 points",
    )


def swapped_backbones() -> Finding:
    table = paper.backbones()
    swapped = (table["classifier_printed"] == table["localizer_published"]) & (
        table["localizer_printed"] == table["classifier_published"]
    )
    return Finding(
        "Table 1 names the backbone that classifies (CL) and the one that localises (Loc)",
        MISLABELLED if swapped.any() else CONSISTENT,
        f"for {', '.join(table['method'][swapped])} the two are exchanged: EfficientNet-B7 classifies, as "
        "section 4.3 of the paper says for GenPromp",
        "nothing: only the two headings are exchanged",
    )


def clip_es_row() -> Finding:
    table = with_accuracy().query("row == 'CLIP-ES'").set_index("dataset")
    below = table["Top-1 Loc"] + SLACK < table["low"]
    shown = "; ".join(
        f"{d}: MaxBoxAcc {table.loc[d, 'MaxBoxAcc']} and CL {table.loc[d, 'CL']} force Top-1 Loc ≥ "
        f"{table.loc[d, 'low']:.1f}, printed {table.loc[d, 'Top-1 Loc']}"
        for d in DATASETS
    )
    return Finding(
        "The CLIP-ES row describes one system (the text announces two rows, ground-truth and predicted class)",
        IMPOSSIBLE if below.any() else CONSISTENT,
        shown,
        "where the predicted class is the true one both variants draw the same map, so these numbers "
        "come from different class scores or thresholds; a CLIP-ES row to compare with is missing",
    )


def tedloc_within_bounds() -> Finding:
    table = with_accuracy().query("row != 'CLIP-ES'")
    inside = table["Top-1 Loc"].between(table["low"] - SLACK, table["high"] + SLACK)
    shown = "; ".join(
        f"{r['row']} {r['dataset']}: {r['low']:.1f} ≤ {r['Top-1 Loc']} ≤ {r['high']:.1f}" for _, r in table.iterrows()
    )
    return Finding(
        "TeD-Loc's MaxBoxAcc, CL and Top-1 Loc fit together",
        CONSISTENT if inside.all() else IMPOSSIBLE,
        shown,
        "TeD-Loc's own numbers pass; on CUB Top-1 Loc lies on its lower bound, which is no surprise "
        "where only 1.3 % of the images are not localised",
    )


def class_scores_of_clip_variants() -> Finding:
    shown, apart = [], []
    for row in ("SCLIP", "NACLIP"):
        for dataset in DATASETS:
            _, high = accuracy_bounds(*(paper.value(4, row, metric, dataset) for metric in METRICS[:2]))
            clip = paper.claimed("CLIP-ES", "CL", dataset)
            shown.append(f"{row} {dataset}: CL ≤ {high:.1f}, CLIP's is {clip}")
            apart.append(high + SLACK < clip)
    return Finding(
        "Table 4 compares maps of SCLIP and NACLIP under CLIP's own classification",
        MISLABELLED if all(apart) else CONSISTENT if not any(apart) else UNDECIDED,
        "; ".join(shown),
        "their class scores are not the plain CLIP's (probably taken from the altered last block), so "
        "Top-1 and Top-5 Loc of these rows understate what CLIP's own class token would give; MaxBoxAcc "
        "is not touched",
    )


def better_than_g() -> Finding:
    lines = []
    for dataset in DATASETS:
        for metric in METRICS:
            lines.append(
                (
                    dataset,
                    metric,
                    paper.value(4, "TeD-Loc", metric, dataset) - paper.value(1, "TeD-Loc", metric, dataset),
                )
            )
    ahead = sum(gap > 1e-9 for *_, gap in lines)
    behind = [f"{d} {m} {gap:+.1f}" for d, m, gap in lines if gap < -1e-9]
    level = [f"{d} {m}" for d, m, gap in lines if abs(gap) < 1e-9]
    return Finding(
        "Localizing by ⟨z_p, t_y⟩ gave relatively better performance than by g (B.1)",
        CONSISTENT if ahead == len(lines) else IN_PART,
        f"better in {ahead} of {len(lines)} numbers, level in {', '.join(level) or 'none'}, worse in "
        f"{', '.join(behind) or 'none'}",
        "the gain is on ILSVRC, and the true class y is given to the map, which g does not need: the "
        "comparison favours the anchors",
    )


def losses_add_up() -> Finding:
    rows = paper.printed_table(2)["value"].tolist()
    return Finding(
        "Each loss adds to MaxBoxAcc on CUB (Table 2)",
        CONSISTENT if rows == sorted(rows) and len(set(rows)) == len(rows) else IMPOSSIBLE,
        " < ".join(map(str, rows)) + "; one run each, without spread",
        "what seeds would add is shown in the loss ablation chapter on data that can be run here",
    )


def tables_agree() -> Finding:
    repeated = [
        ((3, row, column), (6, row, column))
        for column in ("Parameters", "Inference time")
        for row in ("TS-CAM", "GenPromp", "TeD-Loc")
    ]
    repeated += [
        ((1, row, "Top-1 Loc", dataset), (number, row, "Top-1 Loc", dataset))
        for number in (3, 6)
        for row in ("GenPromp", "TeD-Loc")
        for dataset in DATASETS
    ]
    repeated += [((1, "TeD-Loc", metric, "CUB"), (5, "with orthogonalization", metric, "CUB")) for metric in METRICS]
    repeated.append(((1, "TeD-Loc", "MaxBoxAcc", "CUB"), (2, "L_KD + P_CL + I_CL", "MaxBoxAcc", "CUB")))
    pairs = [(paper.value(*one), paper.value(*other)) for one, other in repeated]
    text = paper.stated().query("section == '4.2'")
    for claim in text.itertuples():
        table = 2 if claim.row.startswith("L_KD") else 1
        if claim.column in METRICS:
            pairs.append((float(claim.value), paper.value(table, claim.row, claim.column, claim.dataset)))
    apart = [pair for pair in pairs if pair[0] != pair[1]]
    return Finding(
        "The tables agree with each other and with the text of section 4.2",
        CONSISTENT if not apart else MISLABELLED,
        f"{len(pairs) - len(apart)} of {len(pairs)} repeated numbers are equal",
        "nothing: no slip between tables and text",
    )


def counts_over_the_test_set() -> Finding:
    without = paper.printed().query("table == '5' and row == 'without orthogonalization'")["value"]
    clip = paper.stated().query("row == 'CLIP-ES' and column == 'CL' and dataset == 'CUB'")["value"]
    numbers = [*without, *clip]
    rounded, cut = zip(*(attainable(number, CUB_TEST_IMAGES) for number in numbers), strict=True)
    return Finding(
        f"The two-decimal percentages on CUB are counts over its {number_text(CUB_TEST_IMAGES)} test images",
        CONSISTENT if all(cut) or all(rounded) else IMPOSSIBLE,
        f"{', '.join(numbers)}: {sum(rounded)} of {len(numbers)} can be rounded shares, {sum(cut)} of "
        f"{len(numbers)} shares with further decimals cut off",
        "the paper cuts decimals off instead of rounding: nothing beyond 0.1 points",
    )


def clip_es_rows() -> Finding:
    rows = [row for row in paper.printed_table(1)["row"].unique() if row.startswith("CLIP-ES")]
    return Finding(
        "Table 1's first two rows are CLIP-ES with true and with predicted class (caption, 4.1)",
        CONSISTENT if len(rows) == 2 else MISLABELLED,
        f"there is {len(rows)} row",
        "the teacher's fair row, with the predicted class, is missing",
    )


def dips_row() -> Finding:
    missing = "DiPS" not in set(paper.printed_table(1)["row"]) and any("DiPS" in q for q in paper.quotes("baselines"))
    return Finding(
        "TeD-Loc is compared with DiPS (4.1)",
        REFUTED if missing else CONSISTENT,
        "DiPS is named among the baselines and stands in no table",
        "the authors' own earlier method is not in the comparison",
    )


def bird_prompt() -> Finding:
    gain = paper.claimed("CLIP-ES", 'MaxBoxAcc gain of the prompt "bird"', "CUB")
    box, ours = (paper.value(1, row, "MaxBoxAcc", "CUB") for row in ("CLIP-ES", "TeD-Loc"))
    return Finding(
        "With the one class “bird”, CLIP's MaxBoxAcc on CUB rises by 4 %",
        UNDECIDED,
        f"no table holds it; {box} + {gain:.0f} = {box + gain:.1f} would be {ours - box - gain:.1f} "
        "points below TeD-Loc",
        "if so, most of TeD-Loc's MaxBoxAcc on CUB is within reach of a teacher that knows only “bird”",
    )


def table_findings() -> list[Finding]:
    """All findings of this module, in the chapter's order."""
    checks = (
        order_of_metrics,
        permuted,
        about_five_points,
        first_everywhere,
        ts_cam_in_tables_3_and_6,
        other_differences,
        da_wsol,
        bas_version,
        swapped_backbones,
        clip_es_row,
        clip_es_rows,
        dips_row,
        tedloc_within_bounds,
        class_scores_of_clip_variants,
        better_than_g,
        losses_add_up,
        bird_prompt,
        tables_agree,
        counts_over_the_test_set,
    )
    return [check() for check in checks]
