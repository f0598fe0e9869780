"""Attention, one path for everything: self, causal, cross and cached.

Keys and values are a *value*: `kv = attention.kv(context)`, then `attention(x, kv)`. Self-attention
is `kv(x)`. Cross-attention projects an image once and uses the result for every caption of that
image, every beam and every decoding step. Cached decoding passes keys and values that the decoding
loop keeps. So nothing here knows which of these it is doing, and no layer holds a cache.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mmattn.positions import Rotation, rotate
from mmattn.taps import AttentionCall, Tap


class KeyValues(NamedTuple):
    """Projected keys and values, each [B, G, S, K] for G key/value heads."""

    k: Float[Tensor, "B G S K"]
    v: Float[Tensor, "B G S K"]

    def extend(self, newer: "KeyValues") -> "KeyValues":
        """Return these keys and values followed by `newer` ones: one step of a decoding cache."""
        return KeyValues(torch.cat([self.k, newer.k], 2), torch.cat([self.v, newer.v], 2))


def causal_mask(queries: int, keys: int, device: torch.device) -> Bool[Tensor, "queries keys"]:
    """Return the mask in which the *last* query sees every key, the one before it all but one, …

    Bottom-right aligned, so that it is also right where the keys of earlier steps come first (the
    fused CPU kernel's own causal flag is top-left aligned).
    """
    mask = torch.ones(queries, keys, dtype=torch.bool, device=device)
    return mask.tril(diagonal=keys - queries)


def padding_mask(valid: Bool[Tensor, "B S"]) -> Bool[Tensor, "B 1 1 S"]:
    """Return the mask that lets every query of a row see that row's real tokens only."""
    return valid[:, None, None, :]


def join_masks(mask: Tensor | None, causal: bool, queries: int, keys: int, device: torch.device):
    """Return `mask` and the causal mask as one boolean mask, or None where neither restricts."""
    if not causal or queries == 1:  # the newest token may see everything that came before it
        return mask
    triangle = causal_mask(queries, keys, device)
    return triangle if mask is None else mask & triangle


def half_on_cpu(q: Tensor) -> torch.dtype | None:
    """Return the half precision in which attention of `q` would be computed on a CPU, if any."""
    if q.device.type != "cpu":
        return None
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else q.dtype
    return dtype if dtype in (torch.bfloat16, torch.float16) else None


def attend(
    q: Float[Tensor, "B H T K"],
    k: Float[Tensor, "B G S K"],
    v: Float[Tensor, "B G S K"],
    mask: Bool[Tensor, "#B #H #T S"] | None = None,
    *,
    causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "B H T K"]:
    """Return softmax(q·kᵀ/√K)·v by torch's fused kernel (Vaswani et al. 2017, eq. 1).

    With G < H each key/value head serves H/G query heads (grouped-query attention, Ainslie et al.
    2023). `mask` is True where a query may attend; a row that may attend to nothing gives zeros.
    `causal` is bottom-right aligned: the last query sees every key.

    On a CPU half precision is computed in float32: there the fused kernel is three times as slow in
    bfloat16, and less exact.
    """
    half = half_on_cpu(q)
    if half is not None:
        with torch.autocast("cpu", enabled=False):
            # Rounded first: a normalised q is in float32 until the kernel gets it.
            q, k, v = (x.to(half).float() for x in (q, k, v))
            return attend(q, k, v, mask, causal=causal, dropout=dropout).to(half)
    queries, keys, grouped = q.shape[2], k.shape[2], q.shape[1] != k.shape[1]
    if causal and mask is None and queries == keys:
        return F.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=grouped
        )
    joined = join_masks(mask, causal, queries, keys, q.device)
    # The CPU's kernel gives zeros in rows that may attend to nothing; cuDNN's does not, so there
    # they attend to everything and are cleared: no kernel sees such a row, also not going backward.
    empty = None
    if joined is not None and mask is not None and q.device.type != "cpu":
        empty = ~joined.any(-1, keepdim=True)
        joined = joined | empty
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=joined, dropout_p=dropout, enable_gqa=grouped
    )
    return out if empty is None else out.masked_fill(empty, 0.0)


class RMSNorm(nn.RMSNorm):
    """torch's, with its weight in the type of x: under autocast it would warn and be slow."""

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """Return x over its root mean square (Zhang & Sennrich 2019), times the weight."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def make_norm(kind: str, dim: int, eps: float) -> nn.Module:
    """Return a normalisation over the last dimension: "layer" (LayerNorm) or "rms" (RMSNorm)."""
    if kind == "layer":
        return nn.LayerNorm(dim, eps=eps)
    if kind == "rms":
        return RMSNorm(dim, eps=eps)
    raise ValueError(f"norm is {kind!r}; it must be 'layer' or 'rms'")


class Attention(nn.Module):
    """Multi-head attention whose keys and values are handed in.

    Args:
        dim: width D of the queries and of the output.
        heads: number of query heads H; D must divide by it.
        context_dim: width C of what the keys and values are made from; D if not given.
        kv_heads: number of key/value heads G; H must divide by it; H if not given.
        qk_norm: "layer" or "rms" to normalise each head's queries and keys (ViT-22B), else None.
        context_norm: "layer" or "rms" to normalise what is attended to first, else None.
        bias: whether the three input projections have a bias.
        dropout: probability of dropping an attention weight while training.
        norm_eps: epsilon of these normalisations.

    Raises:
        ValueError: where a width or a head count does not divide.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        context_dim: int | None = None,
        kv_heads: int | None = None,
        qk_norm: str | None = None,
        context_norm: str | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        kv_heads = kv_heads or heads
        if dim % heads:
            raise ValueError(f"dim={dim} does not divide by heads={heads}: change one of them")
        if heads % kv_heads:
            raise ValueError(f"heads={heads} does not divide by kv_heads={kv_heads}")
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, dim // heads
        self.dropout = dropout
        self.to_q = nn.Linear(dim, dim, bias=bias)
        self.to_kv = nn.Linear(context_dim or dim, 2 * kv_heads * self.head_dim, bias=bias)
        self.q_norm = make_norm(qk_norm, self.head_dim, norm_eps) if qk_norm else nn.Identity()
        self.k_norm = make_norm(qk_norm, self.head_dim, norm_eps) if qk_norm else nn.Identity()
        self.context_norm = (
            make_norm(context_norm, context_dim or dim, norm_eps) if context_norm else nn.Identity()
        )
        self.to_out = nn.Linear(dim, dim)

    def kv(self, context: Float[Tensor, "B S C"], rotation: Rotation | None = None) -> KeyValues:
        """Project what is attended to. `rotation` turns the keys to their positions."""
        batch, length, _ = context.shape
        kv = self.to_kv(self.context_norm(context)).view(
            batch, length, 2, self.kv_heads, self.head_dim
        )
        k, v = kv.permute(2, 0, 3, 1, 4)
        return KeyValues(rotate(self.k_norm(k), rotation), v)

    def queries(
        self, x: Float[Tensor, "R T D"], rotation: Rotation | None = None, rows: int | None = None
    ) -> Float[Tensor, "B H NT K"]:
        """Project what attends, as the queries of `rows` rows of keys; of R rows if None."""
        q = self.to_q(x).view(rows or x.shape[0], -1, self.heads, self.head_dim).transpose(1, 2)
        return rotate(self.q_norm(q), rotation)

    def forward(
        self,
        x: Float[Tensor, "R T D"],
        kv: KeyValues,
        mask: Bool[Tensor, "..."] | None = None,
        *,
        causal: bool = False,
        rotation: Rotation | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "R T D"]:
        """Let x attend to `kv`.

        `kv` may have fewer rows than x: with R = B·N, the N captions (or beams) of an image become
        N·T query rows against that image's keys, and nothing is copied N times. `mask` broadcasts
        to [B, H, N·T, S]. `tap` receives the very q, k and v that the kernel consumes.
        """
        rows = kv.k.shape[0]
        if x.shape[0] % rows:
            raise ValueError(f"{x.shape[0]} query rows cannot share {rows} rows of keys evenly")
        if causal and x.shape[0] != rows:
            raise ValueError("causal attention is within a row: give every row its own keys")
        q = self.queries(x, rotation, rows)
        dropout = self.dropout if self.training else 0.0
        out = attend(q, kv.k, kv.v, mask, causal=causal, dropout=dropout)
        if tap is not None:
            mask = join_masks(mask, causal, q.shape[2], kv.k.shape[2], q.device)
            tap.record(AttentionCall(q, kv.k, kv.v, out, mask))
        return self.to_out(out.transpose(1, 2).reshape(x.shape))
