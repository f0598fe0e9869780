from dataclasses import replace

import numpy as np
import pytest

from mmattn.maps.archive import AttentionRecord, Layers, MethodMaps
from mmattn.maps.geometry import Placement
from mmattn.maps.record_pictures import grid_caption, head_grid, strip_caption, word_strip
from mmattn.maps.words import group_words


@pytest.fixture
def record():
    """A caption of three words, four patches and a prefix token, in one layer of two heads."""
    text, offsets = "a dog .", ((0, 1), (1, 5), (5, 7))
    weights = np.zeros((1, 2, 3, 5))
    weights[0, 0, 1] = [0.5, 0.5, 0, 0, 0]
    weights[0, 1, 1] = [0.0, 0.1, 0.2, 0.3, 0.4]
    maps = np.zeros((3, 2, 2))
    maps[0], maps[1], maps[2] = [[0.8, 0], [0, 0]], [[0.1, 0.1], [0.1, 0.1]], [[0, 0.25], [0.5, 0]]
    return AttentionRecord(
        key="1",
        caption=text,
        offsets=offsets,
        words=tuple(group_words(text, offsets)),
        cross=Layers(("text.0.cross",), weights),
        grid=(2, 2),
        prefix=1,
        image=np.full((20, 20, 3), 90, np.uint8),
        placement=Placement.resize((20, 20)),
        methods=(MethodMaps("cross-attention, last layer", maps),),
    )


def of_maps(record, change, signed=False):
    maps = record.methods[0].maps.copy()
    change(maps)
    return replace(record, methods=(MethodMaps("gradients", maps, signed),))


def test_a_strip_says_its_map_its_scales_and_the_mass_on_patches(record):
    # The scales end at the peak 0.8, at four times the mean 0.1, and at four times 0.1875.
    assert strip_caption(record) == (
        "a dog . | cross-attention, last layer, scale 0 to 0.40 … 0.80, mass on patches 0.40 … 0.80"
    )


def test_maps_with_signs_have_scales_around_zero(record):
    def negative(maps):
        maps[:] = [[-0.5, 0.5], [0, 1]]

    assert strip_caption(of_maps(record, negative, signed=True)) == (
        "a dog . | gradients, scale ±2.0, sum 1.0"
    )


def test_what_is_not_finite_is_counted(record):
    def broken(maps):
        maps[:2] = np.nan

    partly = of_maps(record, broken)
    assert strip_caption(partly).endswith(
        "gradients, scale 0 to 0.75, mass on patches 0.75, not finite: 2 of 3 maps"
    )
    all_of_it = of_maps(record, lambda maps: maps.fill(np.nan))
    assert strip_caption(all_of_it) == "a dog . | gradients, not finite: 3 of 3 maps"
    for shown in (partly, all_of_it):
        assert word_strip(shown).std() > 5


def test_a_grid_says_its_word_and_what_its_heads_give_to_patches(record):
    assert grid_caption(record) == (
        "a dog . | every layer and head at 'dog', scale 0 to 0.50 … 1.0, mass on patches 0.50 … 1.0"
    )
    assert head_grid(record).std() > 5


def test_a_caption_without_a_word_has_no_numbers(record):
    weights = record.cross.weights[:, :, :0]
    empty = replace(
        record,
        caption="",
        offsets=(),
        words=(),
        cross=Layers(record.cross.names, weights),
        methods=(MethodMaps("maps", np.zeros((0, 2, 2))),),
    )
    assert strip_caption(empty) == " | maps, no word"
