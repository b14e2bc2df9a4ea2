"""The aviary: a small synthetic stand-in for fine-grained bird data, drawn when it is first asked for.

Twenty target species: five families (plumage, bill and tail, such as "grey finch") times four variants
(crimson, golden or azure crown; crimson crown with a white wing bar). Inside a family only the crown or the
bar differs, and some families differ in the bill or the tail alone, so a classifier needs a part of a few
pixels and its map tends to miss the bird. All other combinations make up the pre-training split of the
towers (``tedloc.backbones.towers``); no target species is in it.

An image is a pure function of (seed, split, id): nothing depends on order, and what the cache keeps can be drawn again.
"""

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
from tqdm.auto import tqdm

from tedloc import paths
from tedloc.data import SPLITS, ImageSet, aviary_canvas, aviary_drawing, aviary_scenery
from tedloc.data.aviary_canvas import SIZE
from tedloc.data.aviary_drawing import BILLS, COLOURS, CROWNS, TAILS, Bird, render
from tedloc.data.aviary_scenery import BACKGROUND_WORDS as BACKGROUND_WORDS
from tedloc.errors import UserError, choose

# The noun names bill and tail together, as a birder's would.
NOUNS = {
    ("cone", "short"): "finch",
    ("cone", "fork"): "bunting",
    ("cone", "long"): "whydah",
    ("needle", "short"): "wren",
    ("needle", "fork"): "sylph",
    ("needle", "long"): "sunbird",
    ("hook", "short"): "lovebird",
    ("hook", "fork"): "drongo",
    ("hook", "long"): "parakeet",
}
FAMILIES = (  # the first two differ in the tail alone, the next two in the bill alone
    ("grey", "cone", "short"),
    ("grey", "cone", "long"),
    ("olive", "needle", "long"),
    ("olive", "hook", "long"),
    ("brown", "needle", "short"),
)
VARIANTS = (("crimson", False), ("golden", False), ("azure", False), ("crimson", True))
PER_CLASS = {"train": 100, "val": 20, "test": 30}


def bird_name(bird: Bird) -> str:
    """The name as it enters a prompt: ``crimson-crowned grey finch with a white wing bar``."""
    name = f"{bird.colour} {NOUNS[bird.bill, bird.tail]}"
    if bird.crown != "plain":
        name = f"{bird.crown}-crowned {name}"
    return f"{name} with a white wing bar" if bird.bar else name


SPECIES: tuple[Bird, ...] = tuple(Bird(*family, *variant) for family in FAMILIES for variant in VARIANTS)
FAMILY_OF = np.repeat(np.arange(len(FAMILIES)), len(VARIANTS))  # species index -> family index
OTHER_BIRDS: tuple[Bird, ...] = tuple(
    bird for c in itertools.product(COLOURS, BILLS, TAILS, CROWNS, (False, True)) if (bird := Bird(*c)) not in SPECIES
)


@dataclass(frozen=True, eq=False)
class Aviary(ImageSet):
    """One split of the target species. ``birds[i]`` tells what is drawn; ``seed`` which drawing of it.

    images: (N, 80, 80, 3) uint8; masks: (N, 80, 80) bool; both lie on the disk
    """

    birds: tuple[Bird, ...]
    seed: int
    images: np.ndarray
    masks: np.ndarray

    def _key(self, index: int) -> str:
        return f"{self.seed}/{self.ids[index]}"

    def image(self, index: int) -> np.ndarray:
        return np.array(self.images[index])

    def mask(self, index: int) -> np.ndarray:
        return np.array(self.masks[index])

    def words(self, index: int) -> tuple[str, ...]:
        """The ``BACKGROUND_WORDS`` that are in the picture."""
        return render(self._key(index), self.birds[index]).words

    def part(self, index: int, name: str) -> np.ndarray:
        """(80, 80) bool: every pixel that the visible part (crown, bar, bill or tail) touches."""
        parts = render(self._key(index), self.birds[index], parts=True).parts
        choose("part", name, parts)
        return parts[name]


def tight_box(mask: np.ndarray) -> np.ndarray:
    """(4,) int64 x0, y0, x1, y1, inclusive, of a bool mask that is not empty."""
    x, y = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([x[0], y[0], x[-1], y[-1]], dtype=np.int64)


def _drawn(keys: list[str], birds: list[Bird]) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks; drawn once, then kept in the cache until the drawing code changes."""
    digest = hashlib.sha256(repr((keys, birds)).encode())
    for module in (aviary_canvas, aviary_scenery, aviary_drawing):
        digest.update(Path(module.__file__).read_bytes())
    folder = paths.cache() / "aviary" / digest.hexdigest()[:24]
    files = [folder / "masks.npy", folder / "images.npy"]  # the last one's presence says that both are there
    if not files[-1].exists():
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock"):
            if not files[-1].exists():
                bar = tqdm(keys, desc="drawing the aviary", unit="image", delay=2, leave=False)
                drawn = [render(key, bird) for key, bird in zip(bar, birds, strict=True)]
                for file, each in zip(files, ([one.mask for one in drawn], [one.image for one in drawn])):
                    with paths.replacing(file) as scratch:
                        np.save(scratch, np.stack(each))
    masks, images = (np.load(file, mmap_mode="r") for file in files)
    return images, masks


def open(split: str, *, seed: int = 0, per_class: int | None = None, classes: list[str] | None = None) -> Aviary:
    """The split ``train``, ``val`` or ``test`` (100, 20, 30 images a species).

    seed:       another seed draws other images of the same species
    per_class:  images a species, when not the default; fewer are the first of the default's
    classes:    names of the species to keep, in this order

    Raises ``UserError`` for an unknown split or species, or a ``per_class`` below one.
    """
    choose("split", split, SPLITS)
    per_class = PER_CLASS[split] if per_class is None else per_class
    if per_class < 1:
        raise UserError(f"aviary: per_class is {per_class}; give at least one image a species")
    known = {bird_name(bird): bird for bird in SPECIES}
    names = list(known) if classes is None else list(classes)
    for name in names:
        choose("species", name, known)
    ids, labels, birds = [], [], []
    for label, name in enumerate(names):
        ids += [f"{split}/{name.replace(' ', '-')}/{n:04d}" for n in range(per_class)]
        labels += [label] * per_class
        birds += [known[name]] * per_class
    images, masks = _drawn([f"{seed}/{i}" for i in ids], birds)
    return Aviary(
        name="aviary",
        split=split,
        ids=ids,
        labels=np.array(labels, dtype=np.int64),
        boxes=[tight_box(mask)[None] for mask in masks],
        sizes=np.full((len(ids), 2), SIZE, dtype=np.int64),
        class_names=names,
        birds=tuple(birds),
        seed=seed,
        images=images,
        masks=masks,
    )
