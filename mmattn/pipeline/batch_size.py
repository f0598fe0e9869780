"""How many pictures to compute at once: measured, on the machine and the model at hand."""

import time

import torch

from mmattn.errors import ConfigError
from mmattn.pipeline.pictures import Picture
from mmattn.pipeline.writer import Writer

LARGEST = 256
WORTH = 1.05  # a larger batch must be faster by so much, for it needs more memory


def fastest_batch_size(writer: Writer, most: int = LARGEST) -> int:
    """Return the power of two, at most `most`, with which most pictures a second are captioned.

    Sizes are doubled as long as that pays and the accelerator's memory suffices.

    Raises:
        ConfigError: where the memory does not suffice for one picture.
    """
    best, rate, size = 0, 0.0, 1
    while size <= min(max(most, 1), LARGEST):
        found = pictures_a_second(writer, size)
        if not found or found < rate * WORTH:
            break
        best, rate, size = size, found, 2 * size
    if not best:
        raise ConfigError(
            "the accelerator's memory does not suffice for one picture: load the model with "
            "dtype='bfloat16', ask for fewer beams or samples, or compute on the CPU"
        )
    return best


def pictures_a_second(writer: Writer, size: int) -> float:
    """Return how fast batches of a size are; 0 where the memory does not suffice."""
    try:
        return size / seconds(writer, size)
    except torch.OutOfMemoryError:
        pass  # the error holds what was computed: only behind it can memory be given back
    torch.cuda.empty_cache()
    return 0.0


def seconds(writer: Writer, size: int) -> float:
    """Return the least time of three that a batch of grey pictures takes."""
    grey = torch.full((3, *writer.preparation.preprocessing.size), 127, dtype=torch.uint8)
    batch = [Picture("grey", lambda: grey, place) for place in range(size)]
    times = []
    for _ in range(3):
        started = time.perf_counter()
        list(writer.results(batch, batch_size=size, threads=1))
        times.append(time.perf_counter() - started)
    return min(times)
