"""The learning rate of a run in two phases: a schedule, then another rate to the end."""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, SequentialLR

from mmattn.errors import ConfigError


def two_phases(
    optimizer: Optimizer, make_first: Callable[..., Any] | None, steps: int, lr: float | None
) -> LRScheduler:
    """Return a schedule of `steps` steps, then a constant learning rate.

    Args:
        optimizer: whose base learning rate is that of its first group; groups with another one
            (layer-wise decay) keep their ratio.
        make_first: (optimiser, total steps) -> the schedule of the first phase; constant if None.
        steps: of the first phase; 0 leaves it out.
        lr: of the second phase; the optimiser's own if None.

    Raises:
        ConfigError: for a base learning rate of 0, which has no ratio to another one.
    """
    base = max(group["lr"] for group in optimizer.param_groups)
    if not base:
        raise ConfigError("optimizer.lr is 0: give a learning rate above 0")
    factor = 1.0 if lr is None else lr / base
    if not steps:
        return LambdaLR(optimizer, lambda step: factor)
    first = LambdaLR(optimizer, lambda step: 1.0) if make_first is None else None
    first = first or make_first(optimizer, total_steps=steps)  # pyright: ignore[reportOptionalCall]
    return SequentialLR(optimizer, [first, LambdaLR(optimizer, lambda step: factor)], [steps])
