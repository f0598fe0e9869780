"""The parts of a decoder's step equal the modules that they stand for, however they compute."""

import pytest
import torch
from torch.nn import functional as F

from mmattn.attention import KeyValues, attend
from mmattn.blocks import BlockOptions
from mmattn.decoding.products import LEAST, MODERATE, packs, product
from mmattn.decoding.step import FEW, LARGE, attend_step, decoder_step
from mmattn.text import TextTransformer


# A weight that is small, odd, moderate and large: each is multiplied in another way.
@pytest.mark.parametrize("shape", [(6, 10), (7, 10), (512, 512), (1024, 768)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 4, 5, 9])
def test_a_product_is_that_of_a_linear_layer(shape, bias, rows):
    torch.manual_seed(rows)
    layer = torch.nn.Linear(shape[1], shape[0], bias=bias)
    x = torch.randn(rows, shape[1])
    with torch.no_grad():
        found = product(layer.weight, layer.bias)(x)
        torch.testing.assert_close(found, layer(x), atol=1e-5, rtol=1e-5)
    assert found.shape == (rows, shape[0])
    assert found.is_contiguous()


def test_the_shapes_above_are_of_all_kinds():
    assert 6 * 10 < LEAST <= 512 * 512 < MODERATE <= 1024 * 768
    if torch.backends.mkldnn.is_available():
        assert packs(torch.empty(512, 512))


@pytest.mark.parametrize(
    "changes", [{}, {"qk_norm": "rms"}, {"context_norm": True}, {"kv_heads": 1}, {"bias": False}]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_memory_is_that_of_the_text_transformer(changes, dtype):
    torch.manual_seed(0)
    block = BlockOptions(heads=2, **changes)
    text = TextTransformer(
        11, 8, 3, block, max_length=9, context_dim=6, layout=["self", "both", "cross"]
    )
    text = text.to(dtype).eval().requires_grad_(False)
    context = torch.randn(3, 5, 6, dtype=dtype)
    for found, wanted in zip(decoder_step(text).memory(context), text.memory(context), strict=True):
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            torch.testing.assert_close(tuple(found), tuple(wanted))
            assert found.k.is_contiguous()
            assert found.v.is_contiguous()


@pytest.mark.parametrize("keys", [7, 800])
@pytest.mark.parametrize("rows", [1, FEW, FEW + 1])
@pytest.mark.parametrize("groups", [4, 2])
def test_attention_of_a_step_is_attention(keys, rows, groups):
    torch.manual_seed(0)
    q = torch.randn(3, 4, rows, 16)
    kv = KeyValues(torch.randn(3, groups, keys, 16), torch.randn(3, groups, keys, 16))
    torch.testing.assert_close(attend_step(q, kv), attend(q, *kv), atol=1e-6, rtol=1e-5)
    hidden = torch.rand(3, 1, rows, keys) < 0.3
    mask = torch.zeros(hidden.shape).masked_fill(hidden, float("-inf"))
    wanted = attend(q, *kv, ~hidden)
    torch.testing.assert_close(attend_step(q, kv, mask), wanted, atol=1e-6, rtol=1e-5)
    assert 3 * groups * 7 * 16 < LARGE <= 3 * 4 * 800 * 16


def test_attention_of_a_step_in_bfloat16_is_near_that_in_float32():
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 8, 1, 64), torch.randn(2, 8, 200, 64), torch.randn(2, 8, 200, 64)
    assert k.numel() >= LARGE
    found = attend_step(q.bfloat16(), KeyValues(k.bfloat16(), v.bfloat16()))
    assert found.dtype == torch.bfloat16
    wanted = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(found.float(), wanted, atol=0.01, rtol=0.05)
