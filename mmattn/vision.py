"""The vision transformer: patch embedding, prefix tokens, positions and a stack of blocks."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmattn.attention import make_norm
from mmattn.backbones import TimmPatches
from mmattn.batch import ImageTokens
from mmattn.blocks import BeforeBlock, Block, BlockOptions
from mmattn.initialisation import initialise
from mmattn.patches import PatchEmbedding
from mmattn.pooling import AttentionPooler
from mmattn.positions import Rotation, image_rotation, image_sinusoids, resize_positions
from mmattn.taps import Listener


class VisionTransformer(nn.Module):
    """A vision transformer over any patch embedding (Dosovitskiy et al. 2021).

    Args:
        image_size: (height, width) for which learned positions are made; other sizes interpolate.
        patches: the patch embedding; its `dim` is the width D.
        depth: number of blocks L; 0 leaves the patch embeddings as they are, with positions.
        block: what all blocks share.
        class_token: put a class token first.
        registers: number of register tokens (Darcet et al. 2024) after the class token.
        position: "learned", "sinusoidal", "rotary" (axial) or "none".
        embed_norm: normalise before the first block (CLIP), "layer" or "rms", else None.
        pooler: what reduces the tokens to a fixed number behind the last block (CoCa); its `dim`
            is then the width D that is published.
        gradient_checkpointing: recompute the blocks in the backward pass instead of storing them.
    """

    def __init__(
        self,
        image_size: Sequence[int],
        patches: PatchEmbedding,
        depth: int,
        block: BlockOptions,
        *,
        class_token: bool = False,
        registers: int = 0,
        position: str = "learned",
        embed_norm: str | None = None,
        pooler: AttentionPooler | None = None,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        if position not in ("learned", "sinusoidal", "rotary", "none"):
            raise ValueError(
                f"position is {position!r}; choose learned, sinusoidal, rotary or none"
            )
        dim = patches.dim
        self.dim = dim if pooler is None else pooler.dim
        self.image_size = (image_size[0], image_size[1])
        self.depth, self.position, self.block_options = depth, position, block
        self.head_dim: int = dim // block.heads
        self.prefix = int(class_token) + registers
        self.class_token, self.gradient_checkpointing = class_token, gradient_checkpointing
        self.patches = patches
        self.grid = patches.grid(self.image_size)
        self.prefix_tokens = nn.Parameter(torch.empty(self.prefix, dim)) if self.prefix else None
        learned = position == "learned"
        size = self.grid[0] * self.grid[1]
        self.position_table = nn.Parameter(torch.empty(size, dim)) if learned else None
        self.embed_norm_kind = embed_norm
        self.embed_norm = (
            make_norm(embed_norm, dim, block.norm_eps) if embed_norm else nn.Identity()
        )
        self.blocks = nn.ModuleList(
            Block(dim, block, drop_path=block.drop_path_at(i, depth)) for i in range(depth)
        )
        self.pooler = pooler
        self.norm = (
            make_norm(block.norm, self.dim, block.norm_eps) if block.pre_norm else nn.Identity()
        )
        initialise(self, depth, keep=patches.backbone if isinstance(patches, TimmPatches) else None)

    def forward(
        self, images: Float[Tensor, "B C height width"], recorder: Listener | None = None
    ) -> ImageTokens:
        """Return the encoded tokens of images of any size that the patch embedding accepts."""
        return self.encode_patches(self.patches(images), recorder)

    def encode_features(
        self, features: Float[Tensor, "B F h w"], recorder: Listener | None = None
    ) -> ImageTokens:
        """Return the encoded tokens of a frozen backbone's feature map (see `TimmPatches`)."""
        return self.encode_patches(self.project(features), recorder)

    def project(self, features: Float[Tensor, "B F h w"]) -> Float[Tensor, "B D h w"]:
        """Return the patch embeddings of a frozen backbone's feature map (see `TimmPatches`).

        Raises ValueError where the patches come from no backbone.
        """
        if not isinstance(self.patches, TimmPatches):
            raise ValueError("only a timm backbone (TimmPatches) has features to keep")
        return self.patches.embed(features)

    def encode_patches(
        self,
        patches: Float[Tensor, "B D h w"],
        recorder: Listener | None = None,
        before_block: BeforeBlock | None = None,
    ) -> ImageTokens:
        """Return the encoded tokens of embedded patches.

        `before_block` changes what each block is given (`GatedFusion`).
        """
        grid = (patches.shape[-2], patches.shape[-1])
        x = self.embed(patches.flatten(2).transpose(1, 2), grid)
        rotation = self._rotation(grid, x.device)
        # The backward pass runs a checkpointed block again, which would record its maps again.
        recompute = self.gradient_checkpointing and self.training and recorder is None
        for i, block in enumerate(self.blocks):
            scope = None if recorder is None else recorder.at("vision", i)
            x = x if before_block is None else before_block(i, x)
            if recompute and torch.is_grad_enabled():
                x, _ = checkpoint(block, x, use_reentrant=False, rotation=rotation)
            else:
                x, _ = block(x, rotation=rotation, scope=scope)
        if self.pooler is not None:
            x = self.pooler(x, None if recorder is None else recorder.tap("vision.pool"))
        return ImageTokens(self.norm(x), grid, self.prefix)

    @torch.no_grad()
    def resize(self, image_size: tuple[int, int]) -> None:
        """Make `image_size` the native size: learned positions are interpolated once, for good."""
        grid = self.patches.grid(image_size)
        if self.position_table is not None:
            table = resize_positions(self.position_table, self.grid, grid)
            learns = self.position_table.requires_grad
            self.position_table = nn.Parameter(table.clone(), requires_grad=learns)
        self.image_size, self.grid = image_size, grid

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments; of the modules among them, theirs."""
        return {
            "image_size": list(self.image_size),
            "patches": self.patches.settings(),
            "depth": self.depth,
            "block": asdict(self.block_options),
            "class_token": self.class_token,
            "registers": self.prefix - int(self.class_token),
            "position": self.position,
            "embed_norm": self.embed_norm_kind,
            "pooler": None if self.pooler is None else self.pooler.settings(),
            "gradient_checkpointing": self.gradient_checkpointing,
        }

    def embed(
        self, x: Float[Tensor, "B S D"], grid: tuple[int, int]
    ) -> Float[Tensor, "B {self.prefix}+S D"]:
        """Add positions, put the prefix tokens first, normalise."""
        if self.position_table is not None:
            x = x + resize_positions(self.position_table, self.grid, grid)
        elif self.position == "sinusoidal":
            x = x + image_sinusoids(grid, self.patches.dim).to(x)
        if self.prefix_tokens is not None:
            x = torch.cat([self.prefix_tokens.expand(x.shape[0], -1, -1), x], dim=1)
        return self.embed_norm(x)

    def _rotation(self, grid: tuple[int, int], device: torch.device) -> Rotation | None:
        if self.position != "rotary":
            return None
        return image_rotation(grid, self.head_dim, self.prefix).to(device)


def pool(image: ImageTokens, how: str) -> Float[Tensor, "B D"]:
    """Return one vector an image: its class token ("class") or the mean of its patches ("mean").

    Raises ValueError for another `how`, and for "class" where there is no prefix token.
    """
    if how == "mean":
        return image.tokens[:, image.prefix :].mean(1)
    if how != "class":
        raise ValueError(f"pool is {how!r}; choose 'class' or 'mean'")
    if not image.prefix:
        raise ValueError("pool='class' needs a class token: set class_token=true or pool='mean'")
    return image.tokens[:, 0]
