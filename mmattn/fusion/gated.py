"""Gated cross-attention between the blocks of an encoder that may be frozen."""

from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmattn.attention import Attention, KeyValues, make_norm
from mmattn.blocks import BeforeBlock, BlockOptions, Mlp
from mmattn.fusion.stream import Encoder, Fused, Fusion, Stream, mean, scope
from mmattn.initialisation import initialise
from mmattn.taps import Listener, Scope


class GatedLayer(nn.Module):
    """Cross-attention and a feed-forward network, each behind tanh(α), α = 0 at the start.

    Alayrac et al. 2022, section 2.2: what it is put into is at first exactly what it was without.
    """

    def __init__(self, dim: int, options: BlockOptions):
        super().__init__()
        self.cross_norm, self.mlp_norm = (
            make_norm(options.norm, dim, options.norm_eps) for _ in range(2)
        )
        self.cross_attention = Attention(
            dim,
            options.heads,
            kv_heads=options.kv_heads,
            qk_norm=options.qk_norm,
            bias=options.bias,
            dropout=options.attention_dropout,
            norm_eps=options.norm_eps,
        )
        self.mlp = Mlp(dim, round(dim * options.mlp_ratio), options.activation)
        self.cross_gate, self.mlp_gate = (nn.Parameter(torch.zeros(())) for _ in range(2))

    def forward(
        self,
        x: Float[Tensor, "R T D"],
        context: KeyValues,
        mask: Bool[Tensor, "..."] | None,
        scope: Scope | None,
    ) -> Float[Tensor, "R T D"]:
        """Add what x finds in the context, as far as the gates are open."""
        tap = None if scope is None else scope.tap("cross")
        branch = self.cross_attention(self.cross_norm(x), context, mask, tap=tap)
        x = x + self.cross_gate.tanh() * branch
        return x + self.mlp_gate.tanh() * self.mlp(self.mlp_norm(x))


class GatedFusion(Fusion):
    """Gated cross-attention between the blocks of one encoder, which may be frozen.

    Args:
        into: "text" or "image": the encoder that attends to the other one's output.
        dim: its width D; the other's output must have it too.
        depth: number of blocks of that encoder.
        every: a gated layer stands before every so many of them, the first one included.
        block: what the gated layers share.

    The summary is that of the encoder: the text's begin token, or the mean of the image's tokens.

    Raises:
        ValueError: for another `into`, or fewer than one block.
    """

    def __init__(
        self,
        into: str,
        dim: int,
        depth: int,
        block: BlockOptions,
        *,
        every: int = 1,
    ):
        super().__init__()
        if into not in ("text", "image"):
            raise ValueError(f"fusion.into is {into!r}; choose text or image")
        if depth < 1 or every < 1:
            raise ValueError(f"fusion.depth={depth} and every={every} must both be 1 or more")
        self.into, self.depth, self.every, self.block_options = into, depth, every, block
        self.dim = dim
        self.words = into == "text"
        self.reads = (("text", "first"),) if into == "text" else (("image", "mean"),)
        self.layers = nn.ModuleDict(
            {str(i): GatedLayer(dim, block) for i in range(0, depth, every)}
        )
        initialise(self, depth)

    def forward(self, image: Encoder, text: Encoder, recorder: Listener | None = None) -> Fused:
        """Run the encoder `into` with gated layers between its blocks."""
        if self.into == "text":
            read = text(self._before(image(None), recorder))
            tokens = read.spread()
            return Fused(tokens[:, 0], tokens)
        seen = image(self._before(text(None), recorder))
        return Fused(mean(seen.spread(), seen.valid), None)

    def _before(self, context: Stream, recorder: Listener | None) -> BeforeBlock:
        def before(i: int, x: Tensor) -> Tensor:
            if i % self.every:
                return x
            layer = self.layers[str(i)]
            assert isinstance(layer, GatedLayer)
            kv = context.project(layer.cross_attention)
            return layer(x, kv, context.mask, scope(recorder, self.into, i))

        return before

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments, as plain values."""
        return {
            "into": self.into,
            "dim": self.dim,
            "depth": self.depth,
            "block": asdict(self.block_options),
            "every": self.every,
        }
