"""The figures of a run, in a file that a program can read."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from mmattn.files import write_whole


def write_results(path: Path, values: Mapping[str, float | Tensor]) -> dict[str, float]:
    """Write flat keys and plain numbers as JSON, whole or not at all; return what was written.

    A value that is not finite has no JSON number and is left out.
    """
    numbers = {key: float(value) for key, value in values.items()}
    finite = {key: value for key, value in sorted(numbers.items()) if math.isfinite(value)}
    write_whole(path, (json.dumps(finite, indent=2) + "\n").encode())
    return finite
