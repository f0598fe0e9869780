"""The fused path equals a plain softmax in value and gradient; captions share an image's keys."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmattn.attention import (
    Attention,
    KeyValues,
    attend,
    causal_mask,
    join_masks,
    make_norm,
    padding_mask,
)

# name: (query heads, key/value heads, queries, keys, causal, kind of mask)
CASES = {
    "self": (4, 4, 7, 7, False, None),
    "causal": (4, 4, 7, 7, True, None),
    "cross": (4, 4, 5, 9, False, None),
    "cached": (4, 4, 3, 8, True, None),
    "newest token": (4, 4, 1, 8, True, None),
    "more queries than keys": (4, 4, 8, 5, True, None),
    "padding": (4, 4, 5, 9, False, "padding"),
    "causal padding": (4, 4, 7, 7, True, "padding"),
    "cached padding": (4, 4, 3, 8, True, "padding"),
    "per head": (4, 4, 5, 9, False, "per head"),
    "grouped": (4, 2, 5, 9, False, None),
    "grouped causal": (4, 2, 7, 7, True, None),
    "grouped cached": (4, 2, 3, 8, True, None),
    "grouped padding": (4, 1, 7, 7, True, "padding"),
    "grouped per head": (4, 2, 7, 7, False, "per head"),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def plain_attention(q, k, v, mask=None, causal=False):
    """softmax(q·kᵀ/√K)·v, written out; a row that may attend to nothing gives zeros."""
    heads, queries, keys = q.shape[1], q.shape[2], k.shape[2]
    k, v = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (k, v))
    allowed = torch.ones(q.shape[0], heads, queries, keys, dtype=torch.bool)
    if mask is not None:
        allowed = allowed & mask
    if causal:
        for t in range(queries):
            for s in range(keys):
                allowed[:, :, t, s] &= s - keys <= t - queries
    scores = torch.einsum("bhtk,bhsk->bhts", q, k) / math.sqrt(q.shape[-1])
    weights = torch.where(allowed, (scores - scores.amax(-1, keepdim=True)).exp(), 0.0)
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-300)
    return torch.einsum("bhts,bhsk->bhtk", weights, v)


def make_inputs(case, dtype=torch.float64):
    """Return ((q, k, v), mask) for a case; the padded row 2 of 3 may attend to nothing."""
    heads, groups, queries, keys, _, kind = case
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()

    q, k, v = normal(3, heads, queries, 6), normal(3, groups, keys, 6), normal(3, groups, keys, 6)
    mask = None
    if kind == "padding":
        mask = padding_mask(torch.arange(keys) < torch.tensor([[keys], [2], [0]]))
    elif kind == "per head":
        mask = torch.rand(3, heads, queries, keys, generator=generator) < 0.5
    return (q, k, v), mask


@cases
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_attend_equals_a_plain_softmax(case, dtype, within):
    inputs, mask = make_inputs(case, dtype)
    out = attend(*inputs, mask, causal=case[4])
    expected = plain_attention(*(x.double() for x in inputs), mask, case[4])
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, atol=within, rtol=0)


@cases
def test_its_gradients_equal_those_of_a_plain_softmax(case):
    inputs, mask = make_inputs(case)
    out = attend(*inputs, mask, causal=case[4])
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    expected = torch.autograd.grad(plain_attention(*inputs, mask, case[4]), inputs, upstream)
    for gradient, plain in zip(torch.autograd.grad(out, inputs, upstream), expected, strict=True):
        torch.testing.assert_close(gradient, plain, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("causal", [False, True])
def test_a_row_that_may_attend_to_nothing_gives_zeros_and_finite_gradients(dtype, groups, causal):
    inputs, mask = make_inputs((4, groups, 7, 7, causal, "padding"), dtype)
    out = attend(*inputs, mask, causal=causal)
    assert not mask[2].any()
    assert torch.equal(out[2], torch.zeros_like(out[2]))
    assert out[0].abs().min() > 0
    gradients = torch.autograd.grad(out.sum(), inputs)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(torch.equal(g[2], torch.zeros_like(g[2])) for g in gradients)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_half_precision_on_a_cpu_is_attention_in_single_precision(autocast, causal):
    """Of the rounded inputs, rounded once at the end."""
    inputs, _ = make_inputs((2, 2, 9, 9, causal, None), torch.bfloat16)
    given = [x.float() for x in inputs] if autocast else inputs
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = attend(*given, causal=causal)
    expected = attend(*(x.float() for x in inputs), causal=causal)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, expected.bfloat16())


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(1, 6), st.booleans(), st.data())
def test_any_mask_equals_a_plain_softmax(queries, keys, causal, data):
    bits = data.draw(st.lists(st.booleans(), min_size=queries * keys, max_size=queries * keys))
    mask = torch.tensor(bits).view(1, 1, queries, keys)
    inputs, _ = make_inputs((2, 1, queries, keys, causal, None))
    out = attend(*inputs, mask, causal=causal)
    expected = plain_attention(*inputs, mask, causal)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)


@given(st.integers(1, 7), st.integers(0, 7))
def test_the_last_query_sees_every_key_and_each_earlier_one_a_key_less(queries, earlier):
    mask = causal_mask(queries, queries + earlier, torch.device("cpu"))
    assert mask.sum(1).tolist() == list(range(earlier + 1, earlier + queries + 1))
    assert all(row[: int(row.sum())].all() for row in mask)


def test_the_future_does_not_reach_the_past():
    (q, k, v), _ = make_inputs((2, 2, 4, 9, True, None))
    for t in range(4):
        (gradient,) = torch.autograd.grad(attend(q, k, v, causal=True)[:, :, t].sum(), v)
        seen = gradient.abs().sum((0, 1, 3)) > 0
        assert seen.tolist() == [True] * (6 + t) + [False] * (3 - t)


def test_without_a_restriction_there_is_no_mask():
    device = torch.device("cpu")
    assert join_masks(None, False, 3, 4, device) is None
    assert join_masks(None, True, 1, 4, device) is None  # the newest token may see all


def test_dropout_drops_weights_and_scales_the_rest():
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 4, 20, 20)
    v = torch.eye(20).expand(1, 4, 20, 20)  # the output is the weights
    weights = attend(q, k, v)
    dropped = attend(q, k, v, dropout=0.25)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], weights[kept] / 0.75)
    assert 0.7 < kept.float().mean() < 0.8  # 1600 weights: four standard errors are 0.043


def reference_attention(ours: Attention, context_dim: int) -> nn.MultiheadAttention:
    """torch's own multi-head attention with our weights in it."""
    dim = ours.to_q.in_features
    theirs = nn.MultiheadAttention(
        dim, ours.heads, kdim=context_dim, vdim=context_dim, batch_first=True, dtype=torch.float64
    )
    key, value = ours.to_kv.weight.chunk(2)
    with torch.no_grad():
        if context_dim == dim:
            theirs.in_proj_weight.copy_(torch.cat([ours.to_q.weight, key, value]))
        else:
            theirs.q_proj_weight.copy_(ours.to_q.weight)
            theirs.k_proj_weight.copy_(key)
            theirs.v_proj_weight.copy_(value)
        theirs.in_proj_bias.copy_(torch.cat([ours.to_q.bias, ours.to_kv.bias]))
        theirs.out_proj.load_state_dict(ours.to_out.state_dict())
    return theirs


@pytest.mark.parametrize("context_dim", [12, 8])
@pytest.mark.parametrize("padded", [False, True])
def test_the_module_equals_torchs_multi_head_attention(context_dim, padded):
    torch.manual_seed(0)
    ours = Attention(12, 3, context_dim=context_dim).double()
    x, context = torch.randn(2, 5, 12).double(), torch.randn(2, 7, context_dim).double()
    valid = torch.arange(7) < torch.tensor([[7], [4]])
    out = ours(x, ours.kv(context), padding_mask(valid) if padded else None)
    ignored = ~valid if padded else None
    expected, _ = reference_attention(ours, context_dim)(
        x, context, context, key_padding_mask=ignored, need_weights=False
    )
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)


def normalise(x, norm):
    """LayerNorm or RMSNorm over the last dimension, written out."""
    centre = x.mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else 0.0
    x = (x - centre) / ((x - centre).square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return x * norm.weight + (norm.bias if isinstance(norm, nn.LayerNorm) else 0.0)


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_queries_and_keys_are_normalised_per_head(kind):
    torch.manual_seed(0)
    attention = Attention(12, 3, qk_norm=kind, norm_eps=0.1).double()
    for parameter in [*attention.q_norm.parameters(), *attention.k_norm.parameters()]:
        nn.init.normal_(parameter)
    x = torch.randn(2, 5, 12).double()
    q, k, v = (
        y.view(2, 5, 3, 4).transpose(1, 2)
        for y in (attention.to_q(x), *attention.to_kv(x).chunk(2, dim=-1))
    )
    q, k = normalise(q, attention.q_norm), normalise(k, attention.k_norm)
    expected = attention.to_out(plain_attention(q, k, v).transpose(1, 2).reshape(2, 5, 12))
    torch.testing.assert_close(attention(x, attention.kv(x)), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("groups", [4, 2])
def test_captions_as_query_rows_equal_captions_with_their_own_copies_of_the_keys(groups):
    torch.manual_seed(0)
    attention = Attention(16, 4, context_dim=10, kv_heads=groups).double()
    image, captions = torch.randn(2, 6, 10).double(), torch.randn(2, 3, 5, 16).double()
    valid = padding_mask(torch.arange(6) < torch.tensor([[6], [4]]))
    memory = attention.kv(image)
    assert memory.k.shape == memory.v.shape == (2, groups, 6, 4)
    out = attention(captions.flatten(0, 1), memory, valid)
    for b in range(2):
        own = attention.kv(image[b : b + 1])
        for n in range(3):
            expected = attention(captions[b, n][None], own, valid[b : b + 1])
            torch.testing.assert_close(out[3 * b + n], expected[0], atol=1e-12, rtol=0)


def test_query_rows_that_do_not_share_the_keys_evenly_are_refused():
    attention = Attention(8, 2)
    memory = attention.kv(torch.zeros(2, 3, 8))
    with pytest.raises(ValueError, match="5 query rows cannot share 2 rows"):
        attention(torch.zeros(5, 4, 8), memory)


def test_a_cache_grows_along_the_tokens():
    old, new = (KeyValues(*torch.randn(2, 1, 2, length, 4)) for length in (3, 2))
    both = old.extend(new)
    assert torch.equal(both.k, torch.cat([old.k, new.k], 2))
    assert torch.equal(both.v, torch.cat([old.v, new.v], 2))


def test_attention_weights_drop_in_training_only():
    torch.manual_seed(0)
    attention = Attention(8, 2, dropout=0.5)
    x = torch.randn(1, 6, 8)
    kv = attention.kv(x)
    assert not torch.equal(attention(x, kv), attention(x, kv))
    attention.eval()
    assert torch.equal(attention(x, kv), attention(x, kv))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 10, "heads": 4}, "dim=10 does not divide by heads=4"),
        ({"dim": 12, "heads": 4, "kv_heads": 3}, "heads=4 does not divide by kv_heads=3"),
        ({"dim": 8, "heads": 2, "qk_norm": "batch"}, "norm is 'batch'"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Attention(**options)


def test_the_projections_can_go_without_bias():
    attention = Attention(8, 2, bias=False)
    assert attention.to_q.bias is None
    assert attention.to_kv.bias is None


@pytest.mark.parametrize(("kind", "module"), [("layer", nn.LayerNorm), ("rms", nn.RMSNorm)])
def test_norms_by_name(kind, module):
    norm = make_norm(kind, 6, 1e-3)
    assert isinstance(norm, module)
    assert norm.eps == 1e-3


def test_an_rms_norm_under_autocast_gives_what_it_gets_in_its_own_type():
    norm, x = make_norm("rms", 8, 1e-6), torch.randn(3, 8)
    torch.nn.init.normal_(norm.weight)
    with torch.autocast("cpu", torch.bfloat16):
        out = norm(x.bfloat16())
    assert out.dtype == torch.bfloat16
    expected = x / x.square().mean(-1, keepdim=True).add(1e-6).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(out.float(), expected, atol=0.05, rtol=0.02)
