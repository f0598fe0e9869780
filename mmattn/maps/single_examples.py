"""Examples that share no image, so that gradients in the image encoder belong to one example."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from mmattn.batch import LabelBatch


def single_examples(batch: LabelBatch, at_once: int) -> Iterator[tuple[list[int], LabelBatch]]:
    """Cut a batch into batches of `at_once` examples, each with a copy of its images.

    Yields the places of the examples, too. All tensors are copies: no graph may keep what was made
    under inference mode. Raises ValueError where `at_once` is less than 1.
    """
    if at_once < 1:
        raise ValueError(f"at_once={at_once}: at least one example is explained at a time")
    for first in range(0, len(batch.keys), at_once):
        places = list(range(first, min(first + at_once, len(batch.keys))))
        yield places, _apart(batch.select(places))


def _apart(batch: LabelBatch) -> LabelBatch:
    """Return the batch with images, and rows, of each example's own."""
    rows = batch.image_rows
    if batch.images is None:
        return batch
    return replace(
        batch,
        images=batch.images[rows.flatten()],
        image_rows=torch.arange(rows.numel(), device=rows.device).view_as(rows),
    )
