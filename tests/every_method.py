"""Every method that trains, in miniature: for tests of what they have in common."""

from pathlib import Path

from tedloc import profiles
from tedloc.methods import METHODS, create
from tedloc.settings import override

SMOKE = override(profiles.get("smoke"), {"data.per_class": 1})
TRAINED = [  # every method that trains; a variant trains as its method does
    name for name in METHODS if ":" not in name and create(name, SMOKE).stages() and not create(name, SMOKE).lacks()
]
STAGES = sorted({stage for name in TRAINED for stage in create(name, SMOKE).stages()})
# two steps of 5 and 4 images, by SGD: AdamW makes whole steps of gradients that are nothing but rounding
PLAIN = {"batch_size": 9, "kind": "sgd", "learning_rate": 0.02}
EVERY = override(SMOKE, {f"{stage}.{name}": value for stage in STAGES for name, value in PLAIN.items()})


def fit(folder: Path) -> None:
    """Train each, in a folder of its own."""
    for name in TRAINED:
        (folder / name).mkdir(parents=True, exist_ok=True)
        create(name, EVERY).fit(folder / name)
