"""The accents found in pictures, against the components the fonts themselves are made of."""

import matplotlib.path
import numpy as np
import pytest
from fontTools.ttLib import TTFont
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageChops, ImageDraw

from mmattn.data.glyphs.choice import why_not_drawn
from mmattn.data.glyphs.decompose import accent_word, last_accent
from mmattn.data.glyphs.fonts import font_path, mapped_characters
from mmattn.data.glyphs.holdout import shuffled
from mmattn.data.glyphs.regions import accent_finder
from mmattn.data.glyphs.render import ASCENT, DESCENT, Pen, render_font

SIZE, EM = 32, 2048


def single_accents(font: str, count: int) -> list[str]:
    characters = [c for c in mapped_characters(font) if not why_not_drawn(c)]
    with_one = [c for c in characters if (a := last_accent(c)) and not last_accent(a.parent)]
    return shuffled(with_one, seed=0)[:count]


def components(table: TTFont, character: str):
    """The letter and the other components of a composite glyph; None where it is no composite."""
    names, glyphs = table.getBestCmap(), table["glyf"]
    glyph, accent = glyphs[names[ord(character)]], last_accent(character)
    letter = names.get(ord(accent.parent))
    parts = glyph.components if glyph.isComposite() else []
    letters = [part for part in parts if part.glyphName == letter]
    return (letters, [part for part in parts if part not in letters]) if letters else None


def drawn(font: str, component, pen: Pen, origin: int) -> np.ndarray:
    face, scale = FT2Font(str(font_path(font))), pen.side / (ASCENT + DESCENT) / EM
    face.set_size(EM, 72)
    face.load_glyph(face.get_name_index(component.glyphName))
    matrix = np.array(getattr(component, "transform", [[1, 0], [0, 1]]))
    mask = Image.new("1", (pen.side, pen.side))
    for contour in matplotlib.path.Path(*face.get_path()).to_polygons():
        x, y = (contour @ matrix + (component.x, component.y)).T * scale
        layer = Image.new("1", mask.size)
        ImageDraw.Draw(layer).polygon(list(zip(origin + x, pen.baseline - y, strict=True)), fill=1)
        mask = ImageChops.logical_xor(mask, layer)
    return np.asarray(mask)


@pytest.mark.parametrize("font", ["DejaVuSans", "DejaVuSerif-Bold"])
def test_regions_agree_with_the_font_s_own_components(font):
    pen, table = Pen(font, SIZE), TTFont(font_path(font))
    compared = 0
    for character in single_accents(font, 40):
        found, known = accent_finder(font, SIZE).regions(character), components(table, character)
        if not found or not known:
            continue
        letter, accent = (
            np.logical_or.reduce(
                [drawn(font, part, pen, pen.origin(pen.box(character))) for part in parts]
            )
            for parts in known
        )
        cells = (accent & ~letter).reshape(SIZE, pen.factor, SIZE, pen.factor)
        reference = cells.mean(axis=(1, 3)) >= 0.25
        (mask,) = found.values()
        assert (mask & reference).sum() >= 0.5 * (mask | reference).sum(), character
        compared += 1
    assert compared >= 30


@pytest.mark.parametrize(
    ("character", "places"),
    [
        ("é", {"acute": "above"}),
        ("í", {"acute": "above"}),
        ("Ç", {"cedilla": "below"}),
        ("ậ", {"circumflex": "above", "dot": "below"}),
        ("ḉ", {"cedilla": "below", "acute": "above"}),
    ],
)
@pytest.mark.parametrize("font", ["DejaVuSans", "DejaVuSansMono-Bold", "DejaVuSerif-Italic"])
def test_accents_lie_where_their_names_say(font, character, places):
    found = accent_finder(font, SIZE).regions(character)
    base = round(SIZE * ASCENT / (ASCENT + DESCENT))
    middle = base - SIZE // 5
    sides = {
        w: "above" if np.argwhere(m)[:, 0].mean() < middle else "below" for w, m in found.items()
    }
    assert sides == places


def test_two_accents_do_not_overlap_and_lie_on_ink():
    picture = render_font("DejaVuSans", SIZE, "ǭ").images[0]
    found = accent_finder("DejaVuSans", SIZE).regions("ǭ")
    assert set(found) == {"ogonek", "macron"}
    assert not (found["ogonek"] & found["macron"]).any()
    assert (picture[found["ogonek"] | found["macron"]] < 230).all()


def test_two_accents_of_one_word_share_a_mask():
    found = accent_finder("DejaVuSansMono", SIZE).regions("ṩ")
    rows = np.argwhere(found["dot"])[:, 0]
    assert set(found) == {"dot"}
    assert rows.min() < 12 < 24 < rows.max()


def test_the_mask_grows_with_the_picture():
    small, large = (
        accent_finder("DejaVuSerif", size).regions("ö")["diaeresis"] for size in (24, 96)
    )
    assert small.shape == (24, 24)
    assert small.mean() == pytest.approx(large.mean(), rel=0.5)


@pytest.mark.parametrize("character", ["a", "ø", "♞", "\u0626"])
def test_no_regions_without_accents_or_where_the_letter_is_drawn_otherwise(character):
    # U+0626 is yeh with hamza: the composed glyph lacks the two dots of yeh.
    assert accent_finder("DejaVuSans", SIZE).regions(character) == {}


def test_regions_are_words_of_the_caption():
    for character in single_accents("DejaVuSans", 40):
        phrase = last_accent(character).phrase
        assert set(accent_finder("DejaVuSans", SIZE).regions(character)) <= {
            accent_word(character, phrase)
        }
