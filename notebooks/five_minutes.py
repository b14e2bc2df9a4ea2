# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # In five minutes
#
# For those who will read nothing else: what is asked, what TeD-Loc does, what of the paper's claims holds here, and what
# nobody can tell yet.

# %% tags=["parameters"]
profile = "smoke"

# %% tags=["remove-input", "reads-other-chapters"]
import html
import re

import matplotlib.pyplot as plt
from IPython.display import HTML, Markdown
from myst_nb import glue

from tedloc import plots
from tedloc.book import embedded, findings, first_page, report

plots.use_style()

# %% tags=["reads-other-chapters"]
# What the chapters found on drawn birds and on real photos; nothing is computed here.
found = findings.at_hand(profile)
sentences, claims = first_page.sentences(found), first_page.verdicts(found)

# %% tags=["remove-input"] mystnb={"image": {"alt": "Share of right boxes on drawn birds and on real photos: TeD-Loc in blue, below it its teacher, a classifier's map, the best other method, and the best box that sees no image."}}
drawn = first_page.figure(found)
plt.show()

# %% tags=["remove-input"]
Markdown("\n\n".join(sentences))

# %% [markdown]
# ## How it works
#
# 1. **A frozen encoder** cuts the picture into patches and describes each by a vector. It is never trained here.
# 2. **A teacher's map**, a class activation map that was told the true class, is split by Otsu's threshold; a few of its
#    brightest pixels count as object and a few of its darkest as ground, others at every step.
# 3. **A small decoder** refines the patches. One classifier, $g$, learns from these pixels what is object. Its map is
#    the localization, and needs no class.
# 4. **Anchors**: the text of every class name, made orthogonal to all others and then fixed. Patches of the object are
#    drawn to the anchor of their class; the mean of the patches that $g$ takes for the object, compared with all anchors,
#    names the picture.
#
# [The method](method.ipynb) has the equations with the code beside them.
#
# ## What holds
#
# Each claim is judged by one rule, fixed before the results ([How we judge](how_we_judge.ipynb)); a difference that may be
# chance is not decided. [What holds](what_holds.ipynb) has every claim with its evidence.

# %% tags=["remove-input"]
SHADES = {report.label(holds): report.colour(holds) for holds in (True, False, None)}
verdict_table = report.plain_table(claims, "The paper's main claims, and what became of them here.", colours=SHADES)
verdict_table

# %% [markdown]
# ## What to keep in mind
#
# - **Drawn birds** are made to pose the question: species differ in one small part. There a classifier's map is misled on
#   purpose, and TeD-Loc's gain over its teacher is large. {doc}`Real photos <imagenette-small/real_photos>` ask the same
#   question with a far better teacher.
# - **Boxes that see no image** come close to some methods wherever objects are large and central. Every table has them.
# - **The decoder is not in the paper**, nor are the numbers of samples and the weights of the losses: ours are chosen on
#   validation images. A difference from the paper may be the choice's.
# - **Other methods** are written anew from their formulas on the same frozen encoder; a published system may do better.
#
# ## Where to go next
#
# | you want | page |
# |:--|:--|
# | the tables | [Main results](main_results.ipynb), and {doc}`on real photos <imagenette-small/main_results>` |
# | to see it work on a picture of yours | [Try it](try_it.ipynb) |
# | to run it | {doc}`Reproduce it <../reproduce>`, {doc}`Your data <../your_data>` |
# | to score your own maps | {doc}`The evaluator in your code <../evaluator>` |
# | to know what is wrong with the paper's numbers | [Audit](audit.ipynb) |
# | what none of this can tell | {doc}`Limits <../limits>` |

# %% tags=["remove-cell"]
# For the book's first page.
alt = "Share of right boxes on drawn birds and on real photos: " + "; ".join(
    f"{first_page.KINDS[name]}: "
    + ", ".join(
        f"{first_page.ROLES[role]} {value['mean']:.0f} %" for role, value in first_page.best(each["results"]).items()
    )
    for name, each in first_page.at_hand(found).items()
)
wide, narrow = (embedded.picture(plots.picture(each)) for each in (drawn, first_page.figure(found, stacked=True)))
on_phone = f'<source media="(max-width: 600px)" srcset="{narrow}">'
sheet = f'<picture>{on_phone}<img class="sheet" alt="{html.escape(alt)}" src="{wide}"></picture>'
glue("first-figure", HTML(sheet), display=False)
plt.close("all")
strong = [re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(each)) for each in sentences]
glue("first-sentences", HTML("".join(f"<p>{each}</p>" for each in strong)), display=False)
glue("first-verdicts", verdict_table, display=False)
