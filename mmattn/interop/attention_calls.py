"""From the arguments of torch's functions to an `AttentionCall`, whatever their shapes."""

import torch
from torch import Tensor
from torch.nn.attention.bias import CausalBias, CausalVariant

from mmattn.taps import AttentionCall


def fused_call(
    out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    """Return the call of `scaled_dot_product_attention` with these arguments, which gave `out`.

    q, k and v are [..., H, T, K] or [B, T, K] or [T, K]. As torch defines it, the third dimension
    from the end is the heads; those before it become B. Without heads H = 1. `is_causal` is
    top-left aligned: query t sees the keys up to t (torch refuses it beside a mask). The weights
    that dropout leaves out are in the call as if there was no dropout. Where autocast rounds what
    it hands to the kernel, the call has it rounded.

    Raises ValueError for nested tensors.
    """
    if query.is_nested or key.is_nested:
        raise ValueError("attention over nested tensors is not supported: pad them")
    mask = _written_out(attn_mask, is_causal, query, key)
    if mask is not None and query.dim() == 3 == mask.dim():
        mask = mask.unsqueeze(-3)
    if query.dtype != out.dtype:  # autocast
        query, key, value = (tensor.to(out.dtype) for tensor in (query, key, value))
        mask = mask.to(out.dtype) if mask is not None and mask.is_floating_point() else mask
    q, k, v, out = (_with_heads(tensor) for tensor in (query, key, value, out))
    leading = out.shape[:-3]
    q = q.expand(*out.shape[:-1], q.shape[-1])
    q, k, v = (_spread(tensor, leading) for tensor in (q, k, v))
    return AttentionCall(q, k, v, out.flatten(0, -4), _spread_mask(mask, leading), scale)


def explicit_call(
    scores: Tensor, value: Tensor, out: Tensor, heads: int | None = None
) -> AttentionCall:
    """Return the call of `scores.softmax(-1) @ value`, which gave `out`.

    scores: [..., H, T, S], [B, T, S] or, with `heads` given, [B·H, T, S]. What the scores were made
    of is not known: they are in the call as what a mask adds to the scores of q = 0 and k = 0,
    which gives the same weights.
    """
    scores, value, out = (_with_heads(tensor, heads) for tensor in (scores, value, out))
    leading = out.shape[:-3]
    scores, value = _spread(scores.detach(), leading), _spread(value, leading)
    batch, count, queries, keys = scores.shape
    q, k = out.new_zeros(batch, count, queries, 1), out.new_zeros(batch, count, keys, 1)
    return AttentionCall(q, k, value, out.flatten(0, -4), scores, 1.0)


def _written_out(mask: Tensor | None, causal: bool, query: Tensor, key: Tensor) -> Tensor | None:
    """Return the mask as a tensor, causality in it."""
    queries, keys, diagonal = query.shape[-2], key.shape[-2], 0
    if isinstance(mask, CausalBias):  # a tensor without content
        causal = True
        diagonal = keys - queries if mask.variant is CausalVariant.LOWER_RIGHT else 0
    if causal:
        return torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(diagonal)
    return None if mask is None else mask.detach()  # a learned bias has a graph of its own


def _with_heads(tensor: Tensor, heads: int | None = None) -> Tensor:
    """Return [..., H, T, K] of what may be [B·H, T, K], [B, T, K] or [T, K]."""
    if tensor.dim() == 3:
        return tensor.unflatten(0, (-1, heads)) if heads else tensor.unsqueeze(1)
    return tensor[None, None] if tensor.dim() == 2 else tensor


def _spread(tensor: Tensor, leading: torch.Size) -> Tensor:
    """Return [B, H, T, K], all dimensions before the heads as one; `leading` is what they are."""
    return tensor.expand(*leading, *tensor.shape[-3:]).flatten(0, -4)


def _spread_mask(mask: Tensor | None, leading: torch.Size) -> Tensor | None:
    """Return the mask in four dimensions; broadcast only where there are more to be made one."""
    if mask is None:
        return None
    mask = mask[(None,) * (4 - mask.dim())]
    return mask if len(leading) == 1 else _spread(mask, leading)
