"""Lines over training: one plot per layer, one line per head, gaps where there is no number."""

import numpy as np
import pytest

from mmattn.maps.head_history import _COLOURS, _flagged, head_history
from mmattn.maps.look import Look

RNG = np.random.default_rng(0)


def count(page: np.ndarray, colour: str) -> int:
    """How many pixels have exactly this colour, written #RRGGBB."""
    rgb = tuple(bytes.fromhex(colour[1:]))
    return int((page == rgb).all(2).sum())


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (3, 4), (5, 8)])
def test_every_head_has_a_line_on_the_paper_of_its_theme(theme, layers, heads):
    look = Look(theme=theme)
    values = RNG.random((6, layers, heads))
    page = head_history(list(range(0, 60, 10)), values, title="entropy, nats", look=look)
    assert page.dtype == np.uint8
    assert page.shape[2] == 3
    assert (page[0] == look.paper.sheet).all()
    for i, colour in enumerate(_COLOURS):
        assert (count(page, colour) > 10) == (i < heads)


def test_a_level_that_does_not_change_is_a_level_line():
    values = np.full((5, 1, 1), 2.0)
    values[:, :, :] = 2.0
    page = head_history([0, 1, 2, 3, 4], values, title="entropy", bound=("uniform", 4.0))
    rows, columns = np.nonzero((page == tuple(bytes.fromhex(_COLOURS[0][1:]))).all(2))
    line = rows[columns < page.shape[1] * 0.6]  # left of the legend
    assert np.ptp(line) <= 6  # as thick as its markers


def test_values_that_are_not_finite_leave_gaps_and_are_counted():
    values = np.linspace(1, 2, 40).reshape(40, 1, 1)
    steps = list(range(40))
    whole = head_history(steps, values, title="entropy")
    values[15:25] = np.inf
    gaps = head_history(steps, values, title="entropy")
    assert count(gaps, _COLOURS[0]) < count(whole, _COLOURS[0])
    assert _flagged("entropy", values) == "entropy (not finite: 10 of 40 values)"
    assert head_history([0], np.full((1, 2, 2), np.nan), title="nothing yet").dtype == np.uint8


@pytest.mark.parametrize(("steps", "shape"), [([1, 2], (3, 2, 2)), ([], (0, 2, 2)), ([1], (1, 2))])
def test_what_does_not_fit_is_refused(steps, shape):
    with pytest.raises(ValueError, match=f"{len(steps)} steps need values"):
        head_history(steps, np.zeros(shape), title="entropy")
