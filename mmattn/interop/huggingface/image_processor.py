"""Hugging Face's settings of an image processor as our `Preprocessing`, and back."""

import math
import re
from typing import Any

from mmattn.data.preprocessing import Preprocessing, Size
from mmattn.errors import CheckpointError, ConfigError
from mmattn.interop.clip_colours import CLIP_MEAN, CLIP_STD
from mmattn.interop.json_settings import Settings

# Numbers of Pillow's filters -> what the torchvision-backed image processors make of them.
FILTERS = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
HALF = (0.5, 0.5, 0.5)
# What each image processor does where its file leaves a value out.
ALWAYS: dict[str, Any] = {"do_center_crop": False, "do_rescale": True, "rescale_factor": 1 / 255}
BOTH = {"do_resize": True, "do_normalize": True}
DEFAULTS: dict[str | None, dict[str, Any]] = {
    None: {},  # files older than the names
    "ViT": BOTH | {"resample": 2, "size": 224, "image_mean": HALF, "image_std": HALF},
    "DeiT": BOTH
    | {"resample": 3, "size": 256, "image_mean": HALF, "image_std": HALF}
    | {"do_center_crop": True, "crop_size": 224},
    "Blip": BOTH | {"resample": 3, "size": 384, "image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    "CLIP": BOTH
    | {"resample": 3, "size": 224, "image_mean": CLIP_MEAN, "image_std": CLIP_STD}
    | {"do_center_crop": True, "crop_size": 224},
}
SHORTER_SIDE = "CLIP"  # a single number is a square to all others


def image_preprocessing(settings: Settings, image_size: Size | None = None) -> Preprocessing:
    """Return what an image processor with these settings does, as our own values.

    Its rescaling and normalisation are folded into mean and std, of values that were divided by
    255 first. Images are always read as RGB here.

    Raises:
        CheckpointError: for another image processor, a value that is missing or that our
            `Preprocessing` does not express, or pictures of another size than `image_size`.
    """
    kind = _kind(settings)
    settings = Settings({**ALWAYS, **DEFAULTS[kind], **settings.given()}, settings.where)
    if settings.flag("do_pad", False):
        raise CheckpointError(f"{settings.where}: 'do_pad' is true; padding is not supported")
    resize = crop = None
    if settings.flag("do_resize"):
        resize = _size(settings, "size", shorter_side=kind == SHORTER_SIDE)
    if settings.flag("do_center_crop"):
        crop = _size(settings, "crop_size", shorter_side=False)
    made = crop or resize or image_size
    if not isinstance(made, tuple) or isinstance(crop, int):
        raise CheckpointError(
            f"{settings.where}: pictures come out in sizes of their own, but the model takes one "
            "size: give 'size' a height and a width, or set 'do_center_crop' and 'crop_size'"
        )
    if image_size is not None and made != image_size:
        raise CheckpointError(
            f"{settings.where}: makes pictures of {_pixels(made)}, but the model's are "
            f"{_pixels(image_size)}: one of them belongs to another model"
        )
    mean, std = _folded(settings)
    interpolation = settings.choice("resample", FILTERS) if resize else "bilinear"
    try:
        return Preprocessing(made, resize, crop, interpolation, mean, std, crop_rounding="down")
    except ConfigError as error:
        raise CheckpointError(f"{settings.where}: {error}") from None


def _kind(settings: Settings) -> str | None:
    """Return which image processor it is, whatever its back end; None where the file is older."""
    key = "image_processor_type"
    key = key if settings.has(key) else "feature_extractor_type"
    name = settings.raw(key, None)
    if name is None:
        return None
    kind = re.sub("(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", str(name))
    if kind not in DEFAULTS:
        known = ", ".join(f"{kind}ImageProcessor" for kind in DEFAULTS if kind)
        raise settings.wrong(key, f"one of {known}")
    return kind


def _size(settings: Settings, key: str, *, shorter_side: bool) -> Size | int:
    """Return (height, width), or the length of the shorter side, of any of the forms it is in."""
    value = settings.raw(key)
    if isinstance(value, dict):
        sides = Settings(value, f"{settings.where}: {key}")
        given = {name for name in value if sides.has(name)}
        if given == {"height", "width"}:
            return sides.whole("height"), sides.whole("width")
        if given == {"shortest_edge"}:
            return sides.whole("shortest_edge")
        raise settings.wrong(key, "a height and a width, or a shortest_edge")
    if shorter_side and not isinstance(value, list):
        return settings.whole(key)
    return settings.pair(key)


def _folded(settings: Settings) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of values in [0, 1], for rescaling by any factor and for none."""
    factor = settings.number("rescale_factor") if settings.flag("do_rescale") else 1.0
    if factor <= 0:
        raise settings.wrong("rescale_factor", "above 0")
    top = 255 * factor  # what white is rescaled to
    top = 1.0 if math.isclose(top, 1.0) else top
    if not settings.flag("do_normalize"):
        return (0.0,) * 3, (1 / top,) * 3
    mean, std = (settings.channels(key) for key in ("image_mean", "image_std"))
    return tuple(x / top for x in mean), tuple(x / top for x in std)


def _pixels(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def image_processor_settings(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return the settings of a Hugging Face image processor that does the same.

    Where a crop's two margins cannot be equal, Hugging Face's takes the smaller one first;
    `crop_rounding="even"` may put the picture one pixel further.
    """
    resize, crop = preprocessing.resize, preprocessing.crop
    number_of = {name: number for number, name in FILTERS.items()} | {"nearest": 0}
    kind = "ViT" if crop is None else SHORTER_SIDE if isinstance(resize, int) else "DeiT"
    settings: dict[str, Any] = {
        "image_processor_type": f"{kind}ImageProcessor",
        "do_convert_rgb": True,
        "do_resize": resize is not None,
        "resample": number_of[preprocessing.interpolation],
        "do_center_crop": crop is not None,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
    if isinstance(resize, int):
        settings["size"] = {"shortest_edge": resize}
    else:
        height, width = resize or preprocessing.size
        settings["size"] = {"height": height, "width": width}
    if crop is not None:
        settings["crop_size"] = {"height": crop[0], "width": crop[1]}
    return settings
