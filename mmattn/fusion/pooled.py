"""Learned queries that look at everything."""

from typing import Any

import torch
from torch import nn

from mmattn.attention import padding_mask
from mmattn.blocks import BlockOptions
from mmattn.fusion.stacked import StackedFusion, across
from mmattn.fusion.stream import Encoder, Fused, joined, scope
from mmattn.initialisation import initialise
from mmattn.taps import Listener


class PooledFusion(StackedFusion):
    """Learned queries attend to each other and to all tokens of both; their mean is the summary.

    Args:
        queries: number of queries Q; the other arguments are those of `CrossFusion`.
    """

    reads = (("queries", "mean"),)
    words = False

    def __init__(
        self,
        dim: int,
        depth: int,
        block: BlockOptions,
        *,
        queries: int,
    ):
        super().__init__(dim, depth, block)
        if queries < 1:
            raise ValueError(f"fusion.queries={queries}: at least one query gathers what is there")
        self.kinds = nn.Embedding(2, dim)
        self.queries = nn.Parameter(torch.empty(queries, dim))
        self.blocks = self._blocks(block, dim)
        self.norm = self._norm()
        initialise(self, depth)

    def forward(self, image: Encoder, text: Encoder, recorder: Listener | None = None) -> Fused:
        """Return what the queries gathered."""
        seen, read = image(None), text(None)
        x = seen.spread() + self.kinds.weight[0]
        context = torch.cat([x, read.spread() + self.kinds.weight[1]], 1)
        valid = joined(seen, read, context)
        mask = None if valid is None else padding_mask(valid)
        x = self.queries.expand(len(context), -1, -1)
        for i, block in enumerate(self.blocks):
            x, _ = block(
                x,
                context=across(block).kv(context),
                context_mask=mask,
                scope=scope(recorder, "queries", i),
            )
        return Fused(self.norm(x).mean(1), None)

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments, as plain values."""
        return {**super().settings(), "queries": len(self.queries)}
