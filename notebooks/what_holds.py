# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What holds
#
# Every claim of the paper that a chapter puts to a test, with its verdict in each profile. The verdicts are those
# of the chapters, read from their results when this page was made; nothing is judged anew here.
#
# A claim *holds* when the difference that it names is positive in the same sense in every seed and its 95 % interval
# over test images leaves out zero. It *does not hold* when the difference is clearly negative, and *cannot be decided
# here* otherwise; the interval says how large a difference could still hide. The words of claims are ours, and below
# each stands where the paper makes it. A verdict stands above its evidence, and is about the profile it was found in:
# synthetic birds, or small photos, seen by small encoders. It says nothing about the paper's own images, on which
# nothing was run here.

# %% tags=["parameters"]
profile = "smoke"

# %% tags=["remove-input", "reads-other-chapters"]
import pandas as pd
import torch
from IPython.display import Markdown

from tedloc.audit import rules as audit
from tedloc.audit import setup as audit_setup
from tedloc.audit import tables as audit_tables
from tedloc.book import findings, report
from tedloc.cost import complexity, full_size

computed = findings.computed(profile)
kept = {name: finding for name, finding in findings.stored().items() if name not in computed}
findings = computed | kept
order = [
    name for name in dict.fromkeys([profile, "aviary", "tiny-imagenet", *findings]) if name not in ("cub", "ilsvrc")
]
NAMES = {"aviary": "aviary (synthetic)", "tiny-imagenet": "tiny-imagenet (photos)"}
columns = {NAMES.get(name, name): [name] for name in order} | {"CUB, ILSVRC": ["cub", "ilsvrc"]}
claims = findings.claims(findings[name] for name in [*order, "cub", "ilsvrc"] if name in findings)
papers = [claim for claim in claims if not claim["own"]]
shown = set()


def show(chapter: str, caption: str = ""):
    """The paper's claims that a chapter tests."""
    shown.add(chapter)
    found = [claim for claim in papers if claim["chapter"] == chapter]
    if found:
        return findings.table(found, columns, findings, caption)
    return Markdown("*No verdict of this chapter is at hand: it was not executed in this profile.*")


# %% tags=["remove-input"]
meaningful = [name for name in order if name in findings and name != findings.SMOKE]
lines = {}
for name in [*order, "cub", "ilsvrc"]:
    if name in findings:
        counted = findings.counts(papers, name)
        lines[name] = {
            "tested": sum(counted.values()),
            **counted,
            "where the verdicts come from": findings.origin(findings[name]),
        }
    else:
        lines[name] = {
            "tested": None,
            **{report.label(holds): None for holds in (True, False, None)},
            "where the verdicts come from": report.NOT_RUN,
        }
report.table(
    pd.DataFrame.from_dict(lines, orient="index").rename_axis("profile"),
    "Claims of the paper by verdict. The smoke profile proves that everything runs; it decides nothing but what is counted "
    "without training. Stored verdicts were computed where the profile's data is, and come with the package.",
    decimals=0,
)


# %% tags=["remove-input"]
def named(holds, name: str) -> list[str]:
    return [
        claim["name"] for claim in papers if name in claim["verdicts"] and claim["verdicts"][name]["holds"] is holds
    ]


refuted = [f"- {claim} (`{name}`)" for name in meaningful for claim in named(False, name)]
everywhere = [
    claim["name"]
    for claim in papers
    if len(meaningful) > 1
    and all(name in claim["verdicts"] and claim["verdicts"][name]["holds"] for name in meaningful)
]
text = ""
if everywhere:
    text += (
        "**In every profile that was run these hold:**\n\n" + "\n".join(f"- {claim}" for claim in everywhere) + "\n\n"
    )
if refuted:
    text += "**These do not hold where they were tested:**\n\n" + "\n".join(refuted) + "\n\n"
if not meaningful:
    text = "*No profile whose numbers mean something was computed in this build, and none is stored.*"
Markdown(text or "*Of the claims tested, none is refuted, and none holds in more than one profile.*")

# %% [markdown]
# ## Why not ask CLIP
#
# Figure 1 and section 1; the chapter [The problem in one picture](problem.ipynb).

# %% tags=["remove-input"]
show("problem")

# %% [markdown]
# ## Localization and classification
#
# Table 1, its caption, and section 4.2; the chapter [Main results](main_results.ipynb).

# %% tags=["remove-input"]
show("main_results")

# %% [markdown]
# ## What each loss adds
#
# Table 2; the chapter [Loss ablation](loss_ablation.ipynb).

# %% tags=["remove-input"]
show("loss_ablation")

# %% [markdown]
# ## Orthogonal anchors
#
# Table 5 and section 3.1; the chapter [Orthogonalization](orthogonalization.ipynb).

# %% tags=["remove-input"]
show("orthogonalization")

# %% [markdown]
# ## Localizing by text alone
#
# Table 4 and appendix B.1; the chapter [Patch-anchor localization](patch_anchor_localization.ipynb).

# %% tags=["remove-input"]
show("patch_anchor_localization")

# %% [markdown]
# ## The teacher
#
# Appendix A; the chapter [Pseudo-labels](pseudo_labels.ipynb).

# %% tags=["remove-input"]
show("pseudo_labels")

# %% [markdown]
# ## Cost
#
# Section 4.3, Tables 3 and 6; the chapter [Complexity](complexity.ipynb). Operations and parameters are counted on
# architectures of full size, so these verdicts depend on no images; the times are of the machine that made the page.

# %% tags=["remove-input"]
show("complexity")

# %% [markdown]
# ## Controls of ours
#
# These claims are **not in the paper**. They guard the verdicts above: a method that does not beat a box which has
# not seen the image, or that learns as well from maps of other images, has not localised anything.

# %% tags=["remove-input"]
controls = [claim for claim in claims if claim["own"]]
findings.table(controls, columns, findings) if controls else Markdown("*No control is at hand in this profile.*")

# %% [markdown]
# ## What the paper's numbers say by themselves
#
# Some statements of the paper can be checked without running anything, against its own tables and against what the
# compared methods report. The evidence for each is in the chapter [Audit](audit.ipynb).

# %% tags=["remove-input"]
GOOD, OPEN = {audit.CONSISTENT}, {audit.UNDECIDED, audit.IN_PART}
with torch.device("meta"):
    encoder = complexity.count_parameters(full_size.PatchGrid(full_size.EVA_01, 224))
checked = audit_tables.table_findings() + audit_setup.setup_findings(encoder)
holds = {finding.word: True if finding.word in GOOD else None if finding.word in OPEN else False for finding in checked}
report.table(
    pd.DataFrame(
        {"verdict": [finding.word for finding in checked], "what follows": [finding.follows for finding in checked]},
        index=pd.Index([finding.claim for finding in checked], name="the paper says"),
    ),
    "Statements of the paper, checked by arithmetic; the same in every profile.",
    colours={word: report.colour(value) for word, value in holds.items()},
)

# %% [markdown]
# ## What no chapter tests
#
# - That methods before TeD-Loc localise best and classify best at different epochs of one training (abstract and
#   section 1): it would take a checkpoint an epoch of every method.
# - That GenPromp and TS-CAM fail on complex scenes where TeD-Loc does not (section 4.2, Figure 4): the paper shows
#   chosen images; our grids show images by rule, failures included, and claim nothing about scenes.
# - That one prompt, "bird", for all classes makes CLIP-ES localise better on CUB (section 4.2): it takes CUB and CLIP.
# - What version 2 of the paper adds: only its abstract could be read.

# %% tags=["remove-cell"]
left = {claim["chapter"] for claim in papers} - shown
assert not left, f"give these chapters a section on this page: {sorted(left)}"
