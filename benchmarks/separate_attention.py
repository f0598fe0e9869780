"""The attention of older two-stream libraries, written out: the peer of `benchmarks/fusion.py`.

ViLBERT and torchmultimodal's first fusion layers project queries, keys and values one by one, and
compute scores, scale, mask, softmax, dropout and the weighted sum as operations of their own, with
the weights [B, H, T, S] of every call in memory.
"""

import copy
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mmattn.attention import Attention, KeyValues
from mmattn.fusion import CoFusion
from mmattn.positions import Rotation
from mmattn.taps import Tap


def separate_attention(
    q: Float[Tensor, "B H T K"],
    k: Float[Tensor, "B H S K"],
    v: Float[Tensor, "B H S K"],
    mask: Bool[Tensor, "..."] | None,
    dropout: float,
) -> tuple[Float[Tensor, "B H T K"], Float[Tensor, "B H T S"]]:
    """Return the output and the weights, one operation after the other."""
    scores = q @ k.transpose(-2, -1)
    scores = scores / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores + torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -math.inf)
    weights = F.dropout(scores.softmax(-1), dropout)
    return weights @ v, weights


class SeparateAttention(Attention):
    """An `Attention` with the same weights and no fused kernel; neither causal nor grouped."""

    def __init__(self, ours: Attention):
        dim, (width, context_dim) = ours.to_q.in_features, ours.to_kv.weight.shape
        if width != 2 * dim:
            raise ValueError(f"{width // 2} key channels for {dim} query channels: not written")
        super().__init__(dim, ours.heads, context_dim=context_dim, dropout=ours.dropout)
        self.to_q, self.to_out = (copy.deepcopy(part) for part in (ours.to_q, ours.to_out))
        self.context_norm = copy.deepcopy(ours.context_norm)
        self.to_k, self.to_v = (nn.Linear(context_dim, dim) for _ in range(2))
        for part in ("weight", "bias"):
            halves = getattr(ours.to_kv, part).detach().chunk(2)
            for project, half in zip((self.to_k, self.to_v), halves, strict=True):
                getattr(project, part).data.copy_(half)
        del self.to_kv

    def kv(self, context: Float[Tensor, "B S C"], rotation: Rotation | None = None) -> KeyValues:
        """Project keys and values, each by itself."""
        assert rotation is None
        context = self.context_norm(context)
        k, v = (
            project(context).unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)
            for project in (self.to_k, self.to_v)
        )
        return KeyValues(k, v)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        kv: KeyValues,
        mask: Bool[Tensor, "..."] | None = None,
        *,
        causal: bool = False,
        rotation: Rotation | None = None,
        tap: Tap | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Let x attend to `kv`; the weights go with the layer, or in training the backward pass."""
        assert not causal
        assert rotation is None
        assert tap is None
        dropout = self.dropout if self.training else 0.0
        out, _ = separate_attention(self.queries(x), kv.k, kv.v, mask, dropout)
        return self.to_out(out.transpose(1, 2).flatten(2))


def separated(fusion: CoFusion) -> CoFusion:
    """Return a copy in which every attention is written out; everything else is the same."""
    peer = copy.deepcopy(fusion)
    for module in list(peer.modules()):
        for name, part in module.named_children():
            if isinstance(part, Attention):
                setattr(module, name, SeparateAttention(part))
    return peer
