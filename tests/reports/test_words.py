import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from mmattn.errors import DataError
from mmattn.reports.words import BATCH, check_words, grounded_images, named_regions, spread_order


class Marked:
    """A set whose every third image has a region of a given size; images are 8 x 10 pixels."""

    def __init__(self, length, size=(8, 10)):
        self.length, self.size = length, size

    def __len__(self):
        return self.length

    def key(self, index):
        return f"image {index}"

    def captions(self, index):
        return ("a thing",)

    def image(self, index):
        return torch.zeros(3, 8, 10, dtype=torch.uint8)

    def regions(self, index):
        return {} if index % 3 else {"thing": np.ones(self.size, dtype=bool)}


WHOLE = nn.Identity()  # the network's picture is the image


def seen(dataset, limit):
    """The regions of images that are not cropped."""
    found = grounded_images(dataset, WHOLE, limit)
    assert found.unseen == 0
    return found.regions


def test_images_with_regions_are_found_in_order():
    assert list(seen(Marked(10), None)) == [0, 3, 6, 9]
    assert list(seen(Marked(0), None)) == []


def test_only_words_of_the_first_caption_count():
    class Silent(Marked):
        def captions(self, index):
            return ("a thing" if index else "nothing", "a thing")

    assert list(seen(Silent(7), None)) == [3, 6]


def test_a_limit_takes_images_from_all_over_the_set():
    found = list(seen(Marked(300), 10))
    assert len(found) == 10
    assert found == sorted(set(found))
    assert max(np.diff([0, *found, 300])) < 100
    assert list(seen(Marked(300), 1000)) == list(range(0, 300, 3))


@pytest.mark.parametrize("length", [1, 2, 7, 100])
def test_every_beginning_of_the_order_is_spread(length):
    order = spread_order(length)
    assert sorted(order) == list(range(length))
    for taken in range(1, length + 1):
        gaps = np.diff([0, *sorted(order[:taken]), length])
        assert max(gaps) <= 3 * length / taken + 1


def test_a_region_of_another_size_than_its_image_is_refused():
    with pytest.raises(DataError, match=r"image 0: the region of 'thing' is 10 x 8 and .* 8 x 10"):
        seen(Marked(3, (10, 8)), None)


def test_regions_out_of_sight_are_counted_and_not_measured():
    """Of 8 x 10 pixels the network sees the middle 4 x 4: rows 2 to 6 and columns 3 to 7."""

    class Corner(Marked):
        def captions(self, index):
            return ("a thing in a corner",)

        def regions(self, index):
            thing, corner = np.zeros((8, 10), dtype=bool), np.zeros((8, 10), dtype=bool)
            thing[:4, :4], corner[:2, :3] = True, True
            return {"corner": corner} | ({"thing": thing} if index % 2 else {})

    found = grounded_images(Corner(4), v2.CenterCrop(4), None)
    assert {index: list(named) for index, named in found.regions.items()} == {
        1: ["thing"],
        3: ["thing"],
    }
    assert found.unseen == 4
    region = found.regions[1]["thing"]
    assert region.placement.box == (2.0, 3.0, 6.0, 7.0)
    assert region.mask.sum() == 16
    limited = grounded_images(Corner(4), v2.CenterCrop(4), 1)
    assert len(limited.regions) == 1


def test_a_set_without_regions_has_none():
    class Plain:
        __len__, key, captions, image = (
            getattr(Marked, name) for name in ("__len__", "key", "captions", "image")
        )
        length = 3

    assert grounded_images(Plain(), WHOLE, None) == ({}, 0)


def test_words_come_with_their_tokens_and_masks(task, glyphs):
    dataset = glyphs.splits.test["fonts"]
    regions = seen(dataset, 5)
    (part,) = named_regions(task, glyphs, dataset, regions)
    assert part.indices == tuple(regions)
    assert part.batch.tokens.shape[:2] == (5, 1)
    for b, index in enumerate(part.indices):
        caption = dataset.captions(index)[0].split()
        named = [word for word in caption if word in regions[index]]
        assert [word.text for word in part.words[b]] == named
        for word, region in zip(part.words[b], part.regions[b], strict=True):
            written = part.batch.labels[b, 0, list(word.tokens)].tolist()
            assert glyphs.tokenizer.decode(written) == word.text
            assert region is regions[index][word.text]


def test_words_that_are_cut_off_are_missed(glyphs, monkeypatch):
    dataset = glyphs.splits.test["fonts"]
    regions = seen(dataset, 5)
    check_words("fonts", glyphs, dataset, regions)
    check_words("fonts", glyphs, dataset, {})
    # The caption of one image still holds its word: there is something to measure.
    index = min(regions, key=lambda i: len(glyphs.encode(dataset.captions(i)[0])))
    length = len(glyphs.encode(dataset.captions(index)[0])) + 1
    monkeypatch.setattr(glyphs, "max_length", length)
    check_words("fonts", glyphs, dataset, regions)
    monkeypatch.setattr(glyphs, "max_length", 2)
    with pytest.raises(DataError, match=r"fonts: 5 captions name .* within the 2 tokens"):
        check_words("fonts", glyphs, dataset, regions)


def test_batches_are_of_about_equal_size(task, glyphs):
    dataset = glyphs.splits.test["fonts"]
    regions = seen(dataset, BATCH + 2)
    sizes = [len(part.indices) for part in named_regions(task, glyphs, dataset, regions)]
    assert sizes == [BATCH // 2 + 1] * 2
    assert list(named_regions(task, glyphs, dataset, {})) == []
