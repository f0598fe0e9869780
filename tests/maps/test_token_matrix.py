"""Attention within a text: rows attend to columns, what may not be attended to is blank."""

import numpy as np
import pytest

from mmattn.maps.look import LOOK, Look
from mmattn.maps.token_matrix import _usual_end, token_matrix

TOKENS = ["<s>", "latin", "small", "letter"]
CAUSAL = np.tril(np.ones((4, 4), bool))
RNG = np.random.default_rng(0)


def causal_rows(length: int) -> np.ndarray:
    weights = np.tril(RNG.random((length, length)))
    return weights / weights.sum(1, keepdims=True)


def test_a_row_is_a_query_and_a_column_a_key():
    attention = np.zeros((4, 4))
    attention[3, 1] = 1.0
    page = token_matrix(attention, TOKENS, vmax=1.0)
    hot = np.nonzero((page == (252, 255, 164)).all(2))  # inferno's top
    cells = (page == (0, 0, 4)).all(2) | (page == (0, 0, 3)).all(2)  # and its foot
    rows, columns = np.nonzero(cells)
    # In the matrix (the colour bar lies below it), the hot cell is in the last row, second column.
    matrix = hot[0] <= rows.max()
    top, left = rows.min(), columns.min()
    assert (hot[0][matrix].min() - top) // 40 == 3
    assert (hot[1][matrix].min() - left) // 40 == 1


def test_what_may_not_be_attended_to_is_blank_whatever_it_holds():
    attention = causal_rows(4)
    plain = token_matrix(attention, TOKENS, allowed=CAUSAL)
    attention[~CAUSAL] = np.nan  # as a softmax over a mask may leave it
    np.testing.assert_array_equal(token_matrix(attention, TOKENS, allowed=CAUSAL), plain)
    blank = np.count_nonzero((plain == LOOK.paper.blank).all(2))
    assert blank >= 6 * 39 * 39  # cells of 40 pixels, one of which is the gap


def test_the_scale_is_not_that_of_queries_without_a_choice():
    attention = (
        np.diag([1.0, 0, 0, 0]) + np.tril(np.full((4, 4), 0.25), 0) * (np.arange(4) > 0)[:, None]
    )
    assert _usual_end(attention, CAUSAL) == pytest.approx(0.25)
    assert _usual_end(attention, np.eye(4, dtype=bool)) <= 1.0  # nobody has one
    assert _usual_end(np.full((4, 4), np.nan), CAUSAL) == 0.0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("length", [1, 8, 70])
def test_any_length_is_drawn_within_its_margins(theme, length):
    look = Look(theme=theme)
    tokens = [f"token{i} " * (1 + i % 3) for i in range(length)]
    page = token_matrix(causal_rows(length), tokens, title="layer 0", look=look)
    assert page.dtype == np.uint8
    assert page.shape[0] > length * 16
    blank = (page == look.paper.sheet).all(2)
    assert all(edge.all() for edge in (blank[:20], blank[-20:], blank[:, :20], blank[:, -20:]))


def test_a_token_of_space_has_a_name():
    named = token_matrix(causal_rows(2), ["a", "(space)"], vmax=1.0)
    assert named.shape == token_matrix(causal_rows(2), ["a", " \n"], vmax=1.0).shape
    assert named.shape != token_matrix(causal_rows(2), ["a", "b"], vmax=1.0).shape


@pytest.mark.parametrize(
    ("shape", "tokens", "allowed"),
    [
        ((3, 4), TOKENS, None),
        ((4, 4), TOKENS[:3], None),
        ((4, 4), TOKENS, CAUSAL[:3]),
        ((0, 0), [], None),
    ],
)
def test_what_does_not_fit_is_refused(shape, tokens, allowed):
    with pytest.raises(ValueError, match=f"{len(tokens)} tokens need"):
        token_matrix(np.zeros(shape), tokens, allowed=allowed)


def test_signed_values_need_a_signed_matrix():
    with pytest.raises(ValueError, match="signed=True"):
        token_matrix(causal_rows(4) - 0.1, TOKENS)
    assert token_matrix(causal_rows(4) - 0.1, TOKENS, signed=True).dtype == np.uint8
