"""The text transformer: a decoder with cross-attention, or an encoder; `causal` tells which."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmattn.attention import KeyValues, make_norm, padding_mask
from mmattn.blocks import Block, BlockOptions
from mmattn.initialisation import initialise
from mmattn.positions import LearnedPositions, sinusoids, text_rotation
from mmattn.taps import Listener

Cache = list[KeyValues]  # one entry a layer: the keys and values of all tokens so far


class TextTransformer(nn.Module):
    """Token embeddings, positions and a stack of blocks.

    Args:
        vocab_size: number of tokens V.
        dim: width D.
        depth: number of blocks L.
        block: what all blocks share.
        max_length: the longest text in tokens; only learned positions are bound to it.
        context_dim: width C of what the blocks attend to across; no cross-attention if None.
        causal: a token sees itself and earlier ones (decoder), or all valid ones (encoder).
        position: "learned", "sinusoidal" or "rotary".
        tie_embeddings: the output layer uses the token embeddings (Press and Wolf 2017).
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
        causal: bool = True,
        position: str = "learned",
        tie_embeddings: bool = True,
        gradient_checkpointing: bool = False,
    ):
        super().__init__()
        if position not in ("learned", "sinusoidal", "rotary"):
            raise ValueError(f"position is {position!r}; choose learned, sinusoidal or rotary")
        self.vocab_size, self.dim, self.depth = vocab_size, dim, depth
        self.max_length, self.context_dim, self.causal = max_length, context_dim, causal
        self.position, self.gradient_checkpointing = position, gradient_checkpointing
        self.head_dim = dim // block.heads
        self.embedding = nn.Embedding(vocab_size, dim)
        self.positions = LearnedPositions(max_length, dim) if position == "learned" else None
        self.blocks = nn.ModuleList(
            Block(dim, block, context_dim=context_dim, drop_path=block.drop_path_at(i, depth))
            for i in range(depth)
        )
        self.norm = make_norm(block.norm, dim, block.norm_eps) if block.pre_norm else nn.Identity()
        self.head = None if tie_embeddings else nn.Linear(dim, vocab_size, bias=False)
        initialise(self, depth)

    def memory(self, context: Float[Tensor, "B S C"]) -> list[KeyValues]:
        """Project a context once, for every layer, all its captions and all decoding steps."""
        blocks = (block for block in self.blocks if isinstance(block, Block))
        return [block.cross_attention.kv(context) for block in blocks]

    def forward(
        self,
        tokens: Int[Tensor, "R T"],
        memory: list[KeyValues] | None = None,
        *,
        valid: Bool[Tensor, "R T"] | None = None,
        memory_mask: Bool[Tensor, "..."] | None = None,
        recorder: Listener | None = None,
    ) -> Float[Tensor, "R T D"]:
        """Return the last hidden states of whole texts.

        A decoder needs `valid` only where padding comes *before* tokens: no real token sees
        padding on its right anyway, and the fused kernel is faster without a mask.
        """
        mask = None if valid is None else padding_mask(valid)
        return self._run(tokens, None, memory, mask, memory_mask, recorder)[0]

    def extend(
        self,
        tokens: Int[Tensor, "R T"],
        cache: Cache | None = None,
        memory: list[KeyValues] | None = None,
        *,
        memory_mask: Bool[Tensor, "..."] | None = None,
        recorder: Listener | None = None,
    ) -> tuple[Float[Tensor, "R T D"], Cache]:
        """Return the hidden states of the T newest tokens, and the cache that includes them."""
        return self._run(tokens, cache, memory, None, memory_mask, recorder)

    def logits(self, hidden: Float[Tensor, "*R D"]) -> Float[Tensor, "*R V"]:
        """Return the scores of the next token."""
        if self.head is None:
            return nn.functional.linear(hidden, self.embedding.weight)
        return self.head(hidden)

    def embed(self, tokens: Int[Tensor, "R T"], start: int = 0) -> Float[Tensor, "R T D"]:
        """Return the embeddings of tokens that stand at positions start, start + 1, …"""
        x, length = self.embedding(tokens), tokens.shape[1]
        if self.position == "learned":
            assert self.positions is not None
            # Rows of length sqrt(D), like the positions' own after training, need no scaling here.
            return x + self.positions(length, start)
        if self.position == "sinusoidal":
            return x + sinusoids(start + length, self.dim)[start:].to(x)
        return x

    def _run(self, tokens, cache, memory, mask, memory_mask, recorder):
        start = 0 if not cache else cache[0].k.shape[2]
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
                "causal": self.causal,
                "rotation": rotation,
                "context": None if memory is None else memory[i],
                "context_mask": memory_mask,
                "scope": None if recorder is None else recorder.at("text", i),
            }
            past = None if not cache else cache[i]
            if recompute and torch.is_grad_enabled():
                x, kv = checkpoint(block, x, past, use_reentrant=False, **arguments)
            else:
                x, kv = block(x, past, **arguments)
            newer.append(kv)
        return self.norm(x), newer
