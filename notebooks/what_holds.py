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
# When a claim *holds*, *does not hold* or *cannot be decided here* is told in [How we judge](how_we_judge.ipynb): worlds
# and images are drawn anew, and the claims of one chapter are corrected together. The words of claims are ours, and
# below each stands where the paper makes it; `tedloc/paper/claims.csv` holds the sentence itself, and what would speak
# for and against it. Below each verdict stand its evidence and what it is about: data set and worlds. It says nothing
# about the paper's own images, on which nothing was run here. Arithmetic and clocks decide a few claims without images;
# those stand in a section of their own and in no data set's count.

# %% tags=["parameters"]
profile = "smoke"

# %% tags=["remove-input", "reads-other-chapters"]
import pandas as pd
from IPython.display import Markdown

from tedloc.audit import setup as audit_setup
from tedloc.audit import tables as audit_tables
from tedloc.book import findings, report
from tedloc.cost import full_size

caption = (
    "Claims of the paper that images decide, by verdict. The smoke profile proves that everything runs, and decides "
    "nothing. Stored verdicts were computed where the profile's data is, and come with the package."
)

# %% tags=["reads-other-chapters"]
# What the other chapters of this build found, and for profiles that were not computed
# in it what the package keeps; then the paper's claims, counted by verdict.
found = findings.at_hand(profile)
columns = findings.page_columns(profile, found)
names = [name for group in columns.values() for name in group]
claims = findings.claims(found[name] for name in names if name in found)
papers = [claim for claim in claims if not claim["own"]]
report.plain_table(findings.summary(papers, found, names), caption, decimals=0)


# %% tags=["remove-input"]
shown = set()


def show(chapter: str, caption: str = ""):
    """The paper's claims that a chapter tests."""
    shown.add(chapter)
    tested = [claim for claim in papers if claim["chapter"] == chapter]
    if tested:
        return findings.claims_table(tested, columns, found, caption)
    return Markdown("*No verdict of this chapter is at hand: it was not executed in this profile.*")


decided = [name for name in names if name in found and name not in (findings.SMOKE, *findings.PAPERS)]
everywhere = [f"- {claim}" for claim in findings.everywhere(papers, decided)]
refuted = [f"- {claim} (`{name}`)" for claim, name in findings.refuted(papers, decided)]
text = ""
if everywhere:
    text += "**In every profile that was run these hold:**\n\n" + "\n".join(everywhere) + "\n\n"
if refuted:
    text += "**These do not hold where they were tested:**\n\n" + "\n".join(refuted) + "\n\n"
if not decided:
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
findings.claims_table(controls, columns, found) if controls else Markdown("*No control is at hand in this profile.*")

# %% [markdown]
# ## What the paper's numbers say by themselves
#
# Some statements of the paper can be checked without running anything, against its own tables and against what the
# compared methods report. The evidence for each is in the chapter [Audit](audit.ipynb).

# %% tags=["remove-input"]
checked = audit_tables.table_findings() + audit_setup.setup_findings(full_size.encoder_parameters())
report.plain_table(
    pd.DataFrame(
        {"verdict": [finding.word for finding in checked], "what follows": [finding.follows for finding in checked]},
        index=pd.Index([finding.claim for finding in checked], name="the paper says"),
    ),
    "Statements of the paper, checked by arithmetic; the same in every profile.",
    colours={finding.word: report.colour(finding.holds) for finding in checked},
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
