"""The text transformer: a decoder with cross-attention, or an encoder; `causal` tells which."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmattn.attention import KeyValues, causal_mask, make_norm, padding_mask
from mmattn.blocks import ACTIVATIONS, BeforeBlock, Block, BlockOptions
from mmattn.initialisation import initialise
from mmattn.positions import LearnedPositions, sinusoids, text_rotation
from mmattn.taps import Listener

# One entry a block: the keys and values of all tokens so far; None without self-attention.
Cache = list[KeyValues | None]
# One entry a block: the projected context; None for a block that does not attend to it.
Memory = list[KeyValues | None]
LAYOUT = ("both", "self", "cross")


class HeadTransform(nn.Module):
    """What BERT puts before its output layer: a linear map, an activation, a normalisation."""

    def __init__(self, dim: int, activation: str, norm: str, norm_eps: float):
        super().__init__()
        self.linear, self.activation = nn.Linear(dim, dim), activation
        self.norm = make_norm(norm, dim, norm_eps)

    def forward(self, x: Float[Tensor, "*R D"]) -> Float[Tensor, "*R D"]:
        """Map every hidden state by itself."""
        return self.norm(ACTIVATIONS[self.activation](self.linear(x)))


class TextTransformer(nn.Module):
    """Token embeddings, positions and a stack of blocks.

    Args:
        vocab_size: number of tokens V.
        dim: width D.
        depth: number of blocks L.
        block: what all blocks share.
        max_length: the longest text in tokens; only learned positions are bound to it.
        context_dim: width C of what the blocks attend to across; no cross-attention if None.
        layout: what each block holds besides its feed-forward network: "self", "cross" or "both"
            attentions (CoCa: unimodal blocks of "self", then "self" and "cross" in turn). If None
            all hold "both", or "self" where there is no context.
        causal: a token sees itself and earlier ones (decoder), or all valid ones (encoder).
        position: "learned", "sinusoidal" or "rotary".
        embed_norm: normalise before the first block (BERT), "layer" or "rms", else None.
        tie_embeddings: the output layer uses the token embeddings (Press and Wolf 2017).
        head_transform: a linear map, the activation and a normalisation before the output layer.
        head_bias: the output layer has a bias.
        gradient_checkpointing: recompute the blocks in the backward pass instead of storing them.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        depth: int,
        block: BlockOptions,
        *,
        max_length: int,
        context_dim: int | None = None,
        layout: Sequence[str] | None = None,
        causal: bool = True,
        position: str = "learned",
        embed_norm: str | None = None,
        tie_embeddings: bool = True,
        head_transform: bool = False,
        head_bias: bool = False,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        if position not in ("learned", "sinusoidal", "rotary"):
            raise ValueError(f"position is {position!r}; choose learned, sinusoidal or rotary")
        self.vocab_size, self.dim, self.depth = vocab_size, dim, depth
        self.max_length, self.context_dim, self.causal = max_length, context_dim, causal
        self.position, self.gradient_checkpointing = position, gradient_checkpointing
        self.block_options, self.embed_norm_kind = block, embed_norm
        self.head_dim = dim // block.heads
        self.layout = checked_layout(layout, depth, context_dim)
        # The numbers of the blocks that attend to the context.
        self.cross_layers = [i for i, kind in enumerate(self.layout) if kind != "self"]
        self.embedding = nn.Embedding(vocab_size, dim)
        self.positions = LearnedPositions(max_length, dim) if position == "learned" else None
        self.embed_norm = (
            make_norm(embed_norm, dim, block.norm_eps) if embed_norm else nn.Identity()
        )
        self.blocks = nn.ModuleList(
            Block(
                dim,
                block,
                context_dim=None if kind == "self" else context_dim,
                self_attention=kind != "cross",
                drop_path=block.drop_path_at(i, depth),
            )
            for i, kind in enumerate(self.layout)
        )
        self.norm = make_norm(block.norm, dim, block.norm_eps) if block.pre_norm else nn.Identity()
        self.head_transform = (
            HeadTransform(dim, block.activation, block.norm, block.norm_eps)
            if head_transform
            else nn.Identity()
        )
        self.head = None if tie_embeddings else nn.Linear(dim, vocab_size, bias=False)
        self.head_bias = nn.Parameter(torch.zeros(vocab_size)) if head_bias else None
        initialise(self, depth)

    def memory(self, context: Float[Tensor, "B S C"]) -> Memory:
        """Project a context once, for every layer, all its captions and all decoding steps."""
        attentions = (block.cross_attention for block in self.blocks if isinstance(block, Block))
        return [None if one is None else one.kv(context) for one in attentions]

    def forward(
        self,
        tokens: Int[Tensor, "R T"],
        memory: Memory | None = None,
        *,
        valid: Bool[Tensor, "R T"] | None = None,
        parallel: Bool[Tensor, "R"] | None = None,
        memory_mask: Bool[Tensor, "..."] | None = None,
        before_block: BeforeBlock | None = None,
        recorder: Listener | None = None,
    ) -> Float[Tensor, "R T D"]:
        """Return the last hidden states of whole texts.

        A decoder needs `valid` only where padding comes *before* tokens: no real token sees
        padding on its right anyway, and the fused kernel is faster without a mask. The rows of a
        decoder that are `parallel` see their whole text, as in an encoder; that needs `valid`.
        `before_block` changes what each block is given (`GatedFusion`).
        """
        mask, causal = None if valid is None else padding_mask(valid), self.causal
        if parallel is not None and causal:
            mask, causal = mixed_mask(parallel, valid), False
        return self._run(tokens, None, memory, mask, memory_mask, recorder, before_block, causal)[0]

    def extend(
        self,
        tokens: Int[Tensor, "R T"],
        cache: Cache | None = None,
        memory: Memory | None = None,
        *,
        memory_mask: Bool[Tensor, "..."] | None = None,
        recorder: Listener | None = None,
    ) -> tuple[Float[Tensor, "R T D"], Cache]:
        """Return the hidden states of the T newest tokens, and the cache that includes them."""
        return self._run(tokens, cache, memory, None, memory_mask, recorder, None, self.causal)

    def logits(self, hidden: Float[Tensor, "*R D"]) -> Float[Tensor, "*R V"]:
        """Return the scores of the next token."""
        return nn.functional.linear(self.head_transform(hidden), self.head_weight, self.head_bias)

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments, as plain values."""
        return {
            "vocab_size": self.vocab_size,
            "dim": self.dim,
            "depth": self.depth,
            "block": asdict(self.block_options),
            "max_length": self.max_length,
            "context_dim": self.context_dim,
            "layout": list(self.layout),
            "causal": self.causal,
            "position": self.position,
            "embed_norm": self.embed_norm_kind,
            "tie_embeddings": self.head is None,
            "head_transform": isinstance(self.head_transform, HeadTransform),
            "head_bias": self.head_bias is not None,
            "gradient_checkpointing": self.gradient_checkpointing,
        }

    @property
    def head_weight(self) -> Float[Tensor, "V D"]:
        """The output layer's weight, or the token embeddings that it shares."""
        return self.embedding.weight if self.head is None else self.head.weight

    def embed(self, tokens: Int[Tensor, "R T"], start: int = 0) -> Float[Tensor, "R T D"]:
        """Return the embeddings of tokens that stand at positions start, start + 1, …"""
        x, length = self.embedding(tokens), tokens.shape[1]
        if self.position == "learned":
            assert self.positions is not None
            # Rows of length sqrt(D), like the positions' own after training, need no scaling here.
            x = x + self.positions(length, start)
        elif self.position == "sinusoidal":
            x = x + sinusoids(start + length, self.dim)[start:].to(x)
        return self.embed_norm(x)

    def _run(self, tokens, cache, memory, mask, memory_mask, recorder, before_block, causal):
        start = next((kv.k.shape[2] for kv in cache or () if kv is not None), 0)
        x = self.embed(tokens, start)
        rotation = None
        if self.position == "rotary":
            rotation = text_rotation(tokens.shape[1], self.head_dim, start).to(x.device)
        # The backward pass runs a checkpointed block again, which would record its maps again.
        recompute = self.gradient_checkpointing and self.training and recorder is None
        newer = []
        for i, block in enumerate(self.blocks):
            arguments = {
                "mask": mask,
                "causal": causal,
                "rotation": rotation,
                "context": None if memory is None else memory[i],
                "context_mask": memory_mask,
                "scope": None if recorder is None else recorder.at("text", i),
            }
            past = None if not cache else cache[i]
            x = x if before_block is None else before_block(i, x)
            if recompute and torch.is_grad_enabled():
                x, kv = checkpoint(block, x, past, use_reentrant=False, **arguments)
            else:
                x, kv = block(x, past, **arguments)
            newer.append(kv)
        return self.norm(x), newer


def mixed_mask(
    parallel: Bool[Tensor, "R"], valid: Bool[Tensor, "R T"] | None
) -> Bool[Tensor, "R 1 T T"]:
    """Return the mask of rows that see all of their text, and of others that see its past.

    Raises:
        ValueError: without `valid`: what sees all must not see padding.
    """
    if valid is None:
        raise ValueError("parallel rows see what is right of them: give `valid`, too")
    length = valid.shape[1]
    past = causal_mask(length, length, valid.device)
    return torch.where(parallel[:, None, None, None], padding_mask(valid), past)


def checked_layout(
    layout: Sequence[str] | None, depth: int, context_dim: int | None
) -> tuple[str, ...]:
    """Return what each of `depth` blocks attends to. Raises ValueError where that cannot be."""
    if layout is None:
        return ("self" if context_dim is None else "both",) * depth
    if len(layout) != depth:
        raise ValueError(f"layout has {len(layout)} entries and depth is {depth}: give one a block")
    unknown = [kind for kind in layout if kind not in LAYOUT]
    if unknown:
        raise ValueError(f"layout has {unknown[0]!r}; choose {', '.join(LAYOUT)}")
    if context_dim is None and set(layout) != {"self"}:
        raise ValueError("layout has blocks that attend across: give them a context_dim")
    if "cross" in layout[:1]:
        raise ValueError("layout begins with 'cross': a text must see itself first")
    return tuple(layout)
