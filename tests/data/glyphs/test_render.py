import numpy as np
import pytest

from mmattn.data.glyphs.fonts import TEXT_FONTS
from mmattn.data.glyphs.render import Pen, render_font

UNMAPPED = "\U0010fffe"


def ink_rows(picture: np.ndarray) -> np.ndarray:
    return np.flatnonzero((picture < 128).any(axis=1))


def picture_of(character: str, font: str = "DejaVuSans", size: int = 32) -> np.ndarray:
    return render_font(font, size, [character]).images[0]


@pytest.mark.parametrize("size", [16, 32, 48])
def test_pictures_are_black_on_white_and_of_the_given_size(size):
    drawn = render_font("DejaVuSerif", size, "Ab")
    assert drawn.images.shape == (2, size, size)
    assert drawn.images.dtype == np.uint8
    assert drawn.images[:, 0, 0].tolist() == [255, 255]
    assert drawn.images.min() < 20


def test_letters_of_a_font_share_the_baseline_and_the_scale():
    capital, small, long = (ink_rows(picture_of(c)) for c in "XxQ")
    assert capital[-1] == small[-1] < ink_rows(picture_of("p"))[-1]
    assert len(small) < 0.85 * len(capital)
    assert abs(long[0] - capital[0]) <= 1


def test_capital_and_small_letters_of_one_shape_differ():
    for pair in ("Oo", "Ss", "Zz", "Il"):
        assert np.abs(picture_of(pair[0]) * 1.0 - picture_of(pair[1])).max() > 60


def test_ink_is_centred_across():
    columns = np.flatnonzero((picture_of("É", size=48) < 128).any(axis=0))
    assert abs(columns[0] - (47 - columns[-1])) <= 1


def test_stacked_accents_and_cedillas_fit():
    assert not render_font("DejaVuSans-Bold", 32, "ẬỖẶçģŲȨ").skipped


def test_what_has_no_picture_is_skipped_by_reason():
    per_ten_thousand = "\u2031"
    drawn = render_font("DejaVuSans", 32, ["\u2003", "A", UNMAPPED, per_ten_thousand])
    assert drawn.rows == {"A": 0}
    assert drawn.skipped == {
        "no ink": 1,
        "drawn as the font's box for missing glyphs": 1,
        "larger than the canvas": 1,
    }


@pytest.mark.parametrize("stem", TEXT_FONTS)
def test_no_ink_is_cut_off(stem):
    pen = Pen(stem, 32)
    for character in "AgjÅǺẬ—@":
        left, top, right, bottom = pen.box(character)
        drawn = pen.draw(character, (left, top, right, bottom)).getbbox()
        assert pen.fits((left, top, right, bottom))
        assert drawn[1::2] == (pen.baseline + top, pen.baseline + bottom)
        assert drawn[2] - drawn[0] == right - left


def test_rendering_twice_gives_the_same_bytes():
    assert (picture_of("ỗ") == picture_of("ỗ")).all()
