"""The aviary: pictures are a pure function of (seed, split, id), and species differ where their names say."""

import dataclasses

import numpy as np
import pytest

from tedloc.data import aviary, open_split
from tedloc.data.aviary import FAMILY_OF, NOUNS, OTHER_BIRDS, SPECIES, bird_name, tight_box
from tedloc.data.aviary_drawing import BILLS, COLOURS, CROWNS, TAILS, render
from tedloc.data.aviary_pretraining import (
    WORDS,
    attribute_row,
    caption,
    from_attribute_row,
    pretraining_image,
)
from tedloc.data.aviary_scenery import BACKGROUND_WORDS
from tedloc.errors import UserError


@pytest.fixture(scope="module")
def val():
    return open_split("aviary", "val", seed=11, per_class=4)


def test_same_seed_same_pixels_other_seed_other_pixels(val):
    image = render(f"11/{val.ids[5]}", val.birds[5]).image
    assert np.array_equal(image, val.image(5))
    assert not np.array_equal(render(f"12/{val.ids[5]}", val.birds[5]).image, image)


def test_images_are_rgb_bytes_and_masks_hold_the_bird(val):
    assert val.image(0).shape == (80, 80, 3) and val.image(0).dtype == np.uint8
    assert all(val.mask(i).dtype == bool and val.mask(i).sum() > 60 for i in range(len(val)))


def test_box_is_tight_and_inclusive(val):
    mask = np.zeros((80, 80), dtype=bool)
    mask[3:7, 10:12] = True
    assert tight_box(mask).tolist() == [10, 3, 11, 6]
    for i in range(0, len(val), 7):
        x0, y0, x1, y1 = val.boxes[i][0]
        inside = np.zeros((80, 80), dtype=bool)
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
        mask = val.mask(i)
        assert not mask[~inside].any()
        assert mask[y0].any() and mask[y1].any() and mask[:, x0].any() and mask[:, x1].any()


def test_what_the_cache_holds_is_what_was_drawn_and_is_not_drawn_again(monkeypatch):
    drawn = open_split("aviary", "val", seed=13, per_class=1)
    monkeypatch.setattr(aviary, "render", None)  # drawing again would fail
    again = open_split("aviary", "val", seed=13, per_class=1)
    assert again.fingerprint() == drawn.fingerprint()
    assert all(np.array_equal(again.image(i), drawn.image(i)) for i in range(len(drawn)))


def test_a_drawing_that_was_interrupted_starts_again(monkeypatch, tmp_path):
    monkeypatch.setenv("TEDLOC_CACHE", str(tmp_path))
    whole = open_split("aviary", "val", seed=13, per_class=1)
    (images,) = tmp_path.glob("aviary/*/images.npy")
    images.unlink()
    again = open_split("aviary", "val", seed=13, per_class=1)
    assert all(np.array_equal(again.image(i), whole.image(i)) for i in range(len(whole)))


def test_fewer_images_a_class_are_the_first_of_more(val):
    few = open_split("aviary", "val", seed=11, per_class=1)
    assert few.ids == val.ids[::4] and np.array_equal(few.boxes[3], val.boxes[12])


def test_default_sizes_and_twenty_classes():
    val = open_split("aviary", "val", seed=11, per_class=1)
    assert len(val) == 20 and np.bincount(val.labels).tolist() == [1] * 20
    assert len(set(val.class_names)) == 20
    assert val.class_names[3] == "crimson-crowned grey finch with a white wing bar"


def test_splits_share_no_id_and_no_picture():
    sets = [open_split("aviary", split, per_class=1) for split in ("train", "val", "test")]
    ids = [i for s in sets for i in s.ids]
    assert len(set(ids)) == len(ids)
    pictures = [s.image(i).tobytes() for s in sets for i in range(len(s))]
    assert len(set(pictures)) == len(pictures)


def test_chosen_classes_keep_their_order():
    names = ["azure-crowned brown wren", "golden-crowned grey finch"]
    some = open_split("aviary", "test", per_class=2, classes=names)
    assert some.class_names == names and some.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"per_class": 0}, "per_class"), ({"classes": ["dodo"]}, "unknown species 'dodo'")],
)
def test_bad_settings_are_named(settings, said):
    with pytest.raises(UserError, match=said):
        open_split("aviary", "val", **settings)


def _differs_only_in(first, second, part: str, keys) -> None:
    seen = 0
    for key in keys:
        a, b = render(key, first, parts=True), render(key, second, parts=True)
        difference = (a.image != b.image).any(2)
        assert not difference[~(a.parts[part] | b.parts[part])].any()
        assert a.words == b.words
        seen += difference.sum()
    assert seen > 0


def test_crowns_of_a_family_differ_in_the_crown_alone():
    for f in range(5):
        crimson, golden, azure, _ = (SPECIES[i] for i in np.flatnonzero(FAMILY_OF == f))
        _differs_only_in(crimson, golden, "crown", [f"pair/{f}/{k}" for k in range(3)])
        _differs_only_in(golden, azure, "crown", [f"pair/{f}/{k}" for k in range(3)])


def test_the_last_variant_of_a_family_differs_in_the_bar_alone():
    for f in range(5):
        crimson, _, _, barred = (SPECIES[i] for i in np.flatnonzero(FAMILY_OF == f))
        _differs_only_in(crimson, barred, "bar", [f"bar/{f}/{k}" for k in range(4)])


def test_two_families_differ_in_the_tail_and_two_in_the_bill_alone():
    _differs_only_in(SPECIES[0], SPECIES[4], "tail", [f"tail/{k}" for k in range(6)])
    _differs_only_in(SPECIES[8], SPECIES[12], "bill", [f"bill/{k}" for k in range(6)])


def test_part_masks_need_a_known_name(val):
    assert val.part(0, "crown").any()
    with pytest.raises(UserError, match="unknown part"):
        val.part(0, "beak")


def test_best_centred_box_finds_less_than_half():
    """A fixed box in the middle, the best over sizes, is the floor that a map must beat."""
    boxes = np.concatenate(open_split("aviary", "val", seed=11, per_class=8).boxes)
    w, h = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    best = 0.0
    for width in range(20, 81, 4):
        for height in range(16, 81, 4):
            x0, y0 = (80 - width) / 2, (80 - height) / 2
            across = np.minimum(boxes[:, 2] + 1, x0 + width) - np.maximum(boxes[:, 0], x0)
            down = np.minimum(boxes[:, 3] + 1, y0 + height) - np.maximum(boxes[:, 1], y0)
            both = across.clip(0) * down.clip(0)
            best = max(best, (both / (w * h + width * height - both) >= 0.5).mean())
    assert 0.2 < best < 0.5


def test_pretraining_shows_every_combination_but_the_targets():
    everything = len(COLOURS) * len(BILLS) * len(TAILS) * len(CROWNS) * 2
    assert len(OTHER_BIRDS) == everything - len(SPECIES)
    assert not set(OTHER_BIRDS) & set(SPECIES)
    assert len(NOUNS) == len(BILLS) * len(TAILS)


def test_pretraining_image_is_reproducible_and_some_have_no_bird():
    first, again = pretraining_image(3, seed=5), pretraining_image(3, seed=5)
    assert np.array_equal(first[0], again[0]) and first[1:] == again[1:]
    birds = [bird for _, bird, _ in (pretraining_image(n, seed=5) for n in range(60))]
    assert 0 < birds.count(None) < 30


def test_attribute_rows_can_be_read_back():
    for bird in (None, OTHER_BIRDS[0], OTHER_BIRDS[-1]):
        row = attribute_row(bird, ("grass", "sky"))
        assert from_attribute_row(row) == (bird, ("grass", "sky"))


def test_captions_hold_known_words_and_true_words():
    rng = np.random.default_rng(0)
    bird = dataclasses.replace(SPECIES[0], crown="emerald", bar=True)
    for _ in range(200):
        text = caption(bird, ("grass", "stones"), rng)
        words = text.replace("-", " ").split()
        assert set(words) <= set(WORDS)
        assert {"emerald", "grey", "bar"} <= set(words)
        assert not set(words) & (set(BACKGROUND_WORDS) - {"grass", "stones"})


def test_captions_can_leave_out_crown_and_bar():
    rng = np.random.default_rng(0)
    texts = [caption(SPECIES[3], ("sky",), rng, drop_details=0.8) for _ in range(300)]
    share = sum("crimson" in t for t in texts) / len(texts)
    assert 0.1 < share < 0.3
    assert all("grey" in t for t in texts)
    assert all(("bar" in t) == ("crimson" in t) for t in texts)


def test_species_names_and_background_words_are_in_the_vocabulary():
    for text in [bird_name(bird) for bird in SPECIES] + list(BACKGROUND_WORDS):
        assert set(text.replace("-", " ").split()) <= set(WORDS)
