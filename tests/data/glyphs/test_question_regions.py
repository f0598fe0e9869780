"""The pixels that a question is about, and None for a question about no mark that is there."""

import numpy as np
import pytest

from mmattn.data.glyphs import GlyphQuestions, Glyphs
from mmattn.data.labelled.example import Example
from mmattn.data.labelled.grounded import GroundedExamples


@pytest.fixture(scope="module")
def asked():
    glyphs = Glyphs(fonts=["DejaVuSans", "DejaVuSerif"], scripts=["LATIN"], categories=["Ll"])
    return GlyphQuestions(glyphs).splits().train


def question(text, answer, image="DejaVuSans/U+00E9"):
    return Example("any", {"answer": answer}, (image,), text)


def test_the_store_knows_the_mark_that_is_asked_for_and_there(asked):
    assert isinstance(asked.store, GroundedExamples)
    acute = asked.store.regions("DejaVuSans/U+00E9")["acute"]
    for text, answer in (
        ("which mark does it carry?", "acute"),
        ("does it carry the mark acute?", "yes"),
        ("is there a acute on it?", "yes"),
    ):
        found = asked.store.named_region(question(text, answer))
        assert np.array_equal(found, acute)


@pytest.mark.parametrize(
    ("text", "answer", "image"),
    [
        ("does it carry the mark grave?", "no", "DejaVuSans/U+00E9"),
        ("which letter is it?", "e", "DejaVuSans/U+00E9"),
        ("does the name latin small letter e with acute fit?", "yes", "DejaVuSans/U+00E9"),
        ("is this a small letter?", "yes", "DejaVuSans/U+0065"),
    ],
)
def test_other_questions_name_no_region(asked, text, answer, image):
    assert asked.store.named_region(question(text, answer, image)) is None


def test_questions_about_marks_are_the_ones_with_a_region(asked):
    for example in asked.examples:
        kind, answer = example.key.split("/")[-2:]
        kind = kind.partition("-")[0]
        about = kind == "which_mark" or (kind, answer) == ("mark", "yes")
        found = asked.store.named_region(example)
        assert about or found is None
        if found is not None:
            assert found.any()
    named = [asked.store.named_region(e) for e in asked.examples if "which_mark" in e.key]
    assert sum(found is not None for found in named) > 0.8 * len(named)
