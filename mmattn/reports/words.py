"""The words of a data set that name a region: what attention is measured on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mmattn.batch import CaptionBatch
from mmattn.data.dataset import CaptionDataset, GroundedDataset
from mmattn.data.module import CaptionDataModule
from mmattn.errors import DataError
from mmattn.maps.words import Word
from mmattn.placement import PlacedRegion, Transform, seen_regions
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.pictures.grounding import named_words

BATCH = 64  # images that are measured together
Regions = dict[str, PlacedRegion]  # of the words of a caption


class GroundedImages(NamedTuple):
    """The regions that the first captions of images name, as far as the network sees them.

    `unseen` counts those that lie wholly outside the network's picture: they are not in `regions`.
    """

    regions: dict[int, Regions]
    unseen: int


@dataclass(frozen=True)
class NamedRegions:
    """Some images of a set, one caption each, and the words of it that name a region.

    `regions` are one for each of the `words` of each image.
    """

    indices: tuple[int, ...]
    batch: CaptionBatch
    words: tuple[tuple[Word, ...], ...]
    regions: tuple[tuple[PlacedRegion, ...], ...]


def grounded_images(
    dataset: CaptionDataset, transform: Transform, limit: int | None
) -> GroundedImages:
    """Return the regions that the first caption names, for at most `limit` images that show some.

    The images are spread over the set; all of them if `limit` is None, none for a data set that
    knows no regions. `transform` makes the network's picture. Raises DataError for a region of
    another size than its image, ConfigError for a transform of unknown geometry.
    """
    if not isinstance(dataset, GroundedDataset):
        return GroundedImages({}, 0)
    found: dict[int, Regions] = {}
    unseen = 0
    for index in spread_order(len(dataset)):
        if limit is not None and len(found) >= limit:
            break
        words = dataset.captions(index)[0].split()
        masks = {word: mask for word, mask in dataset.regions(index).items() if word in words}
        if masks:
            check_regions(dataset, index, masks)
            regions = seen_regions(masks, transform)
            unseen += len(masks) - len(regions)
            if regions:
                found[index] = regions
    return GroundedImages(dict(sorted(found.items())), unseen)


def spread_order(length: int) -> list[int]:
    """Return 0 … length - 1 in an order whose every beginning is spread over the whole.

    Steps of the golden section: the same order every time, without a seed.
    """
    steps = np.arange(length) * ((np.sqrt(5) - 1) / 2) % 1
    return np.argsort(np.argsort(steps)).tolist()


def check_regions(dataset: CaptionDataset, index: int, masks: Mapping[str, np.ndarray]) -> None:
    """Raise DataError where a region is not of its image's size."""
    height, width = dataset.image(index).shape[-2:]
    for word, mask in masks.items():
        if mask.shape != (height, width):
            size = " x ".join(map(str, mask.shape))
            raise DataError(
                f"{dataset.key(index)}: the region of {word!r} is {size} and the image {height} x "
                f"{width} pixels (height x width): a region is a mask of its image"
            )


def check_words(
    name: str, data: CaptionDataModule, dataset: CaptionDataset, regions: Mapping[int, Regions]
) -> None:
    """Raise DataError where captions are cut (`data.max_length`) before any word with a region."""
    for index, named in regions.items():
        if named_words(data.tokenizer, data.encode(dataset.captions(index)[0]), named):
            return
    if regions:
        raise DataError(
            f"{name}: {len(regions)} captions name regions, but none of those words is within the "
            f"{data.max_length} tokens that are read of a caption: set data.max_length higher"
        )


def named_regions(
    task: CaptioningTask,
    data: CaptionDataModule,
    dataset: CaptionDataset,
    regions: Mapping[int, Regions],
) -> Iterator[NamedRegions]:
    """Yield the images that have `regions`, in batches of about equal size, first captions only."""
    parts = np.array_split(np.array(list(regions), dtype=int), max(1, -(-len(regions) // BATCH)))
    for part in parts:
        chosen = tuple(part.tolist())
        if chosen:
            batch = data.evaluation_batch(dataset, chosen)
            yield _named(task, chosen, batch, [regions[index] for index in chosen])


def _named(
    task: CaptioningTask, indices: tuple[int, ...], batch: CaptionBatch, regions: list[Regions]
) -> NamedRegions:
    tokenizer = task.tokenizer
    captions = [
        tokenizer.until_end(written[0, valid[0]].tolist())
        for written, valid in zip(batch.labels, batch.valid, strict=True)
    ]
    words = [
        tuple(named_words(tokenizer, ids, own)) for ids, own in zip(captions, regions, strict=True)
    ]
    return NamedRegions(
        indices=indices,
        batch=batch.with_captions(captions, tokenizer.begin_id).to(task.device),
        words=tuple(words),
        regions=tuple(
            tuple(own[word.text] for word in named)
            for named, own in zip(words, regions, strict=True)
        ),
    )
