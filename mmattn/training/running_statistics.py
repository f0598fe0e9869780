"""What a forward pass in training changes besides gradients: the statistics of batch norms."""

from collections.abc import Iterable

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


class RunningStatistics:
    """Keeps the running means and variances, so that a batch that breaks them can be undone.

    Args:
        modules: all of the model's; most models have none that it is about.
    """

    def __init__(self, modules: Iterable[nn.Module]):
        self.buffers = statistics_of(modules)
        self._kept = [buffer.clone() for buffer in self.buffers]

    @torch.no_grad()
    def keep(self) -> None:
        """Remember them as they are."""
        for kept, buffer in zip(self._kept, self.buffers, strict=True):
            kept.copy_(buffer)

    @torch.no_grad()
    def give_back(self, bad: Bool[Tensor, ""]) -> None:
        """Make them what they were where `bad` is true; nobody waits for a GPU to tell."""
        for kept, buffer in zip(self._kept, self.buffers, strict=True):
            buffer.copy_(torch.where(bad, kept, buffer))


def statistics_of(modules: Iterable[nn.Module]) -> list[Tensor]:
    """Return the running means and variances of those modules that have any, themselves."""
    norms = [module for module in modules if isinstance(module, _NormBase)]
    return [each for norm in norms for each in norm.buffers() if each.is_floating_point()]
