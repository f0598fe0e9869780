"""Where a command without Hydra runs its model."""

import torch

from mmattn.errors import ConfigError
from mmattn.pipeline.device import named_device


def device_of(name: str) -> torch.device:
    """Return the device that --device names, "auto" for an accelerator, where there is one.

    Raises:
        ConfigError: for one that this machine does not have, or that cannot compute.
    """
    try:
        return named_device(name)
    except ConfigError as error:
        raise ConfigError(f"--{error}") from None
