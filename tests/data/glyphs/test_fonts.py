import pytest

from mmattn.data.glyphs.fonts import TEXT_FONTS, font_path, mapped_characters
from mmattn.errors import ConfigError


@pytest.mark.parametrize("stem", TEXT_FONTS)
def test_every_text_font_is_shipped_and_draws_the_alphabet(stem):
    assert font_path(stem).is_file()
    assert set("AZaz09") <= set(mapped_characters(stem))


def test_an_unknown_font_gets_the_nearest_name():
    with pytest.raises(ConfigError, match=r"DejaVuSerfi.*Did you mean 'DejaVuSerif'"):
        font_path("DejaVuSerfi")


@pytest.mark.parametrize("stem", ["../secrets", "DejaVuSansDisplay", ""])
def test_no_path_and_no_other_font_is_accepted(stem):
    with pytest.raises(ConfigError, match="no font"):
        font_path(stem)


def test_characters_are_in_code_point_order_without_repeats():
    characters = mapped_characters("DejaVuSansMono")
    assert characters == sorted(set(characters))
