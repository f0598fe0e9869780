"""The transformer block: self-attention, optional cross-attention, and a feed-forward network."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mmattn.attention import Attention, KeyValues, make_norm
from mmattn.positions import Rotation
from mmattn.taps import Scope

# (number of a block, what it would be given) -> what it is given
BeforeBlock = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class BlockOptions:
    """What all blocks of a transformer share; the width, the depth and the context are its own.

    Attributes:
        heads: query heads H of every attention.
        kv_heads: key/value heads G of every attention; as many as `heads` if None.
        mlp_ratio: hidden width of the feed-forward network over the model width.
        norm: "layer" or "rms".
        pre_norm: normalise before each sub-layer (True), or after its residual sum (False).
        activation: "gelu", "gelu_tanh", "quick_gelu", "relu", "silu" or "swiglu".
        qk_norm: "layer" or "rms" to normalise queries and keys per head, else None.
        layer_scale: initial value of a learned scale per channel of each residual branch, or None.
        bias: whether the query, key and value projections have a bias.
        context_norm: normalise what a cross-attention attends to, in every block by itself (CoCa).
        dropout: probability of dropping a value of a residual branch.
        attention_dropout: probability of dropping an attention weight.
        drop_path: probability of dropping a whole residual branch of the *last* block; it grows
            linearly from 0 in the first (stochastic depth, Huang et al. 2016).
        norm_eps: epsilon of the normalisations.
    """

    heads: int
    kv_heads: int | None = None
    mlp_ratio: float = 4.0
    norm: str = "layer"
    pre_norm: bool = True
    activation: str = "gelu"
    qk_norm: str | None = None
    layer_scale: float | None = None
    bias: bool = True
    context_norm: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: float = 0.0
    norm_eps: float = 1e-6

    def drop_path_at(self, layer: int, depth: int) -> float:
        """Return the drop-path probability of block `layer` of `depth`."""
        return self.drop_path * layer / max(depth - 1, 1)


def quick_gelu(x: Tensor) -> Tensor:
    """Return x·σ(1.702·x), the approximation of GELU that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
}


class Mlp(nn.Module):
    """Two linear maps with an activation between; SwiGLU gates the hidden values (Shazeer 2020)."""

    def __init__(self, dim: int, hidden: int, activation: str):
        super().__init__()
        if activation not in (*ACTIVATIONS, "swiglu"):
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"activation is {activation!r}; choose {known} or swiglu")
        self.activation = activation
        self.up = nn.Linear(dim, hidden * (2 if activation == "swiglu" else 1))
        self.down = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "*R D"]) -> Float[Tensor, "*R D"]:
        """Map every token by itself."""
        x = self.up(x)
        if self.activation == "swiglu":
            gate, x = x.chunk(2, dim=-1)
            return self.down(F.silu(gate) * x)
        return self.down(ACTIVATIONS[self.activation](x))


class Residual(nn.Module):
    """How a branch joins the residual stream: layer scale, dropout and drop path."""

    def __init__(self, dim: int, options: BlockOptions, drop_path: float):
        super().__init__()
        self.dropout, self.drop_path = options.dropout, drop_path
        scale = options.layer_scale
        self.scale = None if scale is None else nn.Parameter(torch.full((dim,), float(scale)))

    def forward(self, x: Float[Tensor, "R T D"], branch: Float[Tensor, "R T D"]) -> Tensor:
        """Return x + branch, the branch scaled and, in training, randomly dropped."""
        if self.scale is not None:
            branch = branch * self.scale
        if self.training and self.dropout:
            branch = F.dropout(branch, self.dropout)
        if self.training and self.drop_path:
            keep = branch.new_empty(len(branch), 1, 1).bernoulli_(1 - self.drop_path)
            branch = branch * keep / (1 - self.drop_path)
        return x + branch


class Block(nn.Module):
    """Self-attention, then cross-attention where there is a context, then the feed-forward network.

    Args:
        dim: width D.
        options: what all blocks of the transformer share.
        context_dim: width C of the context; no cross-attention if None.
        self_attention: False for a block that only attends across.
        drop_path: this block's own drop-path probability.
    """

    self_attention: Attention | None
    cross_attention: Attention | None

    def __init__(
        self,
        dim: int,
        options: BlockOptions,
        *,
        context_dim: int | None = None,
        self_attention: bool = True,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.pre_norm = options.pre_norm

        def norm() -> nn.Module:
            return make_norm(options.norm, dim, options.norm_eps)

        def attention(context_dim: int | None = None) -> Attention:
            return Attention(
                dim,
                options.heads,
                context_dim=context_dim,
                kv_heads=options.kv_heads,
                qk_norm=options.qk_norm,
                context_norm=options.norm if context_dim and options.context_norm else None,
                bias=options.bias,
                dropout=options.attention_dropout,
                norm_eps=options.norm_eps,
            )

        self.self_attention = self.cross_attention = None
        if self_attention:
            self.self_norm, self.self_attention = norm(), attention()
            self.self_residual = Residual(dim, options, drop_path)
        if context_dim is not None:
            self.cross_norm, self.cross_attention = norm(), attention(context_dim)
            self.cross_residual = Residual(dim, options, drop_path)
        self.mlp_norm = norm()
        self.mlp = Mlp(dim, round(dim * options.mlp_ratio), options.activation)
        self.mlp_residual = Residual(dim, options, drop_path)

    def forward(
        self,
        x: Float[Tensor, "R T D"],
        past: KeyValues | None = None,
        *,
        mask: Bool[Tensor, "..."] | None = None,
        causal: bool = False,
        rotation: Rotation | None = None,
        context: KeyValues | None = None,
        context_mask: Bool[Tensor, "..."] | None = None,
        scope: Scope | None = None,
    ) -> tuple[Float[Tensor, "R T D"], KeyValues | None]:
        """Return the block's output, and the keys and values of `past` and x together.

        A decoding loop hands the second back as the next step's `past`; training ignores it. It is
        None for a block without self-attention. `context` is the projected context of the
        cross-attention (`cross_attention.kv`).
        """
        kv = None
        if self.self_attention is not None:
            branch = self.self_norm(x) if self.pre_norm else x
            kv = self.self_attention.kv(branch, rotation)
            kv = kv if past is None else past.extend(kv)
            tap = None if scope is None else scope.tap("self")
            branch = self.self_attention(
                branch, kv, mask, causal=causal, rotation=rotation, tap=tap
            )
            x = self.join(x, branch, self.self_residual, self.self_norm)
        if context is not None and self.cross_attention is not None:
            tap = None if scope is None else scope.tap("cross")
            branch = self.cross_norm(x) if self.pre_norm else x
            branch = self.cross_attention(branch, context, context_mask, tap=tap)
            x = self.join(x, branch, self.cross_residual, self.cross_norm)
        branch = self.mlp(self.mlp_norm(x) if self.pre_norm else x)
        return self.join(x, branch, self.mlp_residual, self.mlp_norm), kv

    def join(self, x: Tensor, branch: Tensor, residual: nn.Module, norm: nn.Module) -> Tensor:
        """Return the residual stream with a branch added, normalised behind it if post-norm."""
        x = residual(x, branch)
        return x if self.pre_norm else norm(x)
