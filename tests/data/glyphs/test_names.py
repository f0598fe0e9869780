from mmattn.data.glyphs.names import Composition, caption, composition, script


def test_captions_are_lower_case_names():
    assert caption("é") == "latin small letter e with acute"
    assert caption("♞") == "black chess knight"
    assert caption("\ue000") == ""  # private use: no name


def test_a_composition_has_a_base_and_parts():
    name = "latin capital letter a with circumflex and acute"
    assert composition(name) == Composition("latin capital letter a", ("circumflex", "acute"))


def test_a_name_without_with_is_no_composition():
    assert composition("box drawings light vertical and right") is None


def test_the_script_is_the_first_word():
    assert script("greek small letter alpha") == "GREEK"
