"""Value norms equal the length of what the attention layer itself writes for one key alone."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmattn.attention import Attention, KeyValues, padding_mask
from mmattn.maps.value_norms import ValueNorms, head_norms, projected_values, sum_norms

WITHIN = {torch.float64: 1e-12, torch.float32: 2e-6}


def written(attention, x, kv, mask, causal):
    """[B, T, S, D]: what each query receives from each key, by leaving only that key's value."""
    vectors = []
    for key in range(kv.k.shape[2]):
        alone = torch.zeros_like(kv.v)
        alone[:, :, key] = kv.v[:, :, key]
        out = attention(x, KeyValues(kv.k, alone), mask, causal=causal)
        vectors.append((out - attention.to_out.bias).reshape(len(kv.k), -1, out.shape[-1]))
    return torch.stack(vectors, 2).detach()


@pytest.mark.parametrize("dtype", WITHIN)
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("kind", ["self", "causal", "padding", "captions"])
def test_norms_of_the_sum_are_what_the_layer_writes(dtype, kv_heads, kind):
    torch.manual_seed(0)
    attention = Attention(16, 4, kv_heads=kv_heads).to(dtype)
    x = torch.randn(4, 5, 16, dtype=dtype)
    kv = attention.kv(x[:2] if kind == "captions" else x)
    mask = padding_mask(torch.arange(5) < torch.tensor([[5], [3], [1], [0]]))
    mask = mask if kind == "padding" else None
    listener = ValueNorms({"here": attention.to_out.weight})
    attention(x, kv, mask, causal=kind == "causal", tap=listener.tap("here"))
    expected = written(attention, x, kv, mask, kind == "causal").norm(dim=-1)[:, None]
    assert expected.max() > 0.05
    torch.testing.assert_close(listener.norms["here"], expected, atol=WITHIN[dtype], rtol=0)
    assert not listener.norms["here"].requires_grad


def test_norms_of_a_head_are_what_the_layer_writes_without_the_others():
    torch.manual_seed(0)
    attention, x = Attention(16, 4).double(), torch.randn(2, 5, 16, dtype=torch.float64)
    kv = attention.kv(x)
    listener = ValueNorms({"here": attention.to_out.weight}, per_head=True)
    attention(x, kv, tap=listener.tap("here"))
    norms = listener.norms["here"]
    assert norms.shape == (2, 4, 5, 5)
    for head in range(4):
        alone = torch.zeros_like(kv.v)
        alone[:, head] = kv.v[:, head]
        expected = written(attention, x, KeyValues(kv.k, alone), None, False).norm(dim=-1)
        torch.testing.assert_close(norms[:, head], expected, atol=1e-12, rtol=0)


def test_norms_by_hand():
    weights = torch.tensor([[[[0.5, 0.5]], [[1.0, 0.0]]]])  # [B, H, T, S] = [1, 2, 1, 2]
    vectors = torch.tensor([[[[3.0, 4], [0, 2]], [[-1.5, -2], [5, 5]]]])  # [1, 2, 2, 2]
    assert head_norms(weights, vectors).tolist() == [[[[2.5, 1]], [[2.5, 0]]]]
    # Key 0: the heads cancel, though each has a large weight.
    assert sum_norms(weights, vectors).tolist() == [[[0, 1]]]


def test_one_head_is_its_own_sum_and_more_heads_are_no_longer_than_their_parts():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 4, 3, 5, generator=generator).softmax(-1)
    vectors = torch.randn(2, 4, 5, 6, generator=generator)
    one = sum_norms(weights[:, :1], vectors[:, :1])
    torch.testing.assert_close(one, head_norms(weights, vectors)[:, 0])
    parts = head_norms(weights, vectors).sum(1)
    assert bool((sum_norms(weights, vectors) <= parts + 1e-6).all())


def test_half_precision_values_are_projected_in_single():
    v, projection = torch.randn(1, 2, 3, 4), torch.randn(8, 8)
    found = projected_values(v.bfloat16(), projection.bfloat16())
    expected = projected_values(v.bfloat16().float(), projection.bfloat16().float())
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that an operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("per_head", [False, True])
def test_there_is_no_vector_for_each_pair_of_tokens(per_head):
    attention, x = Attention(64, 2), torch.randn(1, 100, 64)
    listener = ValueNorms({"here": attention.to_out.weight}, per_head=per_head)
    with Largest() as largest:
        attention(x, attention.kv(x), tap=listener.tap("here"))
    assert largest.elements == 2 * 100 * 100  # the weights; the vectors would be 64 · 100 · 100


def test_a_site_runs_once():
    attention, x = Attention(8, 2), torch.randn(1, 3, 8)
    listener = ValueNorms({"here": attention.to_out.weight})
    attention(x, attention.kv(x), tap=listener.tap("here"))
    with pytest.raises(ValueError, match="here ran twice"):
        attention(x, attention.kv(x), tap=listener.tap("here"))
