"""Ways to get one map for every token of a caption; each is a value that a configuration can name.

A method is called with a captioner and a batch and returns [B, N, T, h, w]: row t explains the
token that was written at place t, `batch.labels[..., t]`, that is the query that stood at the token
before it. Maps at places without a label mean nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.batch import CaptionBatch
from mmattn.captioner import Captioner
from mmattn.recorder import Recorder


class MapMethod(Protocol):
    """A way to get a map for every token."""

    @property
    def title(self) -> str:
        """What is drawn, in a few words."""
        ...

    @property
    def signed(self) -> bool:
        """Whether a value may be negative."""
        ...

    def __call__(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B N T h w"]:
        """Return the maps of a batch."""
        ...


@dataclass(frozen=True)
class RawAttention:
    """The cross-attention weights themselves, exact, mean over the chosen layers and heads.

    Args:
        layers: decoder layers, negative ones counted from the last; all if None.
        heads: heads of each layer; all if None.

    A row's mass, its sum, is what the patches got; the rest went to prefix tokens.
    """

    layers: Sequence[int] | None = (-1,)
    heads: Sequence[int] | None = None
    signed = False

    @property
    def title(self) -> str:
        """The method in words."""
        layers = "all layers" if self.layers is None else f"layer {_listed(self.layers)}"
        heads = "mean over heads" if self.heads is None else f"head {_listed(self.heads)}"
        return f"cross-attention, {layers}, {heads}"

    @torch.no_grad()
    def __call__(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B N T h w"]:
        """Return the maps. Raises ValueError for a layer or a head that the decoder lacks."""
        layers = layers_of(model.text.depth, self.layers)
        recorder = Recorder([f"text.{layer}.cross" for layer in layers], self.heads)
        image = model.encode_batch(batch)
        model.decode(image, batch.tokens, recorder)
        weights = recorder.stack("text.*.cross").mean((0, 2))  # [B, N·T, P + S]
        return weights[..., image.prefix :].reshape(*batch.tokens.shape, *image.grid)


def layers_of(depth: int, layers: Sequence[int] | None) -> list[int]:
    """Return layer numbers from 0. Raises ValueError for one that a stack of `depth` lacks."""
    wrong = [layer for layer in layers or () if not -depth <= layer < depth]
    if wrong:
        raise ValueError(
            f"layer {wrong[0]} does not exist: there are {depth}, numbered 0 to {depth - 1} "
            f"or -{depth} to -1"
        )
    return list(range(depth)) if layers is None else [layer % depth for layer in layers]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
