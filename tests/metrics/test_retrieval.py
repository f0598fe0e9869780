import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmattn.errors import DataError
from mmattn.metrics.retrieval import recall_at_k, retrieval_scores


def slow_scores(similarity, image_of_text, ks):
    """Plain Python: sort, with those of others first among equals, and look."""
    images, texts = range(len(similarity)), range(len(image_of_text))
    of_images, of_texts = [], []
    for i in images:
        if i in image_of_text:
            order = sorted(texts, key=lambda t: (-similarity[i][t], image_of_text[t] == i))
            of_images.append(1 + [image_of_text[t] for t in order].index(i))
    for t in texts:
        own = image_of_text[t]
        order = sorted(images, key=lambda i: (-similarity[i][t], i == own))
        of_texts.append(1 + order.index(own))
    found = {}
    for way, ranks in (("image_to_text", of_images), ("text_to_image", of_texts)):
        # An image is found by the best of its texts: others that are ahead of it all are counted.
        found |= {f"{way}_recall_{k}": sum(r <= k for r in ranks) / len(ranks) for k in ks}
        middle = sorted(ranks)[(len(ranks) - 1) // 2 : len(ranks) // 2 + 1]
        found[f"{way}_median_rank"] = sum(middle) / len(middle)
    return found


@st.composite
def problems(draw):
    images, texts = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    row = st.lists(st.integers(-2, 2), min_size=texts, max_size=texts)
    similarity = draw(st.lists(row, min_size=images, max_size=images))
    owners = st.lists(st.integers(0, images - 1), min_size=texts, max_size=texts)
    return similarity, draw(owners)


@given(problems())
def test_the_numbers_are_those_of_plain_python(problem):
    similarity, owners = problem
    found = retrieval_scores(torch.tensor(similarity).float(), torch.tensor(owners), (1, 2, 4))
    assert found == pytest.approx(slow_scores(similarity, owners, (1, 2, 4)))


def embedded(seed, images=13, texts=29):
    rng = torch.Generator().manual_seed(seed)
    image = torch.nn.functional.normalize(torch.randn(images, 8, generator=rng), dim=-1)
    owner = torch.randint(0, images, (texts,), generator=rng)
    noise = 0.8 * torch.randn(texts, 8, generator=rng)
    return image, torch.nn.functional.normalize(image[owner] + noise, dim=-1), owner


@pytest.mark.parametrize("block", [1, 4, 13, 1024])
def test_blocks_of_embeddings_give_what_the_matrix_does(block):
    image, text, owner = embedded(0)
    expected = retrieval_scores(image.double() @ text.double().T, owner)
    assert 0 < expected["text_to_image_recall_1"] < 1
    assert recall_at_k(image, text, owner, block=block) == expected


def test_an_image_is_found_by_the_best_of_its_texts():
    similarity = torch.tensor([[0.1, 0.9, 0.5], [0.2, 0.1, 0.3]])
    found = retrieval_scores(similarity, torch.tensor([0, 0, 1]), ks=(1,))
    assert found["image_to_text_recall_1"] == 1.0
    assert found["text_to_image_recall_1"] == pytest.approx(1 / 3)


def test_a_constant_similarity_finds_nothing():
    owner = torch.arange(12) // 3
    constant = retrieval_scores(torch.zeros(4, 12), owner, ks=(1, 3, 9, 10))
    assert constant["image_to_text_recall_9"] == constant["text_to_image_recall_3"] == 0.0
    assert constant["image_to_text_recall_10"] == constant["text_to_image_recall_10"] == 1.0
    assert constant["image_to_text_median_rank"] == 10
    assert constant["text_to_image_median_rank"] == 4


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_embeddings_that_are_all_alike_find_nothing_however_they_round(scale, block):
    one = scale * torch.randn(1, 515, generator=torch.Generator().manual_seed(0))
    image, text = one.expand(37, -1), one.expand(111, -1)
    found = recall_at_k(image, text, torch.arange(111) // 3, ks=(1, 36, 108), block=block)
    assert found["text_to_image_recall_36"] == found["image_to_text_recall_108"] == 0.0


def test_differences_that_float32_can_tell_are_no_ties():
    """In float32 the roundings of 64 products add up to more."""
    image, text = torch.full((2, 64), 0.125), torch.full((2, 64), 0.125)
    image[1, 0], text[1, 0] = 0.125 + 1e-6, -0.125
    found = recall_at_k(image, text, torch.tensor([1, 0]), ks=(1,))
    assert found["text_to_image_recall_1"] == 1.0


def test_perfect_embeddings_find_everything():
    image = torch.eye(6)
    found = recall_at_k(image, image.repeat_interleave(5, 0), torch.arange(30) // 5)
    assert set(found.values()) == {1.0}


def test_an_image_without_a_text_asks_for_none_but_is_in_the_way():
    similarity = torch.tensor([[0.5], [0.9]])
    found = retrieval_scores(similarity, torch.tensor([0]), ks=(1,))
    assert found["image_to_text_recall_1"] == 1.0
    assert found["text_to_image_recall_1"] == 0.0
    assert found["text_to_image_median_rank"] == 2


def test_half_precision_embeddings_are_taken_as_they_are():
    image, text, owner = embedded(1)
    half = image.bfloat16(), text.bfloat16()
    assert recall_at_k(*half, owner) == recall_at_k(half[0].float(), half[1].float(), owner)


@pytest.mark.parametrize("owner", [3, -1])
def test_a_text_of_no_image_is_refused(owner):
    with pytest.raises(DataError, match=f"1 texts belong .* such as image {owner}: there are 3"):
        retrieval_scores(torch.zeros(3, 2), torch.tensor([0, owner]))


def test_no_text_is_refused():
    with pytest.raises(DataError, match="there is no text"):
        recall_at_k(torch.zeros(3, 2), torch.zeros(0, 2), torch.zeros(0).long())


def test_nan_is_refused_and_does_not_look_perfect():
    broken = torch.tensor([[math.nan, 1.0], [0.0, 1.0]])
    with pytest.raises(DataError, match="1 similarities are NaN"):
        retrieval_scores(broken, torch.tensor([0, 1]))
    with pytest.raises(DataError, match="1 numbers in the embeddings of images are not finite"):
        recall_at_k(broken, torch.eye(2), torch.tensor([0, 1]))
    with pytest.raises(DataError, match="1 numbers in the embeddings of texts are not finite"):
        recall_at_k(torch.eye(2), broken, torch.tensor([0, 1]))


def test_a_similarity_of_minus_infinity_is_the_least():
    similarity = torch.tensor([[1.0, -math.inf], [-math.inf, 1.0]])
    assert retrieval_scores(similarity, torch.tensor([0, 1]), (1,))["text_to_image_recall_1"] == 1


@st.composite
def repeated(draw):
    similarity, owners = draw(problems())
    says = st.lists(st.integers(0, 3), min_size=len(owners), max_size=len(owners))
    return similarity, owners, draw(says)


def slow_ranks(similarity, owners, says):
    """Plain Python, where what says the same belongs to the same images."""
    images, texts = range(len(similarity)), range(len(owners))
    pairs = {(owners[t], says[t]) for t in texts}
    of_images, of_texts = [], []
    for i in images:
        own = [t for t in texts if (i, says[t]) in pairs]
        if own:
            best = max(similarity[i][t] for t in own)
            ahead = [t for t in texts if t not in own and similarity[i][t] >= best]
            of_images.append(1 + len(ahead))
    for t in texts:
        own = [i for i in images if (i, says[t]) in pairs]
        best = max(similarity[i][t] for i in own)
        of_texts.append(1 + sum(i not in own and similarity[i][t] >= best for i in images))
    return of_images, of_texts


@given(repeated())
def test_what_says_the_same_belongs_to_the_same_images(problem):
    similarity, owners, says = problem
    found = retrieval_scores(
        torch.tensor(similarity).float(), torch.tensor(owners), (1, 3), torch.tensor(says) * 7
    )
    ways = ("image_to_text", "text_to_image")
    for way, ranks in zip(ways, slow_ranks(similarity, owners, says), strict=True):
        for k in (1, 3):
            share = sum(rank <= k for rank in ranks) / len(ranks)
            assert found[f"{way}_recall_{k}"] == pytest.approx(share)


@pytest.mark.parametrize("block", [1, 4, 1024])
def test_equal_texts_in_blocks_are_as_in_the_matrix(block):
    image, text, owner = embedded(2)
    says = torch.arange(29) // 2
    expected = retrieval_scores(image.double() @ text.double().T, owner, same=says)
    assert recall_at_k(image, text, owner, block=block, same=says) == expected
    assert expected != recall_at_k(image, text, owner)
