"""Projections in any layout give the queries, keys and values that they gave at their source."""

import pytest
import torch
from torch import Tensor, nn

from mmattn.attention import Attention
from mmattn.interop.named_weights import NamedWeights
from mmattn.interop.projections import take_joint, take_separate

D, C = 8, 6
NAMES = ["query", "key", "value"]


def loaded(ours: dict[str, Tensor], C: int, *, bias: bool = True) -> Attention:
    """Our attention with these projections; its output is what was attended to."""
    attention = Attention(D, 2, context_dim=C, bias=bias)
    state = {name.removeprefix("x."): value for name, value in ours.items()}
    parts = ["weight", "bias"] if bias else ["weight"]
    assert state.keys() == {f"to_{which}.{part}" for which in ("q", "kv") for part in parts}
    attention.load_state_dict(state, strict=False)
    nn.init.eye_(attention.to_out.weight)
    if attention.to_out.bias is not None:
        nn.init.zeros_(attention.to_out.bias)
    return attention


@torch.no_grad()
def assert_attends(attention: Attention, q: Tensor, k: Tensor, v: Tensor, x: Tensor, to: Tensor):
    """It gives softmax(q·kᵀ/√K)·v of two heads."""
    heads = [one.unflatten(-1, (2, -1)).transpose(1, 2) for one in (q, k, v)]
    wanted = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(x, attention.kv(to)), wanted)


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_three_maps(bias):
    maps = {name: nn.Linear(D if name == "query" else C, D, bias=bias) for name in NAMES}
    state = {f"{n}.{part}": p for n, one in maps.items() for part, p in one.named_parameters()}
    weights = NamedWeights(state, "a/folder")
    attention = loaded(take_separate(weights, NAMES, "x", D, C, bias=bias), C, bias=bias)
    weights.refuse_rest()
    x, to = torch.randn(2, 3, D), torch.randn(2, 5, C)
    assert_attends(attention, maps["query"](x), maps["key"](to), maps["value"](to), x, to)


@torch.no_grad()
def test_one_map():
    joint = nn.Linear(D, 3 * D)
    weights = NamedWeights({"qkv.w": joint.weight, "qkv.b": joint.bias}, "a/folder")
    attention = loaded(take_joint(weights, "x", D, weight="qkv.w", bias="qkv.b"), D)
    weights.refuse_rest()
    x = torch.randn(2, 3, D)
    assert_attends(attention, *joint(x).chunk(3, -1), x, x)
