"""How a picture becomes a network's input, as plain values that a model folder can hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torchvision.transforms import v2

from mmattn.data.transforms import CenterCropDown, ToNormalised
from mmattn.errors import ConfigError

Size = tuple[int, int]
# How a centre crop rounds a margin that is no whole number.
CROPS = {"even": v2.CenterCrop, "down": CenterCropDown}
INTERPOLATIONS = {
    mode.value: mode
    for mode in (
        v2.InterpolationMode.NEAREST,
        v2.InterpolationMode.NEAREST_EXACT,
        v2.InterpolationMode.BILINEAR,
        v2.InterpolationMode.BICUBIC,
    )
}


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop, normalise: uint8 RGB of any size -> float32 [3, height, width].

    Attributes:
        size: (height, width) that the network gets.
        resize: what a picture is resized to first: (height, width) whatever its shape, or the
            length of its shorter side; None leaves it as it is.
        crop: the middle (height, width) is cut out; None cuts nothing.
        interpolation: "nearest", "nearest-exact", "bilinear" or "bicubic", with antialiasing.
        mean, std: of each channel, of values in [0, 1].
        crop_rounding: where the margins of a crop cannot be equal, "even" rounds the first half to
            even (torchvision), "down" makes it the smaller one (Hugging Face).

    Raises:
        ConfigError: for values that do not fit each other.
    """

    size: Size
    resize: Size | int | None
    crop: Size | None
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_rounding: str = "even"

    def __post_init__(self):
        if self.interpolation not in INTERPOLATIONS:
            raise ConfigError(
                f"preprocessing.interpolation is {self.interpolation!r}; "
                f"known: {', '.join(INTERPOLATIONS)}"
            )
        if self.crop_rounding not in CROPS:
            raise ConfigError(
                f"preprocessing.crop_rounding is {self.crop_rounding!r}; known: {', '.join(CROPS)}"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or not all(self.std):
            raise ConfigError(
                f"preprocessing: mean {self.mean} and std {self.std} must be three numbers each, "
                "std without a zero"
            )
        made = self.crop or self.resize
        if made is not None and made != self.size:
            raise ConfigError(
                f"preprocessing makes pictures of {made}, but the network's are {self.size}"
            )

    def transform(self) -> nn.Module:
        """Return the transform: uint8 [3, h, w] -> float32 [3, height, width]."""
        steps: list[nn.Module] = []
        if self.resize is not None:
            size = [self.resize] if isinstance(self.resize, int) else list(self.resize)
            mode = INTERPOLATIONS[self.interpolation]
            steps.append(v2.Resize(size, interpolation=mode, antialias=True))
        if self.crop is not None:
            steps.append(CROPS[self.crop_rounding](list(self.crop)))
        return v2.Compose([*steps, ToNormalised(self.mean, self.std)])

    def settings(self) -> dict[str, Any]:
        """Return the values as JSON holds them."""

        def plain(value: Any) -> Any:
            return list(value) if isinstance(value, tuple) else value

        return {name: plain(value) for name, value in vars(self).items()}

    @classmethod
    def of_settings(cls, values: dict[str, Any]) -> "Preprocessing":
        """Return what `settings` wrote. Raises ConfigError for other values."""

        def own(value: Any) -> Any:
            return tuple(value) if isinstance(value, list) else value

        try:
            return cls(**{name: own(value) for name, value in values.items()})
        except TypeError as error:
            raise ConfigError(f"preprocessing: {error}") from error

    @classmethod
    def of_transform(
        cls, transform: Callable[[Tensor], Tensor], image_size: Sequence[int]
    ) -> "Preprocessing":
        """Read off what an evaluation transform does.

        A transform that does not resize was made for pictures of one size: others are resized to
        `image_size`. Raises ConfigError for a step that these values do not express.
        """
        size = (image_size[0], image_size[1])
        values: dict[str, Any] = {"size": size, "resize": size, "crop": None}
        values |= {"interpolation": "bilinear", "mean": (0.0,) * 3, "std": (1.0,) * 3}
        for step in steps_of(transform):
            if isinstance(step, ToNormalised):
                values |= {"mean": tuple(step.mean), "std": tuple(step.std)}
            elif isinstance(step, v2.CenterCrop):
                values["crop"] = _pair(step.size)
            elif isinstance(step, CenterCropDown):
                values |= {"crop": step.size, "crop_rounding": "down"}
            elif isinstance(step, v2.Resize) and values["crop"] is None and step.max_size is None:
                values["resize"] = _resize(step)
                values["interpolation"] = v2.InterpolationMode(step.interpolation).value
            elif not isinstance(step, (v2.Identity, nn.Identity)):
                raise ConfigError(
                    f"{type(step).__name__} is not one of Resize, CenterCrop and ToNormalised, in "
                    "this order: a model folder cannot hold this preprocessing"
                )
        return cls(**values)


def steps_of(transform: Callable[[Tensor], Tensor]) -> list[Callable[[Tensor], Tensor]]:
    """Return the single steps of a transform, in order; a subclass of Compose is one step."""
    if type(transform) not in (v2.Compose, nn.Sequential):
        return [transform]
    inner: Any = transform.transforms if isinstance(transform, v2.Compose) else transform
    return [step for part in inner for step in steps_of(part)]


def _pair(size: Any) -> Size:
    """torchvision keeps one number, or a list of one or two."""
    numbers = [size] if isinstance(size, int) else list(size)
    return numbers[0], numbers[-1]


def _resize(step: v2.Resize) -> Size | int:
    numbers: Any = [step.size] if isinstance(step.size, int) else step.size
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
