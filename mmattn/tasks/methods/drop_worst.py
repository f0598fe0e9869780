"""Captions that are learned worst are left out: among noisy captions many of them are wrong."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.errors import ConfigError
from mmattn.tasks.methods.progress import Progress, check_start

KEY = "task.cross_entropy.drop_worst"


@dataclass(frozen=True)
class DropWorst:
    """Leaves out of the loss the share of a batch's captions whose mean loss is the highest.

    A trimmed loss (Shen and Sanghavi 2019; for captions, `drop_worst_rate` of Luo's
    ImageCaptioning.pytorch). What a network has not learned yet cannot be told from what is wrong,
    so that it is better begun after a while.

    Attributes:
        share: of the captions of a batch on a device, rounded down.
        start: optimiser steps before it begins, or their share of the run if below 1.

    Raises:
        ConfigError: for a share that is none, and for a negative start.
    """

    share: float
    start: int | float = 0

    def __post_init__(self):
        if not 0 < self.share < 1:
            raise ConfigError(f"{KEY}.share={self.share} is a share, above 0 and below 1")
        check_start(self.start, f"{KEY}.start")

    def begun(self, progress: Progress) -> bool:
        """Whether it is time."""
        return progress.has_reached(self.start, f"{KEY}.start")

    def kept(self, losses: Float[Tensor, "R"], valid: Bool[Tensor, "B N T"]) -> Bool[Tensor, "R"]:
        """Return which of the R real tokens count: those of captions that are not the worst.

        Nobody waits for a GPU to say how many captions there are.

        Args:
            losses: of the real tokens.
            valid: where these stand.
        """
        counts = valid.flatten(0, 1).sum(-1)
        spread = torch.zeros(valid.shape, dtype=torch.float, device=losses.device)
        spread = spread.masked_scatter(valid, losses.detach().float())
        means = spread.flatten(0, 1).sum(-1) / counts.clamp(min=1)
        # Rows without a caption stand behind all captions; of equal ones the first go first.
        order = means.where(counts > 0, -torch.inf).argsort(descending=True, stable=True)
        dropped = (self.share * (counts > 0).sum()).floor()
        caption_of = torch.repeat_interleave(counts, output_size=len(losses))
        return (order.argsort() >= dropped)[caption_of]
