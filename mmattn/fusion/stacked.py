"""What the fusions share that put blocks of their own behind the two encoders."""

from dataclasses import asdict
from typing import Any

from torch import nn

from mmattn.attention import Attention, make_norm
from mmattn.blocks import Block, BlockOptions
from mmattn.fusion.stream import Fusion


class StackedFusion(Fusion):
    """What the fusions share that put blocks of their own behind the encoders."""

    words = True

    def __init__(self, dim: int, depth: int, block: BlockOptions):
        super().__init__()
        if depth < 1:
            raise ValueError(f"fusion.depth={depth}: image and text meet in one block or more")
        self.dim, self.depth, self.block_options = dim, depth, block

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments, as plain values."""
        return {"dim": self.dim, "depth": self.depth, "block": asdict(self.block_options)}

    def _blocks(self, options: BlockOptions, context_dim: int | None) -> nn.ModuleList:
        return nn.ModuleList(
            Block(
                self.dim,
                options,
                context_dim=context_dim,
                drop_path=options.drop_path_at(i, self.depth),
            )
            for i in range(self.depth)
        )

    def _norm(self) -> nn.Module:
        """The last normalisation, where the blocks normalise first."""
        options = self.block_options
        if not options.pre_norm:
            return nn.Identity()
        return make_norm(options.norm, self.dim, options.norm_eps)


def across(block: nn.Module) -> Attention:
    """Return the cross-attention of a block that has one."""
    assert isinstance(block, Block)
    assert block.cross_attention is not None
    return block.cross_attention
