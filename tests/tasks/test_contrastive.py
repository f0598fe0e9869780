"""The contrastive loss: equal to open_clip's and to plain Python, and the same on two ranks."""

import math

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch.nn import functional as F

from mmattn.tasks.contrastive import belong, caption_numbers, contrastive_loss
from mmattn.tasks.gather import gather_rows

# The captions of four images, and those of the texts of a batch in the order of their images: one
# text is true of two images, and one says what is known of an image that did not bring it.
KNOWN = [["a cat", "a dog"], ["a cat"], ["a bird", "two birds", "wings"], ["a bird", "a red bird"]]
TEXTS = ["a cat", "a dog", "a cat", "two birds", "wings", "a red bird", "a bird"]
TRUE = [
    [1, 1, 1, 0, 0, 0, 0],
    [1, 0, 1, 0, 0, 0, 0],
    [0, 0, 0, 1, 1, 0, 1],
    [0, 0, 0, 0, 0, 1, 1],
]
OWNER = [0, 0, 1, 2, 2, 3, 3]
CUT = 2  # how many images the first of two ranks has


def embeddings(dtype=torch.double):
    rng = torch.Generator().manual_seed(0)
    image = F.normalize(torch.randn(4, 5, generator=rng, dtype=dtype), dim=-1)
    text = F.normalize(torch.randn(7, 5, generator=rng, dtype=dtype), dim=-1)
    return image.float(), text.float()


def plain_softmax(image, text, scale):
    """Cross-entropy both ways, with targets shared among all that is true."""

    def one_way(scores, true):
        losses = []
        for row, own in zip(scores, true, strict=True):
            whole = math.log(sum(math.exp(x) for x in row))
            share = 1 / sum(own)
            losses.append(-sum(share * (x - whole) for x, yes in zip(row, own, strict=True) if yes))
        return sum(losses) / len(losses)

    scores = (scale * image @ text.T).tolist()
    back = [list(column) for column in zip(*scores, strict=True)]
    true_back = [list(column) for column in zip(*TRUE, strict=True)]
    return (one_way(scores, TRUE) + one_way(back, true_back)) / 2


def plain_sigmoid(image, text, scale, bias):
    scores = (scale * image @ text.T + bias).tolist()
    total = 0.0
    for row, own in zip(scores, TRUE, strict=True):
        for x, yes in zip(row, own, strict=True):
            total += math.log(1 + math.exp(-x if yes else x))
    return total / len(TEXTS)


def test_what_says_the_same_belongs():
    known, texts = caption_numbers(KNOWN), caption_numbers([TEXTS])[0]
    assert known.shape == (4, 3)
    assert belong(known, texts).int().tolist() == TRUE
    assert caption_numbers([]).shape == (0, 0)


def test_padding_belongs_to_nothing():
    known = caption_numbers([["a"], ["b", "c"], []])
    texts = caption_numbers([["c", "a", ""]])[0]
    wanted = [[False, True, False], [True, False, False], [False] * 3]
    assert belong(known, texts).tolist() == wanted


@pytest.mark.parametrize("scale", [1.0, 14.0])
def test_with_identical_captions_it_is_what_plain_python_says(scale):
    image, text = embeddings()
    numbers = caption_numbers(KNOWN), caption_numbers([TEXTS])[0]
    found = contrastive_loss(image, text, *numbers, torch.tensor(scale))
    assert found.item() == pytest.approx(plain_softmax(image, text, scale), rel=1e-5)
    found = contrastive_loss(
        image, text, *numbers, torch.tensor(scale), torch.tensor(-3.0), "sigmoid"
    )
    assert found.item() == pytest.approx(plain_sigmoid(image, text, scale, -3.0), rel=1e-5)


def test_with_one_caption_each_it_is_open_clips():
    image, text = embeddings()
    numbers = torch.arange(4)
    scale, bias = torch.tensor(9.0), torch.tensor(-4.0)
    found = contrastive_loss(image, text[:4], numbers[:, None], numbers, scale)
    torch.testing.assert_close(found, ClipLoss()(image, text[:4], scale))
    found = contrastive_loss(image, text[:4], numbers[:, None], numbers, scale, bias, "sigmoid")
    torch.testing.assert_close(found, SigLipLoss()(image, text[:4], scale, bias))


def test_an_image_without_a_text_gives_no_nan():
    image, text = embeddings()
    known = caption_numbers([["x"], ["y"], ["z"], []])
    found = contrastive_loss(image, text[:2], known, known[:2, 0], torch.tensor(5.0))
    assert found.isfinite()


def test_autocast_does_not_make_it_coarse():
    image, text = embeddings()
    numbers = caption_numbers(KNOWN), caption_numbers([TEXTS])[0]
    exact = contrastive_loss(image, text, *numbers, torch.tensor(100.0))
    with torch.autocast("cpu", torch.bfloat16):
        found = contrastive_loss(image, text, *numbers, torch.tensor(100.0))
    assert found.item() == exact.item()


def gradients(image, text, known, texts, kind):
    """The loss, and its gradients in the embeddings, the scale and the bias."""
    leaves = [image.clone(), text.clone(), torch.tensor(7.0), torch.tensor(-2.0)]
    for leaf in leaves:
        leaf.requires_grad_()
    bias = leaves[3] if kind == "sigmoid" else None
    loss = contrastive_loss(leaves[0], leaves[1], known, texts, leaves[2], bias, kind)
    loss.backward()
    grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    return [loss.item(), *(grad.tolist() for grad in grads)]


def on_one_rank(rank, kind):
    """This rank's share of the images with their texts; ranks have different numbers of both."""
    image, text = embeddings()
    mine = [b for b in range(4) if (b < CUT - 1) == (rank == 0)]
    rows = [r for r, b in enumerate(OWNER) if b in mine]
    known = caption_numbers([KNOWN[b] for b in mine])
    texts = caption_numbers([[TEXTS[r] for r in rows]])[0]
    return gradients(image[mine], text[rows], known, texts, kind)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_two_ranks_have_the_loss_and_the_gradients_of_one(in_two_processes, kind):
    first, second = in_two_processes(on_one_rank, [kind, kind])
    numbers = caption_numbers(KNOWN), caption_numbers([TEXTS])[0]
    whole = gradients(*embeddings(), *numbers, kind)
    assert (first[0] + second[0]) / 2 == pytest.approx(whole[0], rel=1e-5)
    # Distributed training averages the gradients of weights, so each rank's are twice as large.
    for at in (1, 2):
        found = torch.tensor(first[at] + second[at]) / 2
        torch.testing.assert_close(found, torch.tensor(whole[at]), rtol=1e-4, atol=1e-6)
    for at in (3, 4):
        assert (first[at] + second[at]) / 2 == pytest.approx(whole[at], rel=1e-4, abs=1e-7)


def gather_shapes(rank, _):
    rows = torch.full((rank + 1, 2 - rank), float(rank), requires_grad=True)
    gathered = gather_rows(rows, fill=-1)
    (gathered.rows * torch.arange(1.0, 4.0)[:, None] * (rank + 1)).sum().backward()
    assert rows.grad is not None
    return [gathered.rows.tolist(), gathered.ranks, rows.grad.tolist()]


def test_ranks_with_other_numbers_of_rows_and_columns(in_two_processes):
    first, second = in_two_processes(gather_shapes, [None, None])
    assert first[:2] == second[:2] == [[[0.0, 0.0], [1.0, -1.0], [1.0, -1.0]], 2]
    assert first[2] == [[3.0, 3.0]]  # the sum of what both ranks have for it
    assert second[2] == [[6.0], [9.0]]


def test_one_process_gathers_nothing():
    rows = torch.ones(2, 3)
    assert gather_rows(rows).rows is rows
