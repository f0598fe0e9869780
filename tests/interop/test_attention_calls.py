"""Whatever the shapes of torch's calls, the weights of the call times its values are its output."""

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right, causal_upper_left

from mmattn.interop.attention_calls import explicit_call, fused_call
from mmattn.recorder import Recorder, attention_weights

T, S, K = 4, 6, 5
BIAS = torch.randn(3, T, S, generator=torch.Generator().manual_seed(7))
BIAS[1, 2, :4] = float("-inf")
ALLOWED = torch.rand(2, 1, T, S, generator=torch.Generator().manual_seed(7)) > 0.4

# shapes of q before T and of k before S; further arguments; B and H of the call
FUSED = {
    "plain": ((2, 3), (2, 3), {}, (2, 3)),
    "scale": ((2, 3), (2, 3), {"scale": 0.7}, (2, 3)),
    "causal": ((2, 3), (2, 3), {"is_causal": True}, (2, 3)),
    "boolean mask": ((2, 3), (2, 3), {"attn_mask": ALLOWED}, (2, 3)),
    "a bias per head": ((2, 3), (2, 3), {"attn_mask": BIAS}, (2, 3)),
    "a mask of two dimensions": ((2, 3), (2, 3), {"attn_mask": BIAS[0]}, (2, 3)),
    "grouped": ((2, 6), (2, 3), {"enable_gqa": True}, (2, 6)),
    "one key head for all": ((2, 3), (2, 1), {}, (2, 3)),
    "keys shared by the batch": ((2, 3), (1, 3), {}, (2, 3)),
    "queries shared by the batch": ((1, 3), (2, 3), {"attn_mask": BIAS}, (2, 3)),
    "queries shared by the heads": ((2, 1), (2, 3), {}, (2, 3)),
    "no heads": ((3,), (3,), {}, (3, 1)),
    "no heads, a mask per row": ((3,), (3,), {"attn_mask": BIAS}, (3, 1)),
    "no heads, causal": ((3,), (3,), {"is_causal": True}, (3, 1)),
    "neither": ((), (), {"attn_mask": BIAS[0]}, (1, 1)),
    "windows": ((2, 4, 3), (2, 4, 3), {"attn_mask": BIAS}, (8, 3)),
    "windows, a mask per image": ((2, 4, 3), (2, 4, 3), {"attn_mask": ALLOWED[:, None]}, (8, 3)),
    "windows of shared keys": ((2, 4, 3), (4, 3), {"is_causal": True}, (8, 3)),
    "six dimensions": ((2, 2, 2, 3), (2, 2, 2, 3), {"attn_mask": BIAS}, (8, 3)),
    "upper left": ((2, 3), (2, 3), {"attn_mask": causal_upper_left(T, S)}, (2, 3)),
    "lower right": ((2, 3), (2, 3), {"attn_mask": causal_lower_right(T, S)}, (2, 3)),
}


@pytest.mark.parametrize("case", FUSED.values(), ids=FUSED)
def test_weights_times_values_are_the_output_of_the_kernel(case):
    q_shape, k_shape, arguments, shape = case
    torch.manual_seed(0)
    q, k, v = torch.randn(*q_shape, T, K), torch.randn(*k_shape, S, K), torch.randn(*k_shape, S, 2)
    out = F.scaled_dot_product_attention(q, k, v, **arguments)
    call = fused_call(out, q, k, v, **arguments)
    weights = attention_weights(call.q, call.k, call.mask, call.scale)
    assert weights.shape == (*shape, T, S)
    values = call.v.repeat_interleave(shape[1] // call.v.shape[1], dim=1)
    torch.testing.assert_close(weights @ values, call.out, atol=1e-6, rtol=0)
    assert torch.equal(call.out.reshape(out.shape), out)
    assert call.mask is None or call.mask.dim() == 4


def test_a_head_takes_its_own_bias():
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, T, K), torch.randn(2, 3, S, K)
    out = F.scaled_dot_product_attention(q, k, k, attn_mask=BIAS)
    everything, one = Recorder("*"), Recorder("*", heads=[1])
    for recorder in (everything, one):
        recorder.take("here", fused_call(out, q, k, k, BIAS))
        recorder.tap("here")
    assert torch.equal(one.maps["here"], everything.maps["here"][:, [1]])


def test_what_autocast_rounds_is_rounded_in_the_call():
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, T, K), torch.randn(2, 3, S, K)
    with torch.autocast("cpu", torch.bfloat16):
        out = F.scaled_dot_product_attention(q, k, k, attn_mask=BIAS)
        call = fused_call(out, q, k, k, BIAS)
    rounded = (q.bfloat16(), k.bfloat16(), k.bfloat16())
    expected = F.scaled_dot_product_attention(*rounded, attn_mask=BIAS.bfloat16())
    assert torch.equal(out, expected)
    for one, other in zip((call.q, call.k, call.v), rounded, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(call.mask[0], BIAS.bfloat16())


def test_torch_refuses_causal_beside_a_mask():
    """So a call need not say what the two are together."""
    q = torch.randn(1, 1, 3, 4)
    with pytest.raises(RuntimeError, match="should not be set when is_causal=True"):
        F.scaled_dot_product_attention(q, q, q, torch.ones(3, 3).bool(), is_causal=True)


def test_the_graph_of_a_learned_bias_is_not_in_the_call():
    q, bias = torch.randn(1, 1, 3, 4), torch.randn(3, 3, requires_grad=True)
    out = F.scaled_dot_product_attention(q, q, q, bias)
    assert out.requires_grad
    assert not fused_call(out, q, q, q, bias).mask.requires_grad
    scores = q @ q.mT + bias
    assert not explicit_call(scores, q, scores.softmax(-1) @ q).mask.requires_grad


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_are_refused():
    q = torch.nested.nested_tensor([torch.randn(2, 3, 4), torch.randn(2, 5, 4)])
    with pytest.raises(ValueError, match="nested tensors is not supported: pad them"):
        fused_call(q, q, q, q)


@pytest.mark.parametrize(
    ("leading", "heads", "shape"),
    [
        ((2, 3), None, (2, 3)),
        ((6,), 3, (2, 3)),
        ((6,), None, (6, 1)),
        ((2, 4, 3), None, (8, 3)),
    ],
)
def test_scores_give_the_weights_that_their_softmax_has(leading, heads, shape):
    torch.manual_seed(0)
    scores, v = torch.randn(*leading, T, S), torch.randn(*leading, S, K)
    scores[..., 1, :3] = float("-inf")
    call = explicit_call(scores, v, scores.softmax(-1) @ v, heads)
    weights = attention_weights(call.q, call.k, call.mask, call.scale)
    assert weights.shape == (*shape, T, S)
    assert torch.equal(weights.reshape(scores.shape), scores.softmax(-1))
    torch.testing.assert_close(weights @ call.v, call.out, atol=1e-6, rtol=0)
