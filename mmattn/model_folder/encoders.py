"""The image encoder of a model that is at hand, to go on from: a linear probe, or fine-tuning."""

import logging
from collections.abc import Sequence
from pathlib import Path

from mmattn.errors import ConfigError
from mmattn.model_folder.source import in_words, read_source
from mmattn.vision import VisionTransformer

log = logging.getLogger(__name__)


def vision_of(
    source: str | Path,
    image_size: Sequence[int] | None = None,
    revision: str | None = None,
) -> VisionTransformer:
    """Return the image encoder of a captioner, a classifier or a joint model, to be trained.

    Args:
        source: a model folder, a run directory that has one, or an id of the hub.
        image_size: (height, width) of the pictures to come; learned positions are interpolated
            where it is another one. As it was if None.
        revision: of the hub.

    Raises:
        ConfigError: where there is no such thing, for a model of texts alone, and for a size that
            the patches do not divide.
        CheckpointError: for what is something else, altered or not whole.
    """
    bundle = read_source(source, revision=revision)
    vision, prepared = bundle.model.vision, bundle.preprocessing
    if vision is None or prepared is None:
        raise ConfigError(f"{source} is {in_words(bundle)}: it has no image encoder")
    log.info(
        "%s was trained on pictures of %s pixels, less %s and divided by %s",
        *(source, " x ".join(map(str, vision.image_size)), prepared.mean, prepared.std),
    )
    if image_size is not None and tuple(image_size) != vision.image_size:
        height, width = image_size
        try:
            vision.resize((height, width))
        except ValueError as error:
            raise ConfigError(f"{source}: image_size={[height, width]}: {error}") from error
    return vision.train().requires_grad_(True)
