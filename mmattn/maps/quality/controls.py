"""Maps that a good map must beat: each is a `MapMethod` that knows less than the model.

- `Uniform` knows nothing.
- `CentredGaussian` knows that things stand in the middle of pictures.
- `RandomisedWeights` knows the picture and the architecture, but has learnt nothing.
- `ShuffledCaption` knows the picture and the caption, but not which map is of which word.

`OtherCaption` is no control: it says how much of a map the place in the sentence alone tells.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.batch import CaptionBatch
from mmattn.captioner import Captioner
from mmattn.errors import DataError
from mmattn.maps.methods import MapMethod
from mmattn.maps.quality.randomisation import randomised


@dataclass(frozen=True)
class Uniform:
    """The same value everywhere: what it scores is chance."""

    title = "uniform"
    signed = False

    def __call__(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B N T h w"]:
        """Return maps of 1/S."""
        height, width = grid_of(model, batch)
        shape = (*batch.tokens.shape, height, width)
        return torch.full(shape, 1 / (height * width), device=batch.tokens.device)


@dataclass(frozen=True)
class CentredGaussian:
    """A Gaussian in the middle of the picture.

    Args:
        sigma: its standard deviation along each side, as a share of that side.
    """

    sigma: float = 0.25
    title = "centred Gaussian"
    signed = False

    def __call__(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B N T h w"]:
        """Return the same map, of sum 1, for every token."""
        device = batch.tokens.device
        rows, columns = (self._side(length).to(device) for length in grid_of(model, batch))
        map = torch.outer(rows, columns)
        return (map / map.sum()).repeat(*batch.tokens.shape, 1, 1)

    def _side(self, length: int) -> Float[Tensor, "S"]:
        place = (torch.arange(length) + 0.5) / length - 0.5
        return torch.exp(-0.5 * (place / self.sigma) ** 2)


@dataclass(frozen=True)
class RandomisedWeights:
    """What a method shows of a copy of the model whose weights are drawn anew.

    Args:
        method: the method.
        seed: of the weights.
    """

    method: MapMethod
    seed: int = 0

    @property
    def title(self) -> str:
        """The control in words."""
        return "randomised weights"

    @property
    def signed(self) -> bool:
        """Whether a value may be negative."""
        return self.method.signed

    def __call__(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B N T h w"]:
        """Return the maps of the copy; `model` stays as it is."""
        return self.method(randomised(model, self.seed), batch)


@dataclass(frozen=True)
class ShuffledCaption:
    """What a method shows of the tokens of a caption, handed out to them in random order.

    A map that belongs to its word is lost by this; one that all words share is not.

    Args:
        method: the method.
        seed: of the order.
    """

    method: MapMethod
    seed: int = 0

    @property
    def title(self) -> str:
        """The control in words."""
        return "shuffled caption"

    @property
    def signed(self) -> bool:
        """Whether a value may be negative."""
        return self.method.signed

    def __call__(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B N T h w"]:
        """Return the maps."""
        order = shuffled_places(batch.valid.cpu(), self.seed).to(batch.labels.device)
        maps = self.method(model, batch)
        return maps.gather(2, order[..., None, None].expand_as(maps))


def shuffled_places(valid: Bool[Tensor, "B N T"], seed: int) -> Int[Tensor, "B N T"]:
    """Return the places of each caption's tokens in random order; padding stays.

    Drawn again, a few times, where all stay.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.arange(valid.shape[-1]).expand(valid.shape).clone()
    for b, n in torch.cartesian_prod(*map(torch.arange, valid.shape[:2])).tolist():
        moving = int(valid[b, n].sum())
        for _ in range(8):
            drawn = torch.randperm(moving, generator=generator)
            if not torch.equal(drawn, drawn.sort().values):
                order[b, n, : len(drawn)] = drawn
                break
    return order


@dataclass(frozen=True)
class OtherCaption:
    """What a method shows of the same picture at the same place of *another* image's caption.

    What it shares with the method's own map is what the place in the sentence alone tells: where
    captions have one form, the query at "... with" looks for an accent before it is named.

    The other image is the next one in the batch, going round, whose caption has other words. Where
    its caption has ended, its last place stands in.

    Args:
        method: the method.
    """

    method: MapMethod

    @property
    def title(self) -> str:
        """The control in words."""
        return "another image's caption, same place"

    @property
    def signed(self) -> bool:
        """Whether a value may be negative."""
        return self.method.signed

    def __call__(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B N T h w"]:
        """Return the maps. Raises DataError where all images of the batch have one caption."""
        other = partners(batch.labels).to(batch.labels.device)
        tokens, labels, valid = batch.tokens[other], batch.labels[other], batch.valid[other]
        maps = self.method(model, replace(batch, tokens=tokens, labels=labels, valid=valid))
        last = (valid.sum(-1, keepdim=True) - 1).clamp(min=0)
        places = torch.arange(valid.shape[-1], device=last.device).expand_as(valid).minimum(last)
        return maps.gather(2, places[..., None, None].expand_as(maps))


def partners(labels: Int[Tensor, "B N T"]) -> Int[Tensor, "B"]:
    """Return for each image the next one, going round, whose captions are others.

    Raises DataError where there is none.
    """
    batch = len(labels)
    same = (labels[:, None] == labels[None]).flatten(2).all(-1).cpu()
    ahead = (torch.arange(batch)[None] - torch.arange(batch)[:, None]) % batch
    ahead = ahead.masked_fill(same, batch)  # farther than any other image, itself included
    if int(ahead.min(1).values.max()) == batch:
        raise DataError(
            f"there is nothing to shuffle: the captions of these {batch} images are the same; give "
            f"images with other captions, or more of them"
        )
    return ahead.argmin(1)


def grid_of(model: Captioner, batch: CaptionBatch) -> tuple[int, int]:
    """Return the patch grid (h, w) of a batch's images; nothing is encoded for it."""
    size = (batch.images.shape[-2], batch.images.shape[-1])
    return size if batch.cached else model.vision.patches.grid(size)
