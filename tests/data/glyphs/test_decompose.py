import pytest

from mmattn.data.glyphs.decompose import Accent, accent_word, last_accent


@pytest.mark.parametrize(
    ("character", "parent", "phrase"),
    [
        ("ç", "c", "cedilla"),
        ("Ấ", "Â", "acute"),
        ("Â", "A", "circumflex"),
        ("ṩ", "ṣ", "dot above"),
        ("ậ", "ạ", "circumflex"),  # named "circumflex and dot below", composed the other way round
        ("\u0149", None, None),  # a compatibility decomposition: not base + accent
        ("Ǿ", "Ø", "acute"),  # the stroke is no combining accent
        ("\u1f71", "α", "oxia"),  # canonically alpha with tonos
        ("Å", "A", "ring above"),
        ("\u212b", None, None),  # the angstrom sign's name mentions no ring
        ("≠", None, None),
        ("a", None, None),
    ],
)
def test_the_last_accent_and_its_phrase(character, parent, phrase):
    expected = None if parent is None else Accent(parent, phrase)
    assert last_accent(character) == expected


def test_under_an_accent_above_i_and_j_are_dotless():
    assert last_accent("í") == Accent("ı", "acute")
    assert last_accent("ḭ") == Accent("i", "tilde below")
    assert last_accent("ĵ") == Accent("ȷ", "circumflex")
    assert last_accent("į") == Accent("i", "ogonek")


@pytest.mark.parametrize(
    ("character", "phrase", "word"),
    [
        ("å", "ring above", "ring"),
        ("ő", "double acute", "acute"),
        ("ȃ", "inverted breve", "breve"),
        ("\ufb2c", "shin dot", "dot"),  # "hebrew letter shin with dagesh and shin dot"
        ("ạ", "dot below", "dot"),
    ],
)
def test_the_word_that_stands_for_an_accent(character, phrase, word):
    assert accent_word(character, phrase) == word
