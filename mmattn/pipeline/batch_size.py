"""How many pictures to compute at once: measured, on the machine and the model at hand."""

import time
from typing import Any

import torch

from mmattn.pipeline.pictures import Picture
from mmattn.pipeline.pipeline import Pipeline

LARGEST = 256
WORTH = 1.05  # a larger batch must be faster by so much, for it needs more memory


def fastest_batch_size(pipeline: Pipeline, most: int = LARGEST, **options: Any) -> int:
    """Return the power of two, at most `most`, that captions most pictures a second.

    Sizes are doubled as long as that pays and the accelerator's memory suffices. `options` are
    those of `Pipeline.caption`.
    """
    best, rate, size = 1, 0.0, 1
    while size <= min(most, LARGEST):
        try:
            found = size / seconds(pipeline, size, **options)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if found < rate * WORTH:
            break
        best, rate, size = size, found, 2 * size
    return best


def seconds(pipeline: Pipeline, size: int, **options: Any) -> float:
    """Return the least time of three that a batch of grey pictures takes."""
    grey = torch.full((3, *pipeline.bundle.preprocessing.size), 127, dtype=torch.uint8)
    batch = [Picture("", lambda: grey, place) for place in range(size)]
    times = []
    for _ in range(3):
        started = time.perf_counter()
        list(pipeline.results(batch, batch_size=size, **options))
        times.append(time.perf_counter() - started)
    return min(times)
