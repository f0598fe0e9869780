"""From what was recorded while captions were written to a record of each caption."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.batch import ImageTokens
from mmattn.captioner import Captioner
from mmattn.maps.archive import IMAGE_SIDE, bounded
from mmattn.maps.geometry import patch_maps
from mmattn.maps.methods import cross_layers
from mmattn.maps.record import AttentionRecord, Layers, MethodMaps
from mmattn.maps.words import Span, group_words
from mmattn.placement import placement_of
from mmattn.recorder import Recorder

POOL = "vision.pool"


@dataclass(frozen=True)
class AttentionChoice:
    """Which cross-attention is kept with captions.

    Attributes:
        layers: decoder layers that attend to the image, negative ones counted from the last; all
            if None.
        heads: heads of each; all if None.
    """

    layers: Sequence[int] | None = None
    heads: Sequence[int] | None = None

    def listen(self, model: Captioner) -> "Heard":
        """Return what hears a model. Raises ValueError for a layer that it lacks."""
        sites = [f"text.{layer}.cross" for layer in cross_layers(model, self.layers)]
        pool = None if model.vision.pooler is None else Recorder([POOL])
        return Heard(Recorder(sites, self.heads), pool, tuple(sites))


@dataclass(frozen=True)
class Heard:
    """What was recorded of one batch.

    Attributes:
        decoding: hears the captions being written.
        encoding: hears the images being pooled; None where no image is.
        sites: the cross-attentions, first layer first.
    """

    decoding: Recorder
    encoding: Recorder | None
    sites: tuple[str, ...]

    def weights(self, captions: int) -> Float[Tensor, "L B N H T keys"]:
        """Return the weights over an image's tokens of `captions` = N captions of each image.

        Where the decoder attends to pooled tokens, theirs times what the pooler gave them, mean
        over its heads: that is the share of a caption's token that goes by way of each image token.
        """
        found = torch.stack([self.decoding.maps[site] for site in self.sites])
        if self.encoding is not None:
            found = found @ self.encoding.maps[POOL].mean(1)[:, None]
        return found.unflatten(3, (captions, -1)).transpose(2, 3)


def attention_record(
    name: str,
    text: str,
    spans: Sequence[Span],
    weights: Float[Tensor, "L H T keys"],
    sites: Sequence[str],
    tokens: ImageTokens,
    picture: Tensor,
    transform: nn.Module,
) -> AttentionRecord:
    """Return the record of one caption.

    Args:
        name: of the picture.
        text: the caption.
        spans: the characters of its T tokens.
        weights: of all layers and heads that were recorded.
        sites: the layers' names.
        tokens: of the image, for its grid and prefix.
        picture: uint8 [3, height, width], as the user knows it.
        transform: what made the network's input of it.
    """
    kept = weights.float().cpu().numpy()
    image = picture.permute(1, 2, 0).numpy()
    last = patch_maps(kept[-1].mean(0), tokens.grid, tokens.prefix)
    return AttentionRecord(
        key=name,
        caption=text,
        offsets=tuple(spans),
        words=tuple(group_words(text, spans)),
        cross=Layers(tuple(sites), kept),
        grid=tokens.grid,
        prefix=tokens.prefix,
        image=np.ascontiguousarray(bounded(image, IMAGE_SIDE)),
        placement=placement_of(transform, (image.shape[0], image.shape[1])),
        methods=(MethodMaps("cross-attention, last layer, mean over heads", last),),
    )
