"""How many pictures to compute at once: measured, on the machine and the model at hand."""

import time
from typing import Protocol, runtime_checkable

import torch

from mmattn.errors import ConfigError

LARGEST = 256
WORTH = 1.05  # a larger batch must be faster by so much, for it needs more memory


@runtime_checkable
class Worker(Protocol):
    """What computes batches: it writes captions, or tells classes."""

    def trial(self, size: int) -> None:
        """Compute a batch of a size, of inputs that are at hand."""
        ...


def fastest_batch_size(writer: Worker, most: int = LARGEST) -> int:
    """Return the power of two, at most `most`, with which most pictures a second are computed.

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


def pictures_a_second(writer: Worker, size: int) -> float:
    """Return how fast batches of a size are; 0 where the memory does not suffice."""
    try:
        return size / seconds(writer, size)
    except torch.OutOfMemoryError:
        pass  # the error holds what was computed: only behind it can memory be given back
    torch.cuda.empty_cache()
    return 0.0


def seconds(writer: Worker, size: int) -> float:
    """Return the least time of three that a batch takes."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        writer.trial(size)
        times.append(time.perf_counter() - started)
    return min(times)
