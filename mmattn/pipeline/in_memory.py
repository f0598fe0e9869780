"""Pictures that are in memory already: PIL images, arrays and tensors become uint8 RGB."""

from threading import Lock

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mmattn.data.images import rgb_tensor
from mmattn.errors import DataError

RGB = UInt8[Tensor, "3 height width"]
# PIL reads an opened file when its pixels are first asked for, and two threads that ask one image
# at the same time spoil it.
_LOADING = Lock()


def from_pil(image: Image.Image, name: str, max_pixels: int) -> RGB:
    """Return a PIL image of any mode, turned upright by its EXIF orientation.

    Raises:
        DataError: where it cannot be decoded, or has more pixels than may be.
    """
    width, height = image.size
    if width * height > max_pixels:
        raise DataError(
            f"{name} has {width:,} x {height:,} = {width * height:,} pixels; the limit is "
            f"{max_pixels:,}. Make the picture smaller, or raise max_pixels."
        )
    with _LOADING:
        return rgb_tensor(image, name)


def from_array(array: np.ndarray, name: str) -> RGB:
    """Return an array [h, w], [h, w, 1], [h, w, 3] or [h, w, 4] of uint8, or floats in [0, 1].

    Raises:
        DataError: for another shape, type or range.
    """
    layers = array if array.ndim == 3 else array[..., None]
    if layers.shape[2] not in (1, 3, 4) or not array.size:
        raise DataError(
            f"{name}: an array of shape {array.shape} is no image: give [height, width, 3] (a "
            "tensor may be [3, height, width])"
        )
    try:  # a copy: torch warns of memory that it may not write to
        pixels = torch.from_numpy(layers.astype(layers.dtype.newbyteorder("="), order="C"))
    except TypeError as error:
        raise DataError(f"{name}: pixels of {array.dtype}: give uint8 or floats") from error
    values = as_bytes(pixels, name).numpy()
    return rgb_tensor(Image.fromarray(values[..., 0] if values.shape[2] == 1 else values), name)


def from_tensor(tensor: Tensor, name: str) -> RGB:
    """Return a tensor [3, h, w], [1, h, w] or [h, w] of uint8, or floats in [0, 1].

    Raises:
        DataError: for another shape, type or range.
    """
    layers = tensor if tensor.dim() == 3 else tensor[None]
    if layers.shape[0] not in (1, 3) or not tensor.numel():
        raise DataError(
            f"{name}: a tensor of shape {tuple(tensor.shape)} is no image: give [3, height, width] "
            "(an array may be [height, width, 3])"
        )
    return as_bytes(layers.detach().cpu(), name).expand(3, -1, -1)


def as_bytes(values: Tensor, name: str) -> UInt8[Tensor, "..."]:
    """Return pixels as uint8; floats are from 0 to 1. Raises DataError for others."""
    if values.dtype == torch.uint8:
        return values
    if not values.is_floating_point():
        kind = str(values.dtype).removeprefix("torch.")
        raise DataError(f"{name}: pixels of {kind}: give uint8, or floats from 0 to 1")
    values = values.float()
    least, most = float(values.min()), float(values.max())
    if not (least >= 0 and most <= 1):
        raise DataError(
            f"{name}: pixels from {least:g} to {most:g}: floats must be from 0 to 1, not "
            "normalised; or give uint8"
        )
    return (values * 255).round().to(torch.uint8)
