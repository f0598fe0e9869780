"""An alarm for captioners that say the same of every image."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import lightning as L

from mmattn.errors import ConfigError
from mmattn.metrics.collection import Caption
from mmattn.training.parts import captioning_task

log = logging.getLogger(__name__)
REMEDY = (
    "It may be too early to look. If this stays so, the captioner does not use its images: lower "
    "optimizer.lr; see that a frozen encoder gets pictures as it was trained with "
    "(data.eval_transform), so that its features are not all the same; and compare val/loss with "
    "that of other images (callbacks=[default,shuffled_images])"
)


class Variety(NamedTuple):
    """How varied the captions of a set are.

    Attributes:
        images: how many were captioned.
        captions: how many different captions they got.
        references: how many different ones their first references are.
        words: how many different words all captions have.
        commonest: the caption that came most often, and how often that was.
    """

    images: int
    captions: int
    references: int
    words: int
    commonest: tuple[str, int]


def variety(captions: Sequence[Caption]) -> Variety:
    """Return how varied captions are, of at least one image."""
    said = Counter(prediction for _, _, prediction in captions)
    words = {word for prediction in said for word in prediction.split()}
    first = {references[0] for _, references, _ in captions if references}
    # Of captions that came equally often, the first in alphabetical order: the same on every rank.
    commonest = min(said.items(), key=lambda item: (-item[1], item[0]))
    return Variety(len(captions), len(said), len(first), len(words), commonest)


class CaptionVariety(L.Callback):
    """Logs how varied the captions of a validation are, and warns where they hardly are.

    `val/distinct_captions` is the number of different captions over the number of images,
    `val/distinct_words` how many words they use. Both are of all ranks' images, each once. Costs
    nothing worth measuring: the captions are written anyway.

    Args:
        least: what may be the smallest number of different captions, as a share of the different
            (first) references of the same images, before there is a warning; one is always too few.
        images: a warning needs so many images.

    Raises:
        ConfigError: for a share that is none.
    """

    def __init__(self, least: float = 0.05, images: int = 20):
        if not 0 <= least <= 1:
            raise ConfigError(f"callbacks.variety.least={least} is a share, from 0 to 1")
        self.least, self.images = least, images

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the captions before the task has done with them."""
        captions = captioning_task(pl_module).val_scores.merged()
        if trainer.sanity_checking or not captions:  # a joint model may learn none
            return
        found = variety(captions)
        pl_module.log("val/distinct_captions", found.captions / found.images, sync_dist=True)
        pl_module.log("val/distinct_words", float(found.words), sync_dist=True)
        if self.is_poor(found) and trainer.is_global_zero:
            log.warning("%s. %s", in_words(found), REMEDY)

    def is_poor(self, found: Variety) -> bool:
        """Whether the captions are far less varied than their references."""
        expected = max(2.0, self.least * found.references)
        return found.images >= self.images and found.captions < min(expected, found.references)


def in_words(found: Variety) -> str:
    """Return what was seen."""
    text, times = found.commonest
    if found.captions == 1:
        return f"All {found.images:,} validation images got the same caption, {text[:60]!r}"
    return (
        f"{found.images:,} validation images got only {found.captions:,} different captions of "
        f"{found.words:,} words, where their references are {found.references:,}; {times:,} are "
        f"{text[:60]!r}"
    )
