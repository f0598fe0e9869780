"""A pass of a model that learns, before the one that it learns from."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_gradient() -> Iterator[None]:
    """Compute without a gradient, and leave the next pass its own.

    Autocast keeps the weights that it has cast until its block ends, and uses them again. Not every
    version of torch leaves out those cast without a gradient, by which no weight would learn.
    """
    with torch.no_grad():
        try:
            yield
        finally:
            torch.clear_autocast_cache()
