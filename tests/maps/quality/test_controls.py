"""Controls know exactly what they are said to know."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmattn.errors import DataError
from mmattn.maps.methods import RawAttention
from mmattn.maps.quality.controls import (
    CentredGaussian,
    OtherCaption,
    RandomisedWeights,
    ShuffledCaption,
    Uniform,
    partners,
    shuffled_places,
)
from mmattn.maps.quality.randomisation import randomised

RAW = RawAttention()


def test_uniform_is_the_same_everywhere_and_sums_to_one(captioner, batch):
    maps = Uniform()(captioner, batch)
    assert maps.shape == (4, 1, 5, 2, 3)
    assert maps.unique().tolist() == [pytest.approx(1 / 6)]


def test_the_gaussian_is_centred_and_a_quarter_of_each_side_wide(captioner, batch):
    wide = replace(batch, images=torch.zeros(4, 3, 64, 160))
    maps = CentredGaussian()(captioner, wide)
    map = maps[0, 0, 0].double().numpy()
    assert maps.shape == (4, 1, 5, 16, 40)
    assert (maps == maps[0, 0, 0]).all()
    assert map.sum() == pytest.approx(1)
    np.testing.assert_allclose(map, map[::-1, ::-1], rtol=1e-5)
    for length, profile in zip(map.shape, (map.sum(1), map.sum(0)), strict=True):
        # One sigma is a quarter of the side: the logarithm falls by 1/2 · (distance / sigma)².
        place = (np.arange(length) + 0.5) / length - 0.5
        fall = np.log(profile) - np.log(profile).max()
        expected = -0.5 * (place / 0.25) ** 2
        np.testing.assert_allclose(fall, expected - expected.max(), atol=1e-5)


def test_random_weights_are_a_copy_s(captioner, batch):
    before = {name: value.clone() for name, value in captioner.state_dict().items()}
    maps = RandomisedWeights(RAW, seed=3)(captioner, batch)
    torch.testing.assert_close(maps, RAW(randomised(captioner, 3), batch), rtol=0, atol=0)
    assert not torch.allclose(maps, RAW(captioner, batch))
    for name, value in captioner.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_shuffled_caption_has_its_own_maps_in_another_order(captioner, batch):
    order = shuffled_places(batch.valid, seed=5)
    for row, valid in zip(order[:, 0], batch.valid[:, 0], strict=True):
        count = int(valid.sum())
        assert sorted(row.tolist()) == list(range(5))
        assert row.tolist() != list(range(5))
        assert row[count:].tolist() == list(range(count, 5))  # padding
    assert torch.equal(order, shuffled_places(batch.valid, seed=5))
    maps, own = ShuffledCaption(RAW, seed=5)(captioner, batch), RAW(captioner, batch)
    for b, row in enumerate(order[:, 0].tolist()):
        assert torch.equal(maps[b, 0], own[b, 0, row])


def test_the_last_token_is_shuffled_too():
    """It may be a word: a caption need not hold its end token."""
    orders = [shuffled_places(torch.ones(1, 1, 4, dtype=torch.bool), seed) for seed in range(20)]
    assert {int(order[0, 0, -1]) for order in orders} == {0, 1, 2, 3}


def test_a_caption_of_one_token_cannot_be_shuffled():
    valid = torch.tensor([[[True, False]], [[True, True]], [[False, False]]])
    assert shuffled_places(valid, 0).tolist() == [[[0, 1]], [[1, 0]], [[0, 1]]]


def test_another_caption_is_the_next_other_one_at_the_same_place(captioner, batch):
    maps = OtherCaption(RAW)(captioner, batch)
    assert partners(batch.labels).tolist() == [1, 2, 3, 0]
    one = batch.with_captions([[7, 5, 1], [4, 5, 6, 1], [8, 9, 2, 3, 1], [4, 5, 6, 1]], 0)
    expected = RAW(captioner, one)
    places = [[0, 1, 2, 2, 2], [0, 1, 2, 3, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 3]]
    for b, row in enumerate(places):  # where the other caption has ended, its last place
        torch.testing.assert_close(maps[b, 0], expected[b, 0, row], rtol=0, atol=1e-6)


def test_an_image_with_the_same_caption_is_no_partner(batch):
    captions = [[4, 5], [4, 5], [6], [4, 5]]
    assert partners(batch.with_captions(captions, 0).labels).tolist() == [2, 2, 3, 2]
    same = batch.with_captions([[4, 5]] * 4, 0)
    with pytest.raises(DataError, match="captions of these 4 images are the same"):
        partners(same.labels)


def test_titles_and_signs(captioner):
    controls = [Uniform(), CentredGaussian(), RandomisedWeights(RAW), ShuffledCaption(RAW)]
    titles = ["uniform", "centred Gaussian", "randomised weights", "shuffled caption"]
    assert OtherCaption(RAW).title == "another image's caption, same place"
    assert [control.title for control in controls] == titles
    assert not any(control.signed for control in controls)


def test_cached_features_have_their_own_grid(captioner, batch):
    cached = replace(batch, images=torch.zeros(4, 32, 7, 9), cached=True)
    assert Uniform()(captioner, cached).shape == (4, 1, 5, 7, 9)
