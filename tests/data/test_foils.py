"""Foils: of another image, never true, and always the same."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mmattn.data.foils import draw_foils


class Captions:
    """A set of nothing but captions."""

    def __init__(self, captions):
        self.all = captions

    def __len__(self):
        return len(self.all)

    def key(self, index):
        return f"image-{index}"

    def captions(self, index):
        return self.all[index]

    def image(self, index):
        raise AssertionError("foils need no image")


texts = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4).map(tuple)


@given(st.lists(texts, min_size=1, max_size=6), st.integers(0, 3))
def test_a_foil_is_of_another_image_and_never_true(captions, seed):
    foils = draw_foils(Captions(captions), seed)
    assert list(foils) == [f"image-{i}" for i in range(len(captions))]
    for i, (own, drawn) in enumerate(zip(captions, foils.values(), strict=True)):
        others = {text for j, each in enumerate(captions) if j != i for text in each} - set(own)
        assert len(drawn) == len(own)
        assert all(text in others if others else text is None for text in drawn)


def test_the_seed_decides_and_nothing_else():
    dataset = Captions([(f"a {i}", f"b {i}") for i in range(50)])
    assert draw_foils(dataset, 1) == draw_foils(dataset, 1)
    assert draw_foils(dataset, 1) != draw_foils(dataset, 2)


def test_all_captions_serve():
    dataset = Captions([(f"a {i}", f"b {i}") for i in range(200)])
    drawn = Counter(text for foils in draw_foils(dataset, 0).values() for text in foils)
    assert len(drawn) > 0.5 * 400  # with replacement, 1 - 1/e of them
    assert max(drawn.values()) < 10
