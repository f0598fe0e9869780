"""Papers on which text can be read, and looks that make no sense."""

import numpy as np
import pytest

from mmattn.maps.look import Look


def luminance(colour: tuple[int, int, int]) -> float:
    """Relative luminance (WCAG 2.2)."""
    c = np.array(colour) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast_on_its_paper(theme):
    paper = Look(theme=theme).paper
    assert contrast(paper.ink, paper.sheet) >= 12
    assert contrast(paper.faint, paper.sheet) >= 5
    # Neither a white picture nor a black one melts into the paper, nor does a blank cell.
    for colour in [(255, 255, 255), (0, 0, 0), paper.blank]:
        assert max(abs(a - b) for a, b in zip(colour, paper.sheet, strict=True)) >= 9


def test_signed_values_have_a_colour_map_of_their_own():
    look = Look(colormap="viridis", diverging="PuOr")
    assert (look.colours(False), look.colours(True)) == ("viridis", "PuOr")


def test_senseless_looks_are_refused():
    with pytest.raises(ValueError, match="alpha is an opacity"):
        Look(alpha=1.5)
