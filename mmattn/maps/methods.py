"""Ways to get one map for every token of a caption; each is a value that a configuration can name.

A method is called with a captioner and a batch and returns [B, N, T, h, w]: row t explains the
token that was written at place t, `batch.labels[..., t]`, that is the query that stood at the token
before it. A place without a label gets zeros. The model is run in evaluation mode and left as it
was found. Here are the methods that need a forward pass alone; `gradient_methods` has the others.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.batch import IGNORE, CaptionBatch, ImageTokens
from mmattn.captioner import Captioner
from mmattn.maps.rollout import FusedWeights, Fusion, decoder_rollout, rollout, rows_to_one
from mmattn.maps.value_norms import ValueNorms
from mmattn.recorder import Recorder
from mmattn.taps import Listener


@runtime_checkable
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
        heads = "mean over heads" if self.heads is None else f"head {_listed(self.heads)}"
        return f"cross-attention, {layers_title(self.layers)}, {heads}"

    def __call__(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B N T h w"]:
        """Return the maps. Raises ValueError for a layer or a head that the decoder lacks."""
        recorder = Recorder(cross_sites(model, self.layers), self.heads)
        image, pooled = _run(model, batch, recorder), None
        if model.vision.pooler is not None:
            pooled = pooled_from(model, batch)
        rows = recorder.stack("text.*.cross").mean((0, 2))
        return on_grid(rows if pooled is None else rows @ pooled, image, batch.labels)


@dataclass(frozen=True)
class Rollout:
    """Attention rollout through decoder and encoder (Abnar and Zuidema 2020).

    Args:
        fusion: "mean", "max" or "min" over the heads of each layer.
        layer: follow the weights of this decoder layer's cross-attention into the encoder; if
            None, those of all layers, with what a word knows of the image from earlier words (see
            `decoder_rollout`; a row's mass is then less than 1 by what stays with the text).
    """

    fusion: Fusion = "mean"
    layer: int | None = None
    signed = False

    @property
    def title(self) -> str:
        """The method in words."""
        layers = layers_title(None if self.layer is None else [self.layer])
        return f"attention rollout, {layers}, {self.fusion} over heads"

    def __call__(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B N T h w"]:
        """Return the maps. Raises ValueError for a layer that the decoder lacks."""
        check_every_block_attends(model, self.title)
        check_patches_are_attended_to(model, self.title)
        cross = cross_sites(model, None if self.layer is None else [self.layer])
        own = [site.replace("cross", "self") for site in cross] if self.layer is None else []
        inner = [f"vision.{layer}.self" for layer in range(model.vision.depth)]
        listener = FusedWeights([*inner, *own, *cross], self.fusion)
        image = _run(model, batch, listener)
        found = ([listener.fused[site] for site in sites] for sites in (inner, own, cross))
        with torch.autocast(image.tokens.device.type, enabled=False):
            rows = _followed(*found)
        return on_grid(rows, image, batch.labels)


def _followed(inner: list[Tensor], own: list[Tensor], cross: list[Tensor]) -> Tensor:
    """Follow cross-attention [B, N·T, P + S] into the encoder, and the words [B·N, T, T] if any."""
    if inner:
        encoder = rollout(inner)
        cross = [rows @ encoder for rows in cross]
    if not own:
        return rows_to_one(cross[0])
    captions = [rows.reshape(*own[0].shape[:2], -1) for rows in cross]
    return decoder_rollout(zip(own, captions, strict=True))[1]


@dataclass(frozen=True)
class ValueNorm:
    """The length of what each patch adds to the token (Kobayashi et al. 2020), mean over layers.

    Args:
        layers: decoder layers, negative ones counted from the last; all if None.
        per_head: take the mean of the heads' lengths instead of the length of their sum.
    """

    layers: Sequence[int] | None = (-1,)
    per_head: bool = False
    signed = False

    @property
    def title(self) -> str:
        """The method in words."""
        heads = "mean over heads" if self.per_head else "sum over heads"
        return f"value-weighted norm, {layers_title(self.layers)}, {heads}"

    def __call__(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B N T h w"]:
        """Return the maps. Raises ValueError for a layer that the decoder lacks."""
        check_patches_are_attended_to(model, self.title)
        projections = {
            f"text.{i}.cross": model.get_parameter(f"text.blocks.{i}.cross_attention.to_out.weight")
            for i in cross_layers(model, self.layers)
        }
        listener = ValueNorms(projections, per_head=self.per_head)
        image = _run(model, batch, listener)
        norms = torch.stack([norms.mean(1) for norms in listener.norms.values()])
        return on_grid(norms.mean(0), image, batch.labels)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and each one back into its own mode at the end."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False  # not eval(): a module that is frozen has a train() of its own
        yield
    finally:
        for module in training:
            module.training = True


def cross_sites(model: Captioner, layers: Sequence[int] | None) -> list[str]:
    """Return the sites of the decoder's cross-attentions. Raises what `layers_of` raises."""
    return [f"text.{layer}.cross" for layer in cross_layers(model, layers)]


def cross_layers(model: Captioner, layers: Sequence[int] | None) -> list[int]:
    """Return the numbers of chosen ones among the blocks that attend across.

    Raises ValueError for one that the decoder lacks.
    """
    own = model.text.cross_layers
    return [own[layer] for layer in layers_of(len(own), layers)]


def layers_of(depth: int, layers: Sequence[int] | None) -> list[int]:
    """Return layer numbers from 0. Raises ValueError for one that a stack of `depth` lacks."""
    wrong = [layer for layer in layers or () if not -depth <= layer < depth]
    if wrong:
        raise ValueError(
            f"layer {wrong[0]} does not exist: there are {depth}, numbered 0 to {depth - 1} "
            f"or -{depth} to -1"
        )
    return list(range(depth)) if layers is None else [layer % depth for layer in layers]


def check_every_block_attends(model: Captioner, title: str) -> None:
    """Raise ValueError where a decoder block lacks one of its two attentions."""
    if set(model.text.layout) != {"both"}:
        raise ValueError(f"{title} is defined for blocks with both attentions; these are not")


def check_patches_are_attended_to(model: Captioner, title: str) -> None:
    """Raise ValueError where the decoder attends to pooled tokens."""
    if model.vision.pooler is not None:
        raise ValueError(
            f"{title}: the decoder attends to pooled tokens, which are of no place; only raw "
            "attention follows them to the patches"
        )


@torch.no_grad()
def pooled_from(model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B Q keys"]:
    """Return how much of each image token a pooled one holds, mean over the pooler's heads."""
    recorder = Recorder(["vision.pool"])
    with evaluating(model):
        model.encode_batch(batch, recorder)
    return recorder.maps["vision.pool"].mean(1)


def layers_title(layers: Sequence[int] | None) -> str:
    """Return the layers in words."""
    return "all layers" if layers is None else f"layer {_listed(layers)}"


def on_grid(
    rows: Float[Tensor, "*R keys"], image: ImageTokens, labels: Int[Tensor, "B N T"]
) -> Float[Tensor, "B N T h w"]:
    """Lay rows over the image's tokens out as maps: no prefix tokens, zeros without a label."""
    maps = rows[..., image.prefix :].reshape(*labels.shape, *image.grid)
    return maps.masked_fill((labels == IGNORE)[..., None, None], 0.0)


@torch.no_grad()
def _run(model: Captioner, batch: CaptionBatch, listener: Listener) -> ImageTokens:
    """Let `listener` hear a teacher-forced pass."""
    with evaluating(model):
        image = model.encode_batch(batch, listener)
        model.decode(image, batch.tokens, listener)
    return image


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
