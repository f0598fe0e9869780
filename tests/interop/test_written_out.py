"""Attention that is written out is found where there is no doubt, and nothing else is."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mmattn.interop.written_out import Product, WrittenOut


class Follow(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.written_out, self.found = WrittenOut(), list[Product]()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        found = self.written_out.follow(func, args, kwargs or {}, out)
        self.found += [found] if found else []
        return out


def make_inputs():
    torch.manual_seed(0)
    return torch.randn(2, 3, 4, 5), torch.randn(2, 3, 6, 5), torch.randn(2, 3, 6, 5)


def in_place(q, k, v):
    scores = q @ k.mT
    scores *= 0.3
    scores += 1
    return scores.softmax(-1) @ v


def hugging_face(q, k, v):
    scores = torch.matmul(q, k.transpose(2, 3)) * 0.3 + torch.zeros(4, 6)
    weights = F.softmax(scores, dim=-1, dtype=torch.float64).to(q.dtype)
    return torch.matmul(F.dropout(weights, p=0.5, training=True), v)


def masked(q, k, v):
    scores = torch.where(torch.ones(4, 6).tril().bool(), q @ k.mT, -1e9)
    return torch.softmax(scores.masked_fill(torch.zeros(6).bool(), 0), 3) @ v


def windows(q, k, v):
    scores = (q @ k.mT).view(2, 1, 3, 4, 6) + torch.zeros(4, 6)
    return scores.view(2, 3, 4, 6).softmax(dim=-1).matmul(v)


def by_einsum(q, k, v):
    return torch.einsum("bhtk,bhsk->bhts", q, k).softmax(-1) @ v


def three_dimensions(q, k, v):
    q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
    return torch.bmm(F.softmax(torch.baddbmm(torch.zeros(1, 4, 6), q, k.mT), dim=2), v)


def modules(q, k, v):
    return nn.Dropout(0.5)(nn.Softmax(-1)(q @ k.mT)) @ v


ATTENTION = [in_place, hugging_face, masked, windows, by_einsum, three_dimensions, modules]


@pytest.mark.parametrize("attention", ATTENTION)
def test_attention_is_found_with_its_scores_and_values(attention):
    q, k, v = make_inputs()
    with Follow() as follow:
        out = attention(q, k, v)
    ((scores, values),) = follow.found
    assert torch.equal(values.reshape(v.shape), v)
    if attention not in (hugging_face, modules):  # with dropout, the output is not theirs
        assert torch.equal(scores.softmax(-1) @ values, out)
    assert scores.numel() == 2 * 3 * 4 * 6


def talking_heads(q, k, v):
    return (q @ k.mT).softmax(-1).flip(1) @ v


def difference(q, k, v):
    return ((q @ k.mT).softmax(-1) - (k[:, :, :4] @ k.mT).softmax(-1)) @ v


def other_dimension(q, k, v):
    return (q @ k.mT).softmax(-2) @ v


def linear_attention(q, k, v):
    return q @ (k.mT.softmax(-1) @ v)


def gate(q, k, v):
    return F.linear(q, k[0, 0]).softmax(-1) @ v


def slice_of_scores(q, k, v):
    return (q @ torch.cat([k, k[:, :, :1]], 2).mT)[..., :6].softmax(-1) @ v


def right_factor(q, k, v):
    return v.mT @ (q @ k.mT).softmax(-1).mT


def code_book(q, k, v):
    return (q @ k.mT).softmax(-1) @ v[0, 0]


def scores_of_classes(q, k, v):
    return (q[0, 0] @ k[0, 0].mT).softmax(-1) @ v[0, 0]


DOUBTFUL = [
    talking_heads,
    difference,
    other_dimension,
    linear_attention,
    gate,
    slice_of_scores,
    right_factor,
    code_book,
    scores_of_classes,
]


@pytest.mark.parametrize("function", DOUBTFUL)
def test_what_leaves_a_doubt_is_not_taken(function):
    with Follow() as follow:
        function(*make_inputs())
    assert follow.found == []


def test_nothing_is_kept_of_what_the_model_lets_go():
    q, k, v = make_inputs()
    alive = []

    def attend():
        scores = q @ k.mT
        weights = scores.softmax(-1)
        alive.extend([weakref.ref(scores), weakref.ref(weights)])
        return weights @ v

    with Follow() as follow:
        attend()
        follow.found.clear()
        gc.collect()
        assert [reference() for reference in alive] == [None, None]


def test_scores_are_let_go_with_the_product_even_where_the_weights_live_on():
    q, k, v = make_inputs()
    with Follow() as follow:
        scores = q @ k.mT
        scores_alive, weights = weakref.ref(scores), scores.softmax(-1)
        del scores
        assert scores_alive() is not None
        weights @ v
        follow.found.clear()
        assert scores_alive() is None
