"""Cross-attention: the text looks at the image."""

from mmattn.blocks import BlockOptions
from mmattn.fusion.stacked import StackedFusion, across
from mmattn.fusion.stream import Encoder, Fused, scope
from mmattn.initialisation import initialise
from mmattn.taps import Listener


class CrossFusion(StackedFusion):
    """The text attends to itself and to the image; its begin token is the summary.

    Args:
        dim: width D of both encoders' tokens, and of the blocks.
        depth: number of blocks L.
        block: what all blocks share.

    Raises:
        ValueError: without a block.
    """

    reads = (("text", "first"),)

    def __init__(self, dim: int, depth: int, block: BlockOptions):
        super().__init__(dim, depth, block)
        self.blocks = self._blocks(block, dim)
        self.norm = self._norm()
        initialise(self, depth)

    def forward(self, image: Encoder, text: Encoder, recorder: Listener | None = None) -> Fused:
        """Return the text's tokens after they have looked at the image."""
        seen, read = image(None), text(None)
        x = read.spread()
        for i, block in enumerate(self.blocks):
            x, _ = block(
                x,
                mask=read.mask,
                context=seen.project(across(block)),
                context_mask=seen.mask,
                scope=scope(recorder, "text", i),
            )
        x = self.norm(x)
        return Fused(x[:, 0], x)
