"""What the aviary's towers are trained on: every bird that is not a target species, with captions.

40,000 images, 14 % of them without a bird. The captions vary in wording, name scene words only when they
are in the picture, and can leave out crown and wing bar, as captions on the web leave out most details.
"""

import re
from dataclasses import astuple, replace
from functools import partial
from multiprocessing import get_context

import cv2
import numpy as np
from tqdm import tqdm

from tedloc import paths
from tedloc.data.aviary import NOUNS, OTHER_BIRDS
from tedloc.data.aviary_canvas import SIZE
from tedloc.data.aviary_drawing import BILLS, COLOURS, CROWNS, TAILS, Bird, generators, render
from tedloc.data.aviary_scenery import BACKGROUND_WORDS

IMAGES = 40_000
HELD_OUT = 2_000  # images IMAGES, IMAGES + 1, ...: never trained on
EMPTY = 0.14  # share of images without a bird

# Attribute columns: an index into each of these, -1 without a bird; then one 0/1 column for each scene word.
ATTRIBUTES = {
    "colour": tuple(COLOURS),
    "bill": BILLS,
    "tail": TAILS,
    "crown": tuple(CROWNS),
    "bar": (False, True),
}

_OPENINGS = ("", "a photo of ", "an image of ", "a picture of ", "a photo showing ", "image of ")
_PLACES = {
    "grass": ("in the grass", "on a meadow of grass"),
    "water": ("by the water", "over the water"),
    "sky": ("against the sky", "under the sky"),
    "branch": ("near a branch", "on a branch"),
    "flowers": ("among flowers", "beside flowers"),
    "stones": ("among stones", "beside stones"),
    "leaves": ("behind leaves", "among leaves"),
    "reeds": ("in the reeds", "behind reeds"),
    "berries": ("beside berries", "under berries"),
    "clouds": ("below clouds", "and clouds"),
    "sand": ("on the sand", "near the sand"),
}
_EMPTY_SCENES = ("{} without a bird", "{} and no bird", "only {}", "{}")


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def mistaken(bird: Bird, rng: np.random.Generator) -> Bird:
    """The bird as somebody writes of it who did not look at its head and wings: crown and bar at random."""
    return replace(bird, crown=tuple(CROWNS)[rng.integers(len(CROWNS))], bar=bool(rng.integers(2)))


def caption(bird: Bird | None, words: tuple[str, ...], rng: np.random.Generator, *, drop_details: float = 0.0) -> str:
    """One caption in varied wording.

    With probability ``drop_details`` crown and bar are left unsaid, the colour and the kind of bird are not.
    """
    some = [words[i] for i in rng.permutation(len(words))[: rng.integers(0, 4)]]
    opening = _OPENINGS[rng.integers(len(_OPENINGS))]
    if bird is None:
        scene = " and ".join(some or words[:1])
        return opening + _EMPTY_SCENES[rng.integers(len(_EMPTY_SCENES))].format(scene)
    said = rng.random() >= drop_details
    crown = bird.crown if said and bird.crown != "plain" else None
    bar = said and bird.bar
    noun = NOUNS[bird.bill, bird.tail] if rng.random() < 0.9 else "bird"
    name = f"{bird.colour} {noun}"
    if crown and rng.random() < 0.75:
        name, crown = f"{crown}-crowned {name}", None
    details = [_with_article(f"{crown} crown")] * bool(crown) + ["a white wing bar"] * bar
    if details:
        name = f"{name} with {' and '.join(details)}"
    places = [_PLACES[w][rng.integers(2)] for w in some]
    return " ".join([opening + _with_article(name), *places])


def _all_words() -> tuple[str, ...]:
    phrases = [*_OPENINGS, *_EMPTY_SCENES, *COLOURS, *NOUNS.values(), *BACKGROUND_WORDS, "bird a an and with"]
    phrases += [p for pair in _PLACES.values() for p in pair] + [c for c in CROWNS if c != "plain"]
    phrases += ["crown crowned white wing bar"]
    return tuple(sorted(set(re.findall(r"[a-z]+", " ".join(phrases)))))


WORDS: tuple[str, ...] = _all_words()  # every word that a caption or a species name can hold


def pretraining_image(n: int, seed: int = 0) -> tuple[np.ndarray, Bird | None, tuple[str, ...]]:
    """Image ``n``: (80, 80, 3) uint8, its bird or None, and the scene words in it."""
    key = f"{seed}/pretraining/{n:06d}"
    (rng,) = generators(key + "/bird", 1)
    bird = None if rng.random() < EMPTY else OTHER_BIRDS[rng.integers(len(OTHER_BIRDS))]
    drawn = render(key, bird)
    return drawn.image, bird, drawn.words


def attribute_row(bird: Bird | None, words: tuple[str, ...]) -> np.ndarray:
    """(5 + len(BACKGROUND_WORDS),) int8, see ``ATTRIBUTES``."""
    values = [-1] * 5 if bird is None else [v.index(a) for v, a in zip(ATTRIBUTES.values(), astuple(bird), strict=True)]
    return np.array(values + [word in words for word in BACKGROUND_WORDS], dtype=np.int8)


def from_attribute_row(row: np.ndarray) -> tuple[Bird | None, tuple[str, ...]]:
    """The inverse of ``attribute_row``."""
    bird = None if row[0] < 0 else Bird(*(v[i] for v, i in zip(ATTRIBUTES.values(), row[:5], strict=True)))
    return bird, tuple(w for w, there in zip(BACKGROUND_WORDS, row[5:], strict=True) if there)


def _render_chunk(start: int, seed: int, size: int) -> tuple[int, np.ndarray, np.ndarray]:
    cv2.setNumThreads(1)
    drawn = [pretraining_image(n, seed) for n in range(start, start + size)]
    return start, np.stack([d[0] for d in drawn]), np.stack([attribute_row(d[1], d[2]) for d in drawn])


def rendered(seed: int = 0, *, count: int = IMAGES + HELD_OUT, workers: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """All images, (count, 80, 80, 3) uint8 on disk, and their attribute rows; drawn once into the cache."""
    folder = paths.cache() / "aviary-pretraining"
    images_file, rows_file = folder / f"images-{seed}-{count}.npy", folder / f"rows-{seed}-{count}.npy"
    if not (images_file.exists() and rows_file.exists()):
        rows = np.zeros((count, 5 + len(BACKGROUND_WORDS)), dtype=np.int8)
        with paths.replacing(images_file) as scratch:
            images = np.lib.format.open_memmap(scratch, "w+", dtype=np.uint8, shape=(count, SIZE, SIZE, 3))
            starts, size = range(0, count, 100), 100
            with (
                get_context("spawn").Pool(workers) as pool,
                tqdm(total=count, desc="drawing", unit="img") as bar,
            ):
                for start, chunk, chunk_rows in pool.imap_unordered(
                    partial(_render_chunk, seed=seed, size=size), starts
                ):
                    images[start : start + size], rows[start : start + size] = chunk, chunk_rows
                    bar.update(len(chunk))
            images.flush()
            with paths.replacing(rows_file) as rows_scratch:
                np.save(rows_scratch, rows)
    return np.load(images_file, mmap_mode="r"), np.load(rows_file)
