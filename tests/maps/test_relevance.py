"""Relevance by hand, against a plain transcription of the equations, and where rows are zero."""

import numpy as np
import pytest
import torch

from mmattn.maps.relevance import (
    attention_gradient,
    decoder_relevance,
    legrad,
    normalised,
    self_relevance,
)


def random_tensor(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def identity(size, batch=1):
    return torch.eye(size, dtype=torch.float64).expand(batch, -1, -1)


def test_weights_times_gradients_by_hand():
    weights = torch.tensor([[[[0.25, 0.75]], [[0.5, 0.5]]]])  # [B, H, T, S] = [1, 2, 1, 2]
    gradients = torch.tensor([[[[4.0, -4]], [[2, 6]]]])
    assert attention_gradient(weights, gradients).tolist() == [[[1, 1.5]]]
    assert attention_gradient(weights, gradients, signed=True).tolist() == [[[1, 0]]]


def test_self_relevance_by_hand():
    first = torch.tensor([[[0.0, 2], [0, 0]]])
    second = torch.tensor([[[0.0, 0], [3, 1]]])
    # R = I + first = [[1, 2], [0, 1]]; R + second·R = [[1, 2], [0 + 3, 1 + 6 + 1]]
    relevance = self_relevance([first, second], torch.eye(2)[None])
    assert relevance.tolist() == [[[1, 2], [3, 8]]]
    assert torch.equal(self_relevance([], torch.eye(2)[None]), torch.eye(2)[None])


def test_a_token_without_relevance_stays_itself():
    relevance = torch.tensor([[[1.0, 0, 0], [1, 1, 2], [0, 0, 3]]])
    expected = [[1.0, 0, 0], [1 / 3, 1, 2 / 3], [0, 0, 2]]  # the reference gives NaN in row 0
    torch.testing.assert_close(normalised(relevance), torch.tensor([expected]))


def test_a_diagonal_below_one_is_no_failure():
    # R - I is -1e-8 on the diagonal, as rounding makes it; the reference asserts that it is not.
    relevance = torch.tensor([[[1 - 1e-8, 0], [0.5, 1]]], dtype=torch.float64)
    torch.testing.assert_close(
        normalised(relevance), torch.tensor([[[1.0, 0], [1, 1]]]).double(), atol=2e-8, rtol=0
    )


def test_no_gradient_gives_no_relevance_and_no_nan():
    nothing, across = torch.zeros(2, 3, 3), torch.zeros(2, 3, 4)
    image = self_relevance([torch.zeros(2, 4, 4)], torch.eye(4).expand(2, -1, -1))
    assert torch.equal(decoder_relevance([(nothing, across)] * 2, image), across)


def plain_decoder_relevance(layers, r_qq):
    """Equations 6 to 10 for one sample, number by number, with 0/0 = 0."""

    def bar(r):
        brought = r - np.eye(len(r))
        rows = [row / row.sum() if row.sum() > 0 else row for row in brought]
        return np.array(rows) + np.eye(len(r))

    tokens, keys = layers[0][1].shape
    r_ss, r_sq = np.eye(tokens), np.zeros((tokens, keys))
    for a_ss, a_sq in layers:
        r_sq, r_ss = r_sq + a_ss @ r_sq, r_ss + a_ss @ r_ss
        left, right = bar(r_ss), bar(r_qq)
        added = np.zeros_like(r_sq)
        for m in range(tokens):
            for n in range(keys):
                for i in range(tokens):
                    for j in range(keys):
                        added[m, n] += left[i, m] * a_sq[i, j] * right[j, n]
        r_sq = r_sq + added
    return r_sq


def test_the_decoders_rules_are_the_papers():
    layers = [
        (random_tensor(2, 3, 3, seed=i).abs().tril(), random_tensor(2, 3, 4, seed=9 + i).abs())
        for i in range(3)
    ]
    layers[0][0][:, 1] = 0
    image = self_relevance([random_tensor(2, 4, 4, seed=5).abs()], identity(4, 2))
    image[:, 2] = identity(4)[0, 2]
    found = decoder_relevance(layers, image)
    for b in range(2):
        plain = [(own[b].numpy(), across[b].numpy()) for own, across in layers]
        expected = plain_decoder_relevance(plain, image[b].numpy())
        np.testing.assert_allclose(found[b].numpy(), expected, atol=1e-11, rtol=0)


def test_legrad_is_the_positive_gradient_over_heads_rows_and_layers():
    first = torch.tensor([[[[1.0, -2], [3, 4]], [[0, 0], [1, -1]]]])  # [B, H, T, S] = [1, 2, 2, 2]
    second = torch.zeros(1, 2, 2, 2)
    assert legrad([first]).tolist() == [[2.5, 2]]
    assert legrad([first, second]).tolist() == [[1.25, 1]]


def test_a_batch_is_its_samples_one_by_one():
    layers = [
        (random_tensor(3, 4, 4, seed=i).abs(), random_tensor(3, 4, 5, seed=9 + i).abs())
        for i in range(2)
    ]
    image = self_relevance([random_tensor(3, 5, 5, seed=3).abs()], identity(5, 3))
    gradients, together = random_tensor(3, 2, 4, 5), decoder_relevance(layers, image)
    for i in range(3):
        one = slice(i, i + 1)
        alone = decoder_relevance([(own[one], across[one]) for own, across in layers], image[one])
        torch.testing.assert_close(together[one], alone, atol=1e-12, rtol=0)
        torch.testing.assert_close(legrad([gradients])[one], legrad([gradients[one]]))


def test_arguments_are_left_as_they_are():
    weights, gradients = random_tensor(1, 2, 3, 3).softmax(-1), random_tensor(1, 2, 3, 3, seed=1)
    start = identity(3).clone()
    arguments = (weights, gradients, start)
    before = [tensor.clone() for tensor in arguments]
    attended = attention_gradient(weights, gradients)
    decoder_relevance([(attended, attended)] * 2, self_relevance([attended] * 2, start))
    legrad([gradients])
    assert all(torch.equal(a, b) for a, b in zip(before, arguments, strict=True))


def test_what_has_no_layers_is_said():
    with pytest.raises(ValueError, match="decoder needs at least one layer"):
        decoder_relevance([], identity(3))
    with pytest.raises(ValueError, match="LeGrad needs the gradients of at least one layer"):
        legrad([])
