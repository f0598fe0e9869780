"""What a fusion is handed and what it returns: streams of tokens, and one vector an example."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmattn.attention import Attention, KeyValues, padding_mask
from mmattn.blocks import BeforeBlock
from mmattn.taps import Listener, Scope


class Stream(NamedTuple):
    """The encoded tokens of one modality.

    tokens: [U, S, D]; valid: [B, S], False on padding and on what is missing, None where all are
    real; rows: [B], which of the U rows is that of each example, None where U = B in order.
    """

    tokens: Float[Tensor, "U S D"]
    valid: Bool[Tensor, "B S"] | None = None
    rows: Int[Tensor, "B"] | None = None

    @property
    def mask(self) -> Bool[Tensor, "B 1 1 S"] | None:
        """The mask that lets a query see the real tokens only."""
        return None if self.valid is None else padding_mask(self.valid)

    def spread(self) -> Float[Tensor, "B S D"]:
        """Return the tokens of every example, copied where several share them."""
        return self.tokens if self.rows is None else of_examples(self.tokens, self.rows)

    def project(self, attention: Attention) -> KeyValues:
        """Return what an attention makes of the tokens; what is shared is projected once."""
        kv = attention.kv(self.tokens)
        return kv if self.rows is None else KeyValues(*(of_examples(x, self.rows) for x in kv))


def of_examples(x: Float[Tensor, "U ..."], rows: Int[Tensor, "B"]) -> Float[Tensor, "B ..."]:
    """Return the row of every example, copied where several share it.

    On a CPU the gradient of an index is added up one number after the other; that of `index_select`
    is several times as fast, and where every row is shared by as many examples, as in training, a
    sum takes next to no time. On a GPU asking would wait for it, and `index_select` adds in an
    order that changes from run to run.
    """
    if x.device.type != "cpu":
        return x[rows]
    each, rest = divmod(len(rows), len(x))
    if not rest and torch.equal(rows, torch.arange(len(x)).repeat_interleave(each)):
        return x[:, None].expand(-1, each, *x.shape[1:]).flatten(0, 1)
    return x.index_select(0, rows)


Encoder = Callable[[BeforeBlock | None], Stream]


class Fused(NamedTuple):
    """What comes out: one vector an example, and the text's tokens where the image reached them."""

    summary: Float[Tensor, "B D"]
    text: Float[Tensor, "B T D"] | None


class Fusion(nn.Module):
    """What the classifier knows of a fusion.

    Attributes:
        dim: width D of what comes out.
        depth: how many layers L it has, or the encoder that its layers stand in.
        reads: of which tokens the summary is made, as (stream, "first" or "mean").
        words: whether every word of the text gets a state of its own.
    """

    dim: int
    depth: int
    reads: tuple[tuple[str, str], ...]
    words: bool

    @abstractmethod
    def forward(self, image: Encoder, text: Encoder, recorder: Listener | None = None) -> Fused:
        """Run the two encoders and let them attend to each other."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments, as plain values."""


def scope(recorder: Listener | None, stream: str, layer: int) -> Scope | None:
    """Return the listener as a layer of one stream of the fusion sees it."""
    return None if recorder is None else recorder.at(f"fusion.{stream}", layer)


def joined(image: Stream, text: Stream, tokens: Float[Tensor, "B S D"]) -> Tensor | None:
    """Return which of the image's and then the text's tokens are real; None where all are."""
    if image.valid is None and text.valid is None:
        return None
    parts = [
        stream.valid if stream.valid is not None else tokens.new_ones(size, dtype=torch.bool)
        for stream, size in (
            (image, (len(tokens), image.tokens.shape[1])),
            (text, (len(tokens), text.tokens.shape[1])),
        )
    ]
    return torch.cat(parts, 1)


def mean(tokens: Float[Tensor, "B S D"], valid: Bool[Tensor, "B S"] | None) -> Tensor:
    """Return the mean over the real tokens [B, D]; zeros where there is none."""
    if valid is None:
        return tokens.mean(1)
    kept = valid[..., None].to(tokens.dtype)
    return (tokens * kept).sum(1) / kept.sum(1).clamp(min=1)
