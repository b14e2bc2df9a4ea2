"""Orthogonalisers and their measures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_clip import unit_vectors

from tedloc.anchors import (
    METHODS,
    closest_pairs,
    coherence,
    cosines,
    energies,
    family_cosine,
    geometry,
    mean_abs_cosine,
    orthogonalise,
    permutation_sensitivity,
    rank,
    refusal,
    same_neighbour,
    welch_bound,
)
from tedloc.errors import UserError

shapes = st.tuples(st.integers(2, 24), st.integers(2, 24))


def alike(classes: int, width: int, seed: int = 0, spread: float = 0.3) -> torch.Tensor:
    """Class texts as CLIP gives them: unit norm, close to a common direction."""
    common, own = unit_vectors(1, width, seed + 1000), unit_vectors(classes, width, seed)
    return torch.nn.functional.normalize(common + spread * own, dim=1)


def gram(anchors: torch.Tensor) -> torch.Tensor:
    return anchors.double() @ anchors.double().T


@given(shapes, st.integers(0, 50))
@settings(deadline=None, max_examples=40)
def test_qr_rows_are_orthonormal_or_a_tight_frame(shape, seed):
    classes, width = shape
    anchors = orthogonalise(alike(classes, width, seed), "qr_rows")
    assert anchors.shape == (classes, min(classes, width)) and anchors.dtype == torch.float32
    product = gram(anchors) if classes <= width else gram(anchors.T)
    torch.testing.assert_close(product, torch.eye(min(shape), dtype=torch.float64), atol=1e-5, rtol=0)


@given(shapes, st.integers(0, 50))
@settings(deadline=None, max_examples=40)
def test_full_qr_completes_the_rows_to_an_orthonormal_set_for_any_number_of_classes(shape, seed):
    text = alike(*shape, seed)
    full, rows = orthogonalise(text, "qr_full"), orthogonalise(text, "qr_rows")
    assert full.shape == (len(text), len(text))
    torch.testing.assert_close(gram(full), torch.eye(len(text), dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(full[:, : rows.shape[1]], rows, atol=1e-5, rtol=0)


def test_beyond_the_text_space_full_qr_adds_coordinates_in_which_every_text_is_zero():
    text = alike(30, 12)
    full = orthogonalise(text, "qr_full").double()
    assert (full.T @ text.double())[12:].abs().max() < 1e-6
    assert permutation_sensitivity(text, "qr_full").rotation < 1e-5


@given(
    st.integers(2, 12),
    st.integers(12, 24),
    st.integers(0, 50),
    st.sampled_from(["qr_cols", "polar", "random"]),
)
@settings(deadline=None, max_examples=40)
def test_as_many_classes_as_dimensions_become_orthonormal_in_the_text_space(classes, width, seed, method):
    anchors = orthogonalise(alike(classes, width, seed), method)
    assert anchors.shape == (classes, width)
    torch.testing.assert_close(gram(anchors), torch.eye(classes, dtype=torch.float64), atol=1e-5, rtol=0)
    assert coherence(anchors) < 1e-5


@given(st.integers(2, 12), st.integers(0, 50))
@settings(deadline=None, max_examples=25)
def test_polar_is_the_nearest_orthonormal_set(classes, seed):
    text = alike(classes, 12, seed)
    nearest = (orthogonalise(text, "polar") - text).norm()
    for method in ("qr_cols", "random"):
        assert nearest <= (orthogonalise(text, method) - text).norm() + 1e-5
    turned = orthogonalise(text, "polar") @ orthogonalise(torch.eye(12), "random", seed)
    assert nearest <= (turned - text).norm() + 1e-5


def test_first_gram_schmidt_anchor_is_the_first_text_and_the_second_its_remainder():
    text = alike(4, 8)
    anchors = orthogonalise(text, "qr_cols")
    torch.testing.assert_close(anchors[0], text[0])
    remainder = text[1] - (text[1] @ text[0]) * text[0]
    torch.testing.assert_close(anchors[1], remainder / remainder.norm())


def test_beyond_the_dimension_qr_rows_and_polar_share_their_gram_matrix():
    text = alike(30, 12)
    rows, polar = orthogonalise(text, "qr_rows"), orthogonalise(text, "polar")
    torch.testing.assert_close(gram(rows), gram(polar), atol=1e-5, rtol=0)
    random = orthogonalise(text, "random")
    torch.testing.assert_close(gram(random.T), torch.eye(12, dtype=torch.float64), atol=1e-5, rtol=0)
    assert not torch.allclose(gram(rows), gram(random), atol=0.1)


def test_up_to_the_dimension_qr_rows_use_only_the_first_k_text_dimensions():
    text = alike(5, 12)
    other = torch.cat([text[:, :5], torch.randn(5, 7, generator=torch.Generator().manual_seed(0))], dim=1)
    torch.testing.assert_close(orthogonalise(text, "qr_rows"), orthogonalise(other, "qr_rows"))


def test_qr_cols_beyond_the_dimension_names_both_numbers_and_the_remedy():
    with pytest.raises(UserError, match="at most 12 anchors.*30 classes.*qr_rows, qr_full or polar"):
        orthogonalise(alike(30, 12), "qr_cols")


@pytest.mark.parametrize("method", ["qr_cols", "polar"])
def test_classes_of_one_name_have_no_direction_of_their_own(method):
    text = alike(4, 8)
    text[2] = text[0]
    with pytest.raises(UserError, match="share a name"):
        orthogonalise(text, method)
    assert coherence(orthogonalise(text, "qr_rows")) < 1e-6


def test_controls_know_no_text():
    text, other = alike(6, 10), alike(6, 10, seed=5)
    for method in ("random", "onehot"):
        assert torch.equal(orthogonalise(text, method), orthogonalise(other, method))
    assert not torch.equal(orthogonalise(text, "random", seed=0), orthogonalise(text, "random", seed=1))
    assert torch.equal(orthogonalise(text, "onehot"), torch.eye(6))
    assert torch.equal(orthogonalise(text, "none"), text)


@pytest.mark.parametrize("method", METHODS)
def test_anchors_are_the_same_every_time_and_leave_the_text_alone(method):
    text = alike(6, 10)
    copy = text.clone()
    assert torch.equal(orthogonalise(text, method), orthogonalise(text, method))
    assert torch.equal(text, copy)


def test_an_unknown_orthogonaliser_lists_the_known_ones():
    with pytest.raises(UserError, match="onehot, polar, qr_cols, qr_full, qr_rows, random"):
        orthogonalise(alike(3, 4), "qr")


def test_only_gram_schmidt_over_classes_depends_on_their_order():
    text = alike(8, 12)
    for method in ("none", "qr_rows", "qr_full", "polar"):
        assert max(permutation_sensitivity(text, method)) < 1e-5
    cols = permutation_sensitivity(text, "qr_cols")
    assert cols.direct > 0.1
    assert cols.rotation < 1e-5  # all orthonormal sets are rotations of each other
    assert permutation_sensitivity(text, "qr_cols") == cols


def test_controls_deal_their_vectors_out_anew_under_another_order():
    assert permutation_sensitivity(alike(8, 12), "onehot").direct > 0.5
    assert permutation_sensitivity(alike(8, 12), "onehot").rotation < 1e-5
    assert permutation_sensitivity(alike(30, 12), "random").rotation > 0.1  # a frame's vectors differ


def test_coherence_of_three_unit_vectors_in_a_plane():
    angles = torch.tensor([0.0, 2.0943951, 4.1887902])
    star = 3 * torch.stack([angles.cos(), angles.sin()], dim=1)
    assert coherence(star) == pytest.approx(0.5, abs=1e-6)
    assert mean_abs_cosine(star) == pytest.approx(0.5, abs=1e-6)
    assert welch_bound(3, 2) == pytest.approx(0.5)  # the star attains it
    with pytest.raises(UserError, match="two classes"):
        coherence(star[:1])


@given(shapes, st.integers(0, 50))
@settings(deadline=None, max_examples=40)
def test_no_set_beats_the_welch_bound(shape, seed):
    anchors = unit_vectors(*shape, seed)
    assert coherence(anchors) >= welch_bound(*shape) - 1e-9
    assert 0 <= mean_abs_cosine(anchors) <= coherence(anchors)


def test_orthogonalising_lowers_the_coherence_of_texts_that_are_alike():
    text = alike(40, 16)
    for method in ("qr_rows", "polar"):
        assert welch_bound(40, 16) <= coherence(orthogonalise(text, method)) < coherence(text)
        assert mean_abs_cosine(orthogonalise(text, method)) < 0.5 * mean_abs_cosine(text)


def test_families_and_closest_pairs_are_read_off_the_cosines():
    anchors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert cosines(anchors)[0, 3] == pytest.approx(0.5**0.5)
    assert family_cosine(anchors, np.array([0, 0, 1, 1])) == pytest.approx((1 + 0.5**0.5) / 2)
    assert np.isnan(family_cosine(anchors, np.arange(4)))
    assert closest_pairs(anchors, 2) == [(0, 1), (0, 3)]
    assert family_cosine(orthogonalise(alike(6, 9), "qr_rows"), np.zeros(6)) == pytest.approx(0, abs=1e-6)


TEXTS = {"few": alike(6, 9), "many": alike(9, 6), "twins": alike(6, 9)[[0, 1, 2, 3, 4, 0]]}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_is_refused_in_a_few_words_is_what_raises(method, text):
    if why := refusal(text, method):
        assert len(why) < 40
        with pytest.raises(UserError):
            orthogonalise(text, method)
    else:
        assert len(orthogonalise(text, method)) == len(text)


def test_a_refusal_says_which_of_the_two_reasons_it_is():
    assert refusal(TEXTS["many"], "qr_cols") == "needs K ≤ d"
    assert refusal(TEXTS["twins"], "polar") == "texts span fewer than 6 dimensions"


def test_rank_and_energies_are_those_of_the_directions_that_were_put_in():
    directions = orthogonalise(torch.eye(5), "random", seed=3)
    vectors = torch.tensor([3.0, 2.0, 1.0])[:, None] * directions[:3]
    assert rank(vectors) == 3 and rank(torch.cat([vectors, vectors])) == 3 and rank(torch.zeros(2, 4)) == 0
    assert energies(vectors).tolist() == pytest.approx([9 / 14, 4 / 14, 1 / 14])


def test_the_nearest_other_class_is_compared_class_by_class():
    before = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    assert same_neighbour(before, 2 * before) == 1.0
    assert same_neighbour(before, before[[0, 2, 1, 3]]) == 0.0  # each has another partner
    assert same_neighbour(before, torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [0.1, 1.0]])) == 0.75


def test_geometry_gives_the_measures_of_what_was_made():
    text, families = alike(6, 9), np.array([0, 0, 0, 1, 1, 1])
    made, line = orthogonalise(text, "qr_rows"), geometry(text, "qr_rows", families, permutations=2)
    assert line["K × d'"] == "6 × 6" and line["coherence"] == coherence(made) and line["Welch bound"] == 0
    assert line["cos in family"] == family_cosine(made, families)
    assert line["norm, least"] == pytest.approx(1, abs=1e-5) and line["norm, most"] == pytest.approx(1, abs=1e-5)
    assert (line["order"], line["order, rotated"]) == permutation_sensitivity(text, "qr_rows", 2)
    assert "cos in family" not in geometry(text, "none", permutations=1)
    assert geometry(text.T, "qr_cols") == {"K × d'": "needs K ≤ d"}


def test_geometry_takes_cosines_among_the_classes_it_is_given():
    twins = TEXTS["twins"]
    assert geometry(twins, "none", permutations=1)["coherence"] == pytest.approx(1)
    assert geometry(twins, "none", permutations=1, among=np.arange(5))["coherence"] == coherence(twins[:5])
