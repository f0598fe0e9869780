"""Where a command without Hydra runs its model."""

import torch

from mmattn.errors import ConfigError


def device_of(name: str) -> torch.device:
    """Return the device of a name such as "cuda:1"; for "auto" an accelerator, where there is one.

    Raises:
        ConfigError: for one that this machine does not have.
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {name}: {reason}; give cpu, cuda, cuda:1 or mps") from None
    return device
