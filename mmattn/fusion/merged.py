"""One stream of both: every token looks at every other."""

import torch
from torch import nn

from mmattn.attention import padding_mask
from mmattn.blocks import BlockOptions
from mmattn.fusion.stacked import StackedFusion
from mmattn.fusion.stream import Encoder, Fused, joined, scope
from mmattn.initialisation import initialise
from mmattn.taps import Listener


class MergedFusion(StackedFusion):
    """One stream: the image's tokens, then the text's, each kind marked by a learned vector.

    The text's begin token is the summary. The arguments are those of `CrossFusion`.
    """

    reads = (("text", "first"),)

    def __init__(self, dim: int, depth: int, block: BlockOptions):
        super().__init__(dim, depth, block)
        self.kinds = nn.Embedding(2, dim)
        self.blocks = self._blocks(block, None)
        self.norm = self._norm()
        initialise(self, depth)

    def forward(self, image: Encoder, text: Encoder, recorder: Listener | None = None) -> Fused:
        """Return the text's part of the stream."""
        seen, read = image(None), text(None)
        x = seen.spread() + self.kinds.weight[0]
        y = read.spread() + self.kinds.weight[1]
        first = x.shape[1]
        x = torch.cat([x, y], 1)
        valid = joined(seen, read, x)
        mask = None if valid is None else padding_mask(valid)
        for i, block in enumerate(self.blocks):
            x, _ = block(x, mask=mask, scope=scope(recorder, "both", i))
        x = self.norm(x)
        return Fused(x[:, first], x[:, first:])
