"""Co-attention: two streams that look at each other."""

from dataclasses import replace

from mmattn.blocks import BlockOptions
from mmattn.fusion.stacked import StackedFusion, across
from mmattn.fusion.stream import Encoder, Fused, mean, scope
from mmattn.initialisation import initialise
from mmattn.taps import Listener


class CoFusion(StackedFusion):
    """Two streams; in every layer each attends to itself and to the other one as it was before.

    The summary is the begin token of the text plus the mean of the image's tokens. The arguments
    are those of `CrossFusion`; a layer holds two blocks.
    """

    reads = (("text", "first"), ("image", "mean"))

    def __init__(self, dim: int, depth: int, block: BlockOptions):
        super().__init__(dim, depth, block)
        # The other stream is one of residual sums, which nothing has normalised yet.
        options = replace(block, context_norm=block.pre_norm or block.context_norm)
        self.image_blocks, self.text_blocks = (self._blocks(options, dim) for _ in range(2))
        self.image_norm, self.text_norm = self._norm(), self._norm()
        initialise(self, depth)

    def forward(self, image: Encoder, text: Encoder, recorder: Listener | None = None) -> Fused:
        """Return both streams after they have looked at each other."""
        seen, read = image(None), text(None)
        x, y = seen.spread(), read.spread()
        layers = zip(self.image_blocks, self.text_blocks, strict=True)
        for i, (image_block, text_block) in enumerate(layers):
            for_image = across(image_block).kv(y)
            # Until the first layer is done, examples that share an image share its tokens.
            for_text = across(text_block).kv(x) if i else seen.project(across(text_block))
            x, _ = image_block(
                x,
                mask=seen.mask,
                context=for_image,
                context_mask=read.mask,
                scope=scope(recorder, "image", i),
            )
            y, _ = text_block(
                y,
                mask=read.mask,
                context=for_text,
                context_mask=seen.mask,
                scope=scope(recorder, "text", i),
            )
        x, y = self.image_norm(x), self.text_norm(y)
        return Fused(y[:, 0] + mean(x, seen.valid), y)
