"""A transform as a training run applies it: on bytes, and normalised a batch at a time."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from mmattn.data.preprocessing import steps_of
from mmattn.data.transforms import ToNormalised

Step = Callable[[Tensor], Tensor]
MODES = ("bilinear", "bicubic")


class PixelSteps:
    """The steps of a transform up to its normalisation, which is left to `normalised`.

    Calling it draws the same numbers and gives the same bytes as the steps themselves. Two of them
    are done without torchvision's general machinery, which looks for boxes and masks in its input
    and takes longer than the work: `RandomResizedCrop` and `RandomHorizontalFlip`. All others, and
    subclasses of these two, are called as they are.

    Args:
        transform: uint8 [3, h, w] -> float [3, height, width].

    Attributes:
        normalise: the last step where that is a `ToNormalised`; otherwise None, and calling this
            does the whole transform.
    """

    def __init__(self, transform: Step):
        steps = steps_of(transform)
        last = steps[-1] if steps else None
        own = isinstance(last, ToNormalised) and type(last) is ToNormalised
        self.normalise = cast(ToNormalised, last) if own else None
        self._steps = [_lean(step) for step in (steps[:-1] if self.normalise else steps)]
        self._copies = bool(self._steps) and isinstance(self._steps[0], _CropResize)

    def __call__(self, image: Tensor) -> Tensor:
        """Apply the steps to one image, which is never written to: it may be part of a cache."""
        if not self._copies:
            image = image.clone()
        for step in self._steps:
            image = step(image)
        return image

    def normalised(self, images: Sequence[Tensor]) -> Tensor | None:
        """Return images that were put through the steps as one batch, float32 [n, 3, h, w].

        None where they are not bytes of one size, or are complete without a normalisation.
        """
        kinds = {(image.shape, image.dtype) for image in images}
        if self.normalise is None or len(kinds) != 1 or images[0].dtype != torch.uint8:
            return None
        batch = torch.empty(len(images), *images[0].shape)
        self.normalise.into(batch, images)
        return batch


class _CropResize:
    """`v2.RandomResizedCrop` on one image: the same draws, then its kernel on packed pixels.

    Only for bilinear or bicubic interpolation with antialiasing, of bytes: see `fits`.
    """

    def __init__(self, step: v2.RandomResizedCrop):
        self.step, self.mode = step, _mode(step)
        size: Any = step.size
        self.size = (size[0], size[-1])

    @staticmethod
    def fits(step: v2.RandomResizedCrop) -> bool:
        """Return whether torch resizes bytes for this step here, as torchvision then lets it do."""
        vectors = "AVX" in torch.backends.cpu.get_cpu_capability()
        return vectors and _mode(step) in MODES and bool(step.antialias)

    def __call__(self, image: Tensor) -> Tensor:
        if image.dtype != torch.uint8 or image.ndim != 3 or image.device.type != "cpu":
            return self.step(image)
        box = self.step.make_params([image])
        top, left, height, width = (box[key] for key in ("top", "left", "height", "width"))
        crop = image[:, top : top + height, left : left + width]
        # Copied so that the three channels of a pixel lie together, row after row: the kernel takes
        # such bytes as they are, and would otherwise repack them one by one.
        pixels = crop.permute(1, 2, 0)[None].clone(memory_format=torch.contiguous_format)
        if (height, width) == self.size:
            return pixels[0].permute(2, 0, 1)
        return functional.interpolate(
            pixels.permute(0, 3, 1, 2), self.size, mode=self.mode, antialias=True
        )[0]


def _mode(step: v2.RandomResizedCrop) -> str:
    """Return the name of an interpolation; torchvision keeps what it was given, a name or more."""
    return str(getattr(step.interpolation, "value", step.interpolation))


class _Flip:
    """`v2.RandomHorizontalFlip` on one image."""

    def __init__(self, step: v2.RandomHorizontalFlip):
        self.p = step.p

    def __call__(self, image: Tensor) -> Tensor:
        return image.flip(-1) if torch.rand(1) < self.p else image


def _lean(step: Step) -> Step:
    """Return what does the same as a step in less time, if there is such a thing."""
    if isinstance(step, v2.RandomResizedCrop) and type(step) is v2.RandomResizedCrop:
        return _CropResize(step) if _CropResize.fits(step) else step
    if isinstance(step, v2.RandomHorizontalFlip) and type(step) is v2.RandomHorizontalFlip:
        return _Flip(step)
    return step
