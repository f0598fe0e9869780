"""The words of a data set that name a region: what attention is measured on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmattn.batch import CaptionBatch
from mmattn.data.dataset import CaptionDataset, GroundedDataset
from mmattn.data.module import CaptionDataModule
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import DataError
from mmattn.maps.words import Word, group_words
from mmattn.tasks.captioning import CaptioningTask

BATCH = 64  # images that are measured together
Regions = dict[str, np.ndarray]  # word -> bool mask [height, width]


@dataclass(frozen=True)
class NamedRegions:
    """Some images of a set, one caption each, and the words of it that name a region.

    `masks` are [height, width], one for each of the `words` of each image.
    """

    indices: tuple[int, ...]
    batch: CaptionBatch
    words: tuple[tuple[Word, ...], ...]
    masks: tuple[tuple[np.ndarray, ...], ...]


def grounded_images(dataset: CaptionDataset, limit: int | None) -> dict[int, Regions]:
    """Return the regions that the first caption names, for at most `limit` images that have some.

    The images are spread over the set; all of them if `limit` is None, none for a data set that
    knows no regions. Raises DataError for a region of another size than its image.
    """
    if not isinstance(dataset, GroundedDataset):
        return {}
    found: dict[int, Regions] = {}
    for index in spread_order(len(dataset)):
        if limit is not None and len(found) >= limit:
            break
        words = dataset.captions(index)[0].split()
        regions = {word: mask for word, mask in dataset.regions(index).items() if word in words}
        if regions:
            check_regions(dataset, index, regions)
            found[index] = regions
    return dict(sorted(found.items()))


def spread_order(length: int) -> list[int]:
    """Return 0 … length - 1 in an order whose every beginning is spread over the whole.

    Steps of the golden section: the same order every time, without a seed.
    """
    steps = np.arange(length) * ((np.sqrt(5) - 1) / 2) % 1
    return np.argsort(np.argsort(steps)).tolist()


def check_regions(dataset: CaptionDataset, index: int, regions: Regions) -> None:
    """Raise DataError where a region is not of its image's size."""
    height, width = dataset.image(index).shape[-2:]
    for word, mask in regions.items():
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
    for index, masks in regions.items():
        ids = data.encode(dataset.captions(index)[0])
        if any(word.text in masks for word in words_of(data.tokenizer, ids)):
            return
    if regions:
        raise DataError(
            f"{name}: {len(regions)} captions name regions, but none of those words is within the "
            f"{data.max_length} tokens that are read of a caption: set data.max_length higher"
        )


def words_of(tokenizer: CaptionTokenizer, ids: Sequence[int]) -> list[Word]:
    """Return the words that token ids write."""
    return group_words(tokenizer.decode(ids), tokenizer.offsets(ids))


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
    grouped = [words_of(tokenizer, ids) for ids in captions]
    words = [
        tuple(word for word in own if word.text in masks)
        for own, masks in zip(grouped, regions, strict=True)
    ]
    return NamedRegions(
        indices=indices,
        batch=batch.with_captions(captions, tokenizer.begin_id).to(task.device),
        words=tuple(words),
        masks=tuple(
            tuple(masks[word.text] for word in own)
            for own, masks in zip(words, regions, strict=True)
        ),
    )
