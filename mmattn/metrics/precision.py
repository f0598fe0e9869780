"""Double precision, wherever the values are."""

from torch import Tensor


def in_double(values: Tensor) -> Tensor:
    """Return the values in double precision; on the CPU if their device is Apple's GPU."""
    return with_double(values).double()


def with_double(values: Tensor) -> Tensor:
    """Return the values on a device that has double precision: Apple's GPUs do not."""
    return values.cpu() if values.device.type == "mps" else values
