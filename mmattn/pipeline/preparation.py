"""From a picture to the network's input, and to what is kept of it for its maps."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from mmattn.data.preprocessing import Preprocessing
from mmattn.errors import DataError
from mmattn.maps.archive import IMAGE_SIDE, bounded
from mmattn.maps.geometry import Placement, Size
from mmattn.pipeline.pictures import Picture
from mmattn.placement import placement_of

# How many times as long as wide a picture may be of which the shorter side is resized to a length:
# the whole of it is resized before its middle is cut out.
LONGEST = 200


class Original(NamedTuple):
    """A picture as its user knows it.

    image: uint8 [height, width, 3], at most `IMAGE_SIDE` pixels long. placement: which part of the
    picture, in its own pixels, the network sees.
    """

    image: np.ndarray
    placement: Placement


class Prepared(NamedTuple):
    """A picture as the network gets it, and as it was, where that is kept.

    seen: as another model gets it, that ranks what is said of it; None where there is none.
    """

    pixels: Float[Tensor, "3 height width"]
    original: Original | None
    seen: Tensor | None = None


class Preparation:
    """Prepares pictures of any size for one model.

    Args:
        preprocessing: of the model.
        keep: keep the originals, too, for the sake of their maps.
        other: what another model, that ranks captions, makes of a picture.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        keep: bool,
        other: Callable[[UInt8[Tensor, "3 h w"]], Tensor] | None = None,
    ):
        self.preprocessing, self.keep, self.other = preprocessing, keep, other
        self.transform = preprocessing.transform()

    def __call__(self, picture: Picture) -> Prepared:
        """Read and prepare one picture.

        Raises:
            DataError: where it cannot be read, or has a size that the model cannot take.
        """
        image = picture.read()
        size = (image.shape[1], image.shape[2])
        check_size(picture.name, size, self.preprocessing)
        pixels = self.transform(image)
        original = self.original(image, size) if self.keep else None
        return Prepared(pixels, original, None if self.other is None else self.other(image))

    def original(self, image: UInt8[Tensor, "3 h w"], size: Size) -> Original:
        """Return what is kept of a picture."""
        small = bounded(image.permute(1, 2, 0).numpy(), IMAGE_SIDE)
        return Original(np.array(small, order="C"), placement_of(self.transform, size))


def check_size(name: str, size: Size, preprocessing: Preprocessing) -> None:
    """Raise DataError for a picture of (height, width) that could not be resized, or is not."""
    found, wanted = (
        f"{width:,} x {height:,} pixels" for height, width in (size, preprocessing.size)
    )
    if isinstance(preprocessing.resize, int) and max(size) > LONGEST * min(size):
        raise DataError(
            f"{name} has {found}: one side is more than {LONGEST} times as long as the other; cut "
            "out what matters, or leave it out"
        )
    if preprocessing.resize is None and preprocessing.crop is None and size != preprocessing.size:
        raise DataError(f"{name} has {found}, and this model takes {wanted} only: resize it first")
