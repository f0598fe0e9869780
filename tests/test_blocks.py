"""Blocks equal torch's own layers; scales, dropout and drop path do what their names say."""

import math

import pytest
import torch
from torch import nn

from mmattn.blocks import Block, BlockOptions, Mlp, Residual


def copy_attention(ours, theirs: nn.MultiheadAttention) -> None:
    theirs.in_proj_weight.copy_(torch.cat([ours.to_q.weight, ours.to_kv.weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.to_q.bias, ours.to_kv.bias]))
    theirs.out_proj.load_state_dict(ours.to_out.state_dict())


@torch.no_grad()
def reference_layer(block: Block) -> nn.TransformerDecoderLayer:
    """torch's decoder layer with the block's weights in it."""
    layer = nn.TransformerDecoderLayer(
        12, 3, 48, 0.0, "gelu", 1e-6, batch_first=True, norm_first=block.pre_norm
    ).double()
    copy_attention(block.self_attention, layer.self_attn)
    copy_attention(block.cross_attention, layer.multihead_attn)
    for ours, theirs in (
        (block.self_norm, layer.norm1),
        (block.cross_norm, layer.norm2),
        (block.mlp_norm, layer.norm3),
        (block.mlp.up, layer.linear1),
        (block.mlp.down, layer.linear2),
    ):
        theirs.load_state_dict(ours.state_dict())
    return layer.eval()


def randomise(module: nn.Module) -> None:
    """Give every parameter, norms and biases too, a value that matters."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)


def make_block(dim=12, drop_path=0.0, context_dim=None, self_attention=True, **options) -> Block:
    torch.manual_seed(0)
    block = Block(
        dim,
        BlockOptions(**{"heads": 3, **options}),
        context_dim=context_dim,
        self_attention=self_attention,
        drop_path=drop_path,
    )
    randomise(block)
    return block.double().eval()


@pytest.mark.parametrize("pre_norm", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_a_block_with_context_equals_torchs_decoder_layer(pre_norm, causal):
    block = make_block(context_dim=12, pre_norm=pre_norm)
    x, context = torch.randn(2, 5, 12).double(), torch.randn(2, 7, 12).double()
    out, _ = block(x, causal=causal, context=block.cross_attention.kv(context))
    hidden = nn.Transformer.generate_square_subsequent_mask(5).double() if causal else None
    expected = reference_layer(block)(x, context, tgt_mask=hidden)
    torch.testing.assert_close(out, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("pre_norm", [True, False])
def test_a_block_without_context_equals_torchs_encoder_layer(pre_norm):
    block = make_block(pre_norm=pre_norm)
    layer = nn.TransformerEncoderLayer(
        12, 3, 48, 0.0, "gelu", 1e-6, batch_first=True, norm_first=pre_norm
    ).double()
    with torch.no_grad():
        copy_attention(block.self_attention, layer.self_attn)
    for ours, theirs in (
        (block.self_norm, layer.norm1),
        (block.mlp_norm, layer.norm2),
        (block.mlp.up, layer.linear1),
        (block.mlp.down, layer.linear2),
    ):
        theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 12).double()
    torch.testing.assert_close(block(x)[0], layer.train()(x), atol=1e-10, rtol=0)


def test_norms_are_of_the_kind_asked_for():
    block = make_block(norm="rms", norm_eps=0.1)
    x = torch.randn(2, 5, 12).double()
    scale = (x.square().mean(-1, keepdim=True) + 0.1).sqrt()
    torch.testing.assert_close(block.mlp_norm(x), x / scale * block.mlp_norm.weight)
    assert isinstance(make_block(norm="layer").mlp_norm, nn.LayerNorm)


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def swiglu(x):
    gate, value = x[..., :8], x[..., 8:]
    return gate * torch.sigmoid(gate) * value


ACTIVATIONS = [
    ("gelu", gelu, 8),
    ("gelu_tanh", gelu_tanh, 8),
    ("quick_gelu", lambda x: x / (1 + torch.exp(-1.702 * x)), 8),
    ("relu", lambda x: (x + x.abs()) / 2, 8),
    ("silu", lambda x: x / (1 + torch.exp(-x)), 8),
    ("swiglu", swiglu, 16),
]


@pytest.mark.parametrize(
    ("activation", "function", "width"), ACTIVATIONS, ids=[name for name, *_ in ACTIVATIONS]
)
def test_activations_equal_their_formulas(activation, function, width):
    torch.manual_seed(0)
    mlp, x = Mlp(6, 8, activation).double(), torch.randn(3, 6).double() * 3
    hidden = x @ mlp.up.weight.T + mlp.up.bias
    assert hidden.shape == (3, width)
    expected = function(hidden) @ mlp.down.weight.T + mlp.down.bias
    torch.testing.assert_close(mlp(x), expected, atol=1e-12, rtol=0)


def test_an_unknown_activation_is_refused():
    known = "gelu, gelu_tanh, quick_gelu, relu, silu or swiglu"
    with pytest.raises(ValueError, match=f"activation is 'tanh'; choose {known}"):
        Mlp(6, 8, "tanh")


def test_layer_scale_scales_each_channel_of_each_branch():
    residual = Residual(4, BlockOptions(heads=1, layer_scale=0.5), 0.0)
    x, branch = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    torch.testing.assert_close(residual(x, branch), x + 0.5 * branch)
    with torch.no_grad():
        residual.scale.copy_(torch.arange(4.0))
    torch.testing.assert_close(residual(x, branch), x + torch.arange(4.0) * branch)


def test_a_block_whose_branches_are_scaled_to_zero_is_the_identity():
    block = make_block(context_dim=12, layer_scale=1.0)
    for residual in (block.self_residual, block.cross_residual, block.mlp_residual):
        nn.init.zeros_(residual.scale)
    x = torch.randn(2, 5, 12).double()
    assert torch.equal(block(x, context=block.cross_attention.kv(x))[0], x)


def test_dropout_drops_values_of_a_branch_and_scales_the_rest():
    torch.manual_seed(0)
    residual = Residual(50, BlockOptions(heads=1, dropout=0.3), 0.0)
    x, branch = torch.zeros(10, 20, 50), torch.ones(10, 20, 50)
    out = residual(x, branch)
    kept = out != 0
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 1 / 0.7))
    assert 0.68 < kept.float().mean() < 0.72  # 10,000 values: four standard errors are 0.018
    assert torch.equal(residual.eval()(x, branch), branch)


def test_drop_path_drops_whole_rows_and_scales_the_rest():
    torch.manual_seed(0)
    residual = Residual(2, BlockOptions(heads=1), 0.25)
    x, branch = torch.zeros(4000, 3, 2), torch.ones(4000, 3, 2)
    out = residual(x, branch).flatten(1)
    kept = out[:, 0] != 0
    assert torch.equal(out, out[:, :1].expand(-1, 6))  # a row is kept or dropped as a whole
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 1 / 0.75))
    assert 0.72 < kept.float().mean() < 0.78  # four standard errors are 0.027
    assert torch.equal(residual.eval()(x, branch), branch)


def test_drop_path_grows_from_zero_to_the_last_block():
    options = BlockOptions(heads=1, drop_path=0.3)
    assert [options.drop_path_at(i, 4) for i in range(4)] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert options.drop_path_at(0, 1) == 0


def test_a_block_hands_back_its_keys_and_values_with_the_past_before_them():
    block = make_block(kv_heads=1)
    x = torch.randn(2, 5, 12).double()
    whole, kv = block(x, causal=True)
    first, past = block(x[:, :3], causal=True)
    second, both = block(x[:, 3:], past, causal=True)
    assert both.k.shape == (2, 1, 5, 4)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-12, rtol=0)
    torch.testing.assert_close(both.k, kv.k, atol=1e-12, rtol=0)
    torch.testing.assert_close(both.v, kv.v, atol=1e-12, rtol=0)


def test_options_reach_every_attention():
    block = make_block(
        context_dim=8, kv_heads=1, qk_norm="rms", bias=False, attention_dropout=0.1, mlp_ratio=2.5
    )
    for attention in (block.self_attention, block.cross_attention):
        assert attention.kv_heads == 1
        assert attention.dropout == 0.1
        assert attention.to_q.bias is None
        assert isinstance(attention.q_norm, nn.RMSNorm)
    assert block.cross_attention.to_kv.in_features == 8
    assert block.mlp.up.out_features == 30
    assert make_block().cross_attention is None


def layer_norm(x: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return centred / scale * norm.weight + norm.bias


@torch.no_grad()
def torch_attention(attention, dim: int, context_dim: int) -> nn.MultiheadAttention:
    """torch's attention with ours in it."""
    theirs = nn.MultiheadAttention(
        dim, attention.heads, kdim=context_dim, vdim=context_dim, batch_first=True
    ).double()
    k, v = attention.to_kv.weight.chunk(2)
    for own, name in ((attention.to_q.weight, "q"), (k, "k"), (v, "v")):
        getattr(theirs, f"{name}_proj_weight").copy_(own)
    theirs.in_proj_bias.copy_(torch.cat([attention.to_q.bias, attention.to_kv.bias]))
    theirs.out_proj.load_state_dict(attention.to_out.state_dict())
    return theirs.eval()


@torch.no_grad()
@pytest.mark.parametrize("pre_norm", [True, False])
@pytest.mark.parametrize("context_norm", [True, False])
def test_a_block_may_attend_across_only(pre_norm, context_norm):
    block = make_block(
        context_dim=8, self_attention=False, pre_norm=pre_norm, context_norm=context_norm
    )
    x, context = torch.randn(2, 5, 12).double(), torch.randn(2, 7, 8).double()
    out, kv = block(x, causal=True, context=block.cross_attention.kv(context))
    seen = layer_norm(context, block.cross_attention.context_norm) if context_norm else context
    attention = torch_attention(block.cross_attention, 12, 8)
    if pre_norm:
        middle = x + attention(layer_norm(x, block.cross_norm), seen, seen)[0]
        expected = middle + block.mlp(layer_norm(middle, block.mlp_norm))
    else:
        middle = layer_norm(x + attention(x, seen, seen)[0], block.cross_norm)
        expected = layer_norm(middle + block.mlp(middle), block.mlp_norm)
    torch.testing.assert_close(out, expected, atol=1e-10, rtol=0)
    assert kv is None
    assert block.self_attention is None
    assert not any(name.startswith("self") for name in block.state_dict())


def test_only_what_is_attended_to_across_is_normalised_in_every_block_by_itself():
    block = make_block(context_dim=8, context_norm=True, norm="rms")
    assert isinstance(block.cross_attention.context_norm, nn.RMSNorm)
    assert block.cross_attention.context_norm.weight.shape == (8,)
    assert isinstance(block.self_attention.context_norm, nn.Identity)
    assert isinstance(make_block(context_dim=8).cross_attention.context_norm, nn.Identity)
