"""From what was recorded while captions were written to a record of each caption."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.batch import ImageTokens
from mmattn.captioner import Captioner
from mmattn.decoding.ensemble import Captioners
from mmattn.errors import ConfigError
from mmattn.maps.geometry import patch_maps
from mmattn.maps.methods import cross_layers
from mmattn.maps.record import AttentionRecord, Layers, MethodMaps
from mmattn.pipeline.preparation import Original
from mmattn.pipeline.wording import Wording
from mmattn.recorder import Recorder, chosen

POOL = "vision.pool"


@dataclass(frozen=True)
class AttentionChoice:
    """Which cross-attention is kept with captions.

    Attributes:
        layers: of the decoder's layers that attend to the image, negative ones counted from the
            last; all if None.
        heads: heads of each, negative ones counted from the last; all if None.
    """

    layers: Sequence[int] | int | None = None
    heads: Sequence[int] | int | None = None

    def check(self, model: Captioner) -> None:
        """Raise ConfigError for a layer or a head that a model does not have, and for none."""
        if listed(self.layers) == [] or listed(self.heads) == []:
            raise ConfigError(f"{self}: give one number at least, or None for all")
        try:
            self.sites(model)
            heads = model.text.block_options.heads
            chosen("heads", listed(self.heads), heads, "each layer of the decoder")
        except ValueError as error:
            raise ConfigError(f"attention: {error}") from None

    def sites(self, model: Captioner) -> tuple[str, ...]:
        """Return the names of the cross-attentions, first layer first."""
        layers = sorted(set(cross_layers(model, listed(self.layers))))
        return tuple(f"text.{layer}.cross" for layer in layers)

    def listen(self, model: Captioner | Captioners) -> "Heard | HeardTogether":
        """Return what hears a model, or several together, of which `check` has nothing to say."""
        if isinstance(model, Captioners):
            return HeardTogether(tuple(self.listen_to(one) for one in model.captioners))
        return self.listen_to(model)

    def listen_to(self, model: Captioner) -> "Heard":
        """Return what hears one model."""
        sites = self.sites(model)
        pool = None if model.vision.pooler is None else Recorder([POOL])
        return Heard(Recorder(sites, listed(self.heads)), pool, sites)


def listed(numbers: Sequence[int] | int | None) -> list[int] | None:
    """Return numbers as a list, None for all of them."""
    if numbers is None:
        return None
    return [numbers] if isinstance(numbers, int) else list(numbers)


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

    def recorded(self, image: ImageTokens, captions: int) -> "Recorded":
        """Return what was recorded of N = `captions` captions of each image.

        Where the decoder attends to pooled tokens, theirs times what the pooler gave them, mean
        over its heads: that is the share of a caption's token that goes by way of each image token.
        """
        found = torch.stack([self.decoding.maps[site] for site in self.sites])
        if self.encoding is not None:
            found = found @ self.encoding.maps[POOL].mean(1)[:, None]
        return Recorded(found.unflatten(3, (captions, -1)).transpose(2, 3), self.sites, image)


@dataclass(frozen=True)
class HeardTogether:
    """What was recorded of one batch that several models wrote together; of each its own layers.

    No weights are averaged: each layer's are those that its model computed.
    """

    members: tuple[Heard, ...]

    @property
    def decoding(self) -> list[Recorder]:
        """Of each model what hears the captions being written."""
        return [member.decoding for member in self.members]

    @property
    def encoding(self) -> list[Recorder | None]:
        """Of each model what hears the images being pooled."""
        return [member.encoding for member in self.members]

    def recorded(self, images: Sequence[ImageTokens], captions: int) -> "Recorded":
        """Return what was recorded, the layers of one model after those of the other."""
        found = [m.recorded(one, captions) for m, one in zip(self.members, images, strict=True)]
        names = [f"model {i}: {site}" for i, one in enumerate(found, 1) for site in one.sites]
        ends = np.cumsum([len(one.sites) for one in found]) - 1
        weights = torch.cat([one.weights for one in found])
        return Recorded(weights, tuple(names), images[0], tuple(ends.tolist()))


@dataclass(frozen=True)
class Recorded:
    """The attention of a batch's captions to their images.

    Attributes:
        weights: over the images' own tokens, also where these are pooled.
        sites: the names of the layers.
        image: for its grid and prefix.
        mapped: the layers, by their places, of which a word's map is the mean.
    """

    weights: Float[Tensor, "L B N H T keys"]
    sites: tuple[str, ...]
    image: ImageTokens
    mapped: tuple[int, ...] = (-1,)

    def record(
        self, place: tuple[int, int], name: str, said: Wording, original: Original
    ) -> AttentionRecord:
        """Return the record of one caption.

        Args:
            place: of the image in the batch, and of the caption among those of the image.
            name: of the picture.
            said: by the caption.
            original: the picture.
        """
        b, n = place
        mine = self.weights[:, b, n, :, : len(said.ids)]
        kept = mine.float().cpu().numpy().copy()  # a view would keep those of the whole batch
        of_layers = np.mean([kept[layer].mean(0) for layer in self.mapped], 0)
        last = patch_maps(of_layers, self.image.grid, self.image.prefix)
        layers = " and ".join(self.sites[layer] for layer in self.mapped)
        return AttentionRecord(
            key=name,
            caption=said.text,
            offsets=said.spans,
            words=said.words,
            cross=Layers(self.sites, kept),
            grid=self.image.grid,
            prefix=self.image.prefix,
            image=original.image,
            placement=original.placement,
            methods=(MethodMaps(f"cross-attention, {layers}, mean over heads", last),),
        )
