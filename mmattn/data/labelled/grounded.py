"""Stores that know where in the picture the thing stands that an example is about."""

from typing import Protocol, runtime_checkable

import numpy as np

from mmattn.data.labelled.example import Example


@runtime_checkable
class GroundedExamples(Protocol):
    """What an `ImageStore` may know besides: where one has to look to label an example rightly."""

    def named_region(self, example: Example) -> np.ndarray | None:
        """Return bool [height, width] of the first image: the thing that the example names.

        None where it names nothing, or nothing that the picture shows.
        """
        ...
