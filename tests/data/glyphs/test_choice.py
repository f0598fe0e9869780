import unicodedata

import pytest

from mmattn.data.glyphs.choice import Choice, count_not_drawn, why_not_drawn
from mmattn.errors import ConfigError, DataError

MAPPED = {"one": ["A", "a", "é", "α", "1", " ", "\u0301"], "two": ["A", "♞", "\ue000", "\u00ad"]}


def test_everything_with_a_name_and_ink_of_its_own_is_chosen_by_default():
    assert Choice(None, None).select(MAPPED) == {
        "one": ["A", "a", "é", "α", "1"],
        "two": ["A", "♞"],
    }


def test_scripts_and_categories_narrow_the_choice():
    assert Choice(["LATIN"], ["L"]).select(MAPPED) == {"one": ["A", "a", "é"], "two": ["A"]}
    assert Choice(None, ["Ll"]).select(MAPPED) == {"one": ["a", "é", "α"], "two": []}


def test_a_misspelt_script_gets_the_nearest_name():
    with pytest.raises(ConfigError, match=r"scripts.*'LATN'.*Did you mean 'LATIN'"):
        Choice(["GREEK", "LATN"], None).select(MAPPED)


def test_an_unknown_category_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"categories.*'X'.*Known: Ll, Lu, Nd, So"):
        Choice(None, ["X"]).select(MAPPED)


def test_an_empty_choice_says_of_how_many():
    with pytest.raises(DataError, match=r"Of 6 characters in 2 fonts, 0 are of scripts"):
        Choice(["GREEK"], ["Lu"]).select(MAPPED)


@pytest.mark.parametrize(
    ("character", "reason"),
    [("\u0301", "combining mark"), ("\u2003", "space"), ("\u200d", "control or format")],
)
def test_reasons(character, reason):
    assert unicodedata.name(character)
    assert why_not_drawn(character) == reason


def test_characters_never_drawn_are_counted_once_over_all_fonts():
    twice = {"one": [" ", "a"], "two": [" ", "\ue000"]}
    assert count_not_drawn(twice) == {"space": 1, "without a Unicode name": 1}
