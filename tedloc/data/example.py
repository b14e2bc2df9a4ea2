"""A folder of photos to try things on: pictures of the aviary, one folder a species, and a COCO file of boxes.

    python -m tedloc.data example photos

It looks as people's folders look: more photos than boxes (a box takes time to draw), no splits, no lists.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tedloc.data import aviary
from tedloc.data.aviary_drawing import render
from tedloc.errors import UserError

SPECIES = tuple(aviary.bird_name(bird) for bird in aviary.SPECIES[::4])  # one of each family
BOXED = 0.4  # share of a species' pictures that have boxes


def write(folder: Path, per_class: int = 12) -> None:
    """Write the pictures, ``per_class`` of each of ``SPECIES``, and ``boxes.json``.

    Raises ``UserError`` when the folder is there already, or there would be too few for three splits.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already; choose another place")
    if per_class < 5:
        raise UserError(f"{per_class} pictures of a species are too few for train, val and test; give 5 or more")
    birds = aviary.open("train", per_class=per_class, classes=list(SPECIES))
    entries, annotations = [], []
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".example-") as aside:
        scratch = Path(aside, folder.name)
        for i, label in enumerate(birds.labels):
            name = f"{SPECIES[label].replace(' ', '_')}/{i:04d}.png"
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(birds.image(i)).save(scratch / name)
            if i % per_class >= BOXED * per_class:
                continue
            x0, y0, x1, y1 = (int(edge) for edge in birds.boxes[i][0])
            width, height = (int(side) for side in birds.sizes[i])
            entries.append({"id": i, "file_name": name, "width": width, "height": height})
            box = {"image_id": i, "category_id": int(label), "bbox": [x0, y0, x1 - x0 + 1, y1 - y0 + 1]}
            annotations.append({"id": len(annotations)} | box)
        categories = [{"id": label, "name": name} for label, name in enumerate(SPECIES)]
        content = {"images": entries, "annotations": annotations, "categories": categories}
        (scratch / "boxes.json").write_text(json.dumps(content, indent=1))
        os.replace(scratch, folder)


def without_bird(count: int, seed: int = 0) -> list[np.ndarray]:
    """Scenes of the aviary, (80, 80, 3) uint8, in which there is no bird."""
    return [render(f"{seed}/empty/{n}", None).image for n in range(count)]
