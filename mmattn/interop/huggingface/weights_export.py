"""Our blocks' weights in the layout of Hugging Face's ViT, DeiT and GPT-2.

Values of what these two do not have, but can do, are folded into what they have: scales of residual
branches, shared key/value heads, computed positions, a context of another width.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mmattn.attention import Attention
from mmattn.blocks import Block, Residual
from mmattn.captioner import Captioner
from mmattn.interop.huggingface.vit import BLOCK, POOLER, PREFIX
from mmattn.patches import LinearPatches
from mmattn.positions import image_sinusoids, resize_positions, sinusoids
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

State = dict[str, Tensor]


class Linear(NamedTuple):
    """The weight [out, in] and the bias [out] of a linear map."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: nn.Linear) -> "Linear":
        """Return those of a layer; a missing bias is zero."""
        bias = layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
        return cls(layer.weight, bias)

    def after(self, first: "Linear") -> "Linear":
        """Return this map of the outputs of `first` as one map."""
        weight, bias = self.weight.double(), self.bias.double()
        return Linear(weight @ first.weight.double(), weight @ first.bias.double() + bias)

    def rows(self, start: int, end: int) -> "Linear":
        """Return the map to some of the outputs."""
        return Linear(self.weight[start:end], self.bias[start:end])

    def padded(self, out: int) -> "Linear":
        """Return the map with more outputs, which are zero."""
        more = out - len(self.bias)
        pad = nn.functional.pad
        return Linear(pad(self.weight, (0, 0, 0, more)), pad(self.bias, (0, more)))

    def named(self, name: str, *, transposed: bool = False, bias: bool = True) -> State:
        """Return weight and bias under a name; GPT-2 stores weights as [in, out]."""
        state = {f"{name}.weight": self.weight.t() if transposed else self.weight}
        return state | ({f"{name}.bias": self.bias} if bias else {})


class ContextMaps(NamedTuple):
    """How GPT-2 gets at what our cross-attention attends to.

    project: from the encoder's tokens to GPT-2's width D, done once; None where their width is D.
    back: from there to our context [C, D], which is folded into every block's keys and values.
    """

    project: Linear | None
    back: Linear


def context_maps(model: Captioner) -> ContextMaps | None:
    """Return the maps by which GPT-2's cross-attention, which is as wide as GPT-2, does ours.

    None where there are none: both the encoder and our context are wider than the decoder.
    """
    width, dim, context = model.vision.dim, model.text.dim, cast(int, model.text.context_dim)
    bridge = _identity(width)
    if isinstance(model.bridge, nn.Linear):
        bridge = Linear.of(model.bridge)
    if width == dim:
        return ContextMaps(None, bridge)
    if context <= dim:
        return ContextMaps(bridge.padded(dim), _identity(context, dim))
    if width < dim:
        return ContextMaps(_identity(width).padded(dim), bridge.after(_identity(width, dim)))
    return None


def _identity(out: int, into: int | None = None) -> Linear:
    """Return the map that keeps the first `out` of `into` values."""
    return Linear(torch.eye(out, into or out), torch.zeros(out))


def vit_state(vision: VisionTransformer, image_size: tuple[int, int]) -> State:
    """Return the encoder's weights as those of a ViT, or with two prefix tokens of a DeiT.

    Positions are those at `image_size`. The pooler, which nothing asks, is zero.
    """
    patches, grid = cast(LinearPatches, vision.patches), vision.patches.grid(image_size)
    tokens = cast(Tensor, vision.prefix_tokens)
    dim = vision.dim
    no_position = tokens.new_zeros(len(tokens), dim)
    table = torch.cat([no_position, _image_positions(vision, grid)])
    kind = next(kind for kind, names in PREFIX.items() if len(names) == len(tokens))
    state = {
        f"embeddings.{name}": token.view(1, 1, dim)
        for name, token in zip(PREFIX[kind], tokens, strict=True)
    }
    state["embeddings.position_embeddings"] = table[None]
    state |= named(patches.project, "embeddings.patch_embeddings.projection")
    for i, block in enumerate(vision.blocks):
        state |= _vit_block(cast(Block, block), BLOCK.format(i))
    state |= named(vision.norm, "layernorm")
    return state | dict(zip(POOLER, (torch.zeros(dim, dim), torch.zeros(dim)), strict=True))


def named(module: nn.Module, name: str) -> State:
    """Return a module's own weight and bias under a name."""
    return {f"{name}.{part}": value for part, value in module.state_dict().items()}


def _image_positions(vision: VisionTransformer, grid: tuple[int, int]) -> Tensor:
    """Return what is added to each patch, [S, D]."""
    if vision.position_table is not None:
        return resize_positions(vision.position_table, vision.grid, grid)
    if vision.position == "sinusoidal":
        return image_sinusoids(grid, vision.dim)
    return torch.zeros(grid[0] * grid[1], vision.dim)


def _vit_block(block: Block, here: str) -> State:
    attention = cast(Attention, block.self_attention)
    dim, bias = attention.to_q.out_features, attention.to_q.bias is not None
    kv = _every_head(attention)
    out = _branch(attention.to_out, block.self_residual)
    inside = f"{here}attention.attention."
    return {
        **named(block.self_norm, f"{here}layernorm_before"),
        **Linear.of(attention.to_q).named(f"{inside}query", bias=bias),
        **kv.rows(0, dim).named(f"{inside}key", bias=bias),
        **kv.rows(dim, 2 * dim).named(f"{inside}value", bias=bias),
        **out.named(f"{here}attention.output.dense"),
        **named(block.mlp_norm, f"{here}layernorm_after"),
        **Linear.of(block.mlp.up).named(f"{here}intermediate.dense"),
        **_branch(block.mlp.down, block.mlp_residual).named(f"{here}output.dense"),
    }


def gpt2_state(text: TextTransformer, context: ContextMaps) -> State:
    """Return the decoder's weights as those of a GPT-2 with cross-attention."""
    table = sinusoids(text.max_length, text.dim) if text.positions is None else text.positions.table
    state = {"transformer.wte.weight": text.embedding.weight, "transformer.wpe.weight": table}
    for i, block in enumerate(text.blocks):
        state |= _gpt2_block(cast(Block, block), f"transformer.h.{i}.", context)
    state |= named(text.norm, "transformer.ln_f")
    return state if text.head is None else state | {"lm_head.weight": text.head.weight}


def _gpt2_block(block: Block, here: str, context: ContextMaps) -> State:
    own, cross = cast(Attention, block.self_attention), cast(Attention, block.cross_attention)
    query, kv = Linear.of(own.to_q), _every_head(own)
    joint = Linear(torch.cat([query.weight, kv.weight]), torch.cat([query.bias, kv.bias]))
    linear = {
        "attn.c_attn": joint,
        "attn.c_proj": _branch(own.to_out, block.self_residual),
        "crossattention.q_attn": Linear.of(cross.to_q),
        "crossattention.c_attn": _every_head(cross).after(context.back),
        "crossattention.c_proj": _branch(cross.to_out, block.cross_residual),
        "mlp.c_fc": Linear.of(block.mlp.up),
        "mlp.c_proj": _branch(block.mlp.down, block.mlp_residual),
    }
    state = {
        **named(block.self_norm, f"{here}ln_1"),
        **named(block.cross_norm, f"{here}ln_cross_attn"),
        **named(block.mlp_norm, f"{here}ln_2"),
    }
    for name, layer in linear.items():
        state |= layer.named(here + name, transposed=True)
    return state


def _every_head(attention: Attention) -> Linear:
    """Return the keys and values of every query head: shared ones as often as they are used."""
    kv, share = Linear.of(attention.to_kv), attention.heads // attention.kv_heads

    def spread(rows: Tensor) -> Tensor:
        heads = rows.unflatten(0, (2, attention.kv_heads, attention.head_dim))
        return heads.repeat_interleave(share, dim=1).flatten(0, 2)

    return Linear(spread(kv.weight), spread(kv.bias))


def _branch(last: nn.Linear, residual: Residual) -> Linear:
    """Return the last map of a residual branch, with the branch's learned scale in it."""
    layer = Linear.of(last)
    if residual.scale is None:
        return layer
    return Linear(layer.weight * residual.scale[:, None], layer.bias * residual.scale)
