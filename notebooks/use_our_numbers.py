# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Use our numbers
#
# Every run behind the verdicts is kept with the package: what it found on each test image, its metrics, and the claims
# that were decided from them. All of it is one file of CSV tables,
# {download}`tedloc-results.zip </_static/tedloc-results.zip>`, under the MIT licence; please cite the paper and this
# companion. In a checkout, `python -c "from tedloc.book import archive; print(archive.ready())"` makes the same file.

# %% tags=["parameters"]
profile = "smoke"

# %% tags=["remove-input"]
import zipfile

import pandas as pd
from IPython.display import display

from tedloc.book import archive, report

file = archive.ready()

# %% [markdown]
# ## In ten lines
#
# Which method is right on which images? Here, as a share of the test images in percent, TeD-Loc and CAM in each world of
# drawn birds, and how often one of them is right where the other is wrong. `file` is the path of the downloaded file;
# beside it, it takes `import zipfile` and `import pandas as pd`.

# %%
# Both methods on every test image of every world, with the profile's own settings.
with zipfile.ZipFile(file) as stored:
    runs = pd.read_csv(stored.open("runs.csv"))
    images = pd.read_csv(stored.open("images.csv"))
usual = runs[(runs.profile == "aviary") & (runs.changes == "{}")]
chosen = usual[(usual.method + "/" + usual.route).isin(["tedloc/g", "cam/true"])]
both = images.merge(chosen[["run", "route", "method", "world"]])
right = both.pivot(index=["world", "image"], columns="method")["correct@0.5"] > 0
right["TeD-Loc alone"] = right.tedloc & ~right.cam
right["CAM alone"] = right.cam & ~right.tedloc
table = (100 * right.groupby("world").mean()).round(1)
table

# %% tags=["remove-input"]
assert len(table) > 1 and table.notna().all(axis=None)
for name, columns in archive.SCHEMA.items():
    frame = pd.Series(columns).to_frame("meaning").rename_axis("column")
    display(report.plain_table(frame, f"The columns of {name}."))
