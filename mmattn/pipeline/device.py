"""Where a model computes."""

import torch

from mmattn.errors import ConfigError


def named_device(name: torch.device | str) -> torch.device:
    """Return the device of a name such as "cuda:1"; for "auto" an accelerator, where there is one.

    Raises:
        ConfigError: for one that this machine does not have, or that cannot compute.
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        (torch.zeros(1, device=device) + 1).item()
    except (RuntimeError, AssertionError, ImportError) as error:  # without CUDA torch asserts
        raise ConfigError(
            f"device {name}: {_reason(error)}; give cpu, cuda, cuda:1 or mps"
        ) from None
    return device


def _reason(error: Exception) -> str:
    """The first sentence of what torch says, where that is about the device."""
    if isinstance(error, NotImplementedError):
        return "this build of torch cannot compute there"
    if "meta tensors" in str(error):
        return "nothing is computed there"
    return str(error).splitlines()[0].split(". ")[0].rstrip(".")
