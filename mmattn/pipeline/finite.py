"""Numbers that half precision cannot hold are told, and not passed on as results."""

from torch import Tensor, nn

from mmattn.errors import ConfigError


def check_finite(model: nn.Module, numbers: Tensor) -> None:
    """Raise ConfigError for numbers that are infinite or none: half precision has too few."""
    if not bool(numbers.isfinite().all()):
        kind = str(next(model.parameters()).dtype).removeprefix("torch.")
        raise ConfigError(
            f"what the model computes is beyond {kind}: load it with dtype='bfloat16' or 'float32'"
        )
