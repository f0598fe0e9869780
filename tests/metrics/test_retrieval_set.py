"""Retrieval over batches of any order and repetition is that over the whole set."""

import pytest
import torch
from torch.nn import functional as F

from mmattn.errors import DataError
from mmattn.metrics.retrieval import recall_at_k
from mmattn.metrics.retrieval_set import RetrievalSet

IMAGES, PER_IMAGE, WIDTH = 9, 3, 6
NAMES = torch.tensor([90, 20, 70, 10, 50, 80, 40, 30, 60])  # the images' keys, in no order


def whole():
    rng = torch.Generator().manual_seed(0)
    image = F.normalize(torch.randn(IMAGES, WIDTH, generator=rng), dim=-1)
    owner = torch.arange(IMAGES).repeat_interleave(PER_IMAGE)
    text = F.normalize(image[owner] + 0.6 * torch.randn(len(owner), WIDTH, generator=rng), dim=-1)
    same = torch.arange(len(owner))
    text[4], same[4] = text[0], same[0]  # image 1 has a caption of image 0
    return image, text, owner, same


def update(metric, images, length=5):
    """Add some of the images with all their texts, as one batch of `length` tokens does."""
    image, text, owner, same = whole()
    rows = [PER_IMAGE * b + n for b in images for n in range(PER_IMAGE)]
    tokens = torch.arange(len(owner))[:, None].expand(-1, length)[rows]
    metric.update(
        NAMES[images],
        image[images],
        {
            "keys": 100 + torch.tensor(rows),
            "embedding": text[rows],
            "image": NAMES[owner[rows]],
            "same": same[rows],
            "tokens": tokens,
            "valid": torch.ones_like(tokens, dtype=torch.bool),
        },
    )


def expected():
    image, text, owner, same = whole()
    found = recall_at_k(image, text, owner, same=same)
    recalls = [value for name, value in found.items() if "recall" in name]
    assert 0 < found["text_to_image_recall_1"] < 1
    return found | {"mean_recall": sum(recalls) / 6}


@pytest.mark.parametrize(
    "batches", [[range(9)], [[3, 1], [0, 8, 2], [7, 6, 5, 4]], [[0, 1, 2, 3, 4], [3, 5, 6, 7, 8]]]
)
def test_batches_of_any_order_and_repetition_give_what_the_set_does(batches):
    metric = RetrievalSet(WIDTH, 7)
    for number, batch in enumerate(batches):
        update(metric, list(batch), 4 + number)
    assert metric.embedded().recalls() == pytest.approx(expected())
    metric.reset()
    update(metric, list(range(9)))
    assert metric.embedded().recalls() == pytest.approx(expected())


def test_texts_keep_their_tokens_and_their_images():
    metric = RetrievalSet(WIDTH, 7)
    update(metric, [3, 1])
    found = metric.embedded()
    assert found.image_keys.tolist() == [10, 20]
    assert found.image_of_text.tolist() == [1, 1, 1, 0, 0, 0]
    assert found.tokens.shape == found.valid.shape == (6, 7)
    assert found.tokens[:, 0].tolist() == [3, 4, 5, 9, 10, 11]
    assert found.valid.sum(1).tolist() == [5] * 6


def test_nothing_to_retrieve_is_refused():
    with pytest.raises(DataError, match="nothing to score"):
        RetrievalSet(WIDTH, 7).embedded()


def of_a_share(rank, shares):
    metric = RetrievalSet(WIDTH, 7)
    for batch in shares[rank]:
        update(metric, batch)
    return metric.embedded().recalls()


def test_two_processes_with_padded_batches_find_the_same(in_two_processes):
    shares = [[[0, 2, 4], [6, 8]], [[1, 3, 5], [7, 0]]]
    found = in_two_processes(of_a_share, [shares, shares])
    assert found[0] == found[1] == pytest.approx(expected())
