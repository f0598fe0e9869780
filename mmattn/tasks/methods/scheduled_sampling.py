"""Scheduled sampling: the model is given some of its own words, as it is when it writes."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.batch import ImageTokens
from mmattn.captioner import Captioner
from mmattn.errors import ConfigError
from mmattn.tasks.methods.no_gradient import without_gradient
from mmattn.tasks.methods.progress import Progress, check_start

KEY = "task.cross_entropy.scheduled_sampling"
TINY = torch.finfo(torch.float).tiny
LEFT = 0.01  # of the true tokens at the end, for the schedules that come near it only
# How the share of the model's own tokens grows from 0 to 1 (Bengio et al. 2015, section 2.4), by
# the share of the run: 1 - ε, with the constants that leave `LEFT` at the end.
SCHEDULES = {
    "linear": lambda share: share,
    "exponential": lambda share: 1 - LEFT**share,
    "inverse_sigmoid": lambda share: 1 / (1 + (1 / LEFT - 1) ** (1 - 2 * share)),
}


@dataclass(frozen=True)
class ScheduledSampling:
    """Replaces true input tokens by what the model predicts for them (Bengio et al. 2015).

    In two passes that are parallel over the places, as fits a transformer (Mihaylova and Martins
    2019): the first sees the true tokens, has no gradient, and predicts a token for every place;
    the second learns. The first token of a caption is never replaced, and labels stay true.

    Attributes:
        probability: of a replacement at the end of the run.
        schedule: how it grows until then, from about 0: "linear", "exponential" or
            "inverse_sigmoid".
        start: optimiser steps before it begins, or their share of the run if below 1.
        choice: the model's "sample" or its likeliest token ("argmax").

    Raises:
        ConfigError: for a probability that is none, and for unknown names.
    """

    probability: float
    schedule: str = "linear"
    start: int | float = 0
    choice: str = "sample"

    def __post_init__(self):
        if not 0 < self.probability <= 1:
            raise ConfigError(
                f"{KEY}.probability={self.probability} is a probability, above 0 and up to 1"
            )
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"{KEY}.schedule is {self.schedule!r}; choose {', '.join(SCHEDULES)}")
        if self.choice not in ("sample", "argmax"):
            raise ConfigError(f"{KEY}.choice is {self.choice!r}; choose sample or argmax")
        check_start(self.start, f"{KEY}.start")

    def probability_at(self, progress: Progress) -> float:
        """Return the probability now. Raises ConfigError for a run whose length is not known."""
        if not progress.has_reached(self.start, f"{KEY}.start"):
            return 0.0
        share = progress.since(self.start, KEY)
        return self.probability * SCHEDULES[self.schedule](share) if share else 0.0

    def __call__(
        self,
        model: Captioner,
        image: ImageTokens,
        tokens: Int[Tensor, "B N T"],
        valid: Bool[Tensor, "B N T"],
        probability: float,
    ) -> Int[Tensor, "B N T"]:
        """Return the input tokens, some of them replaced by the model's own."""
        if not probability:
            return tokens
        with without_gradient():
            predicted = self._chosen(model.logits(model.decode(image, tokens)[valid]))
            # What is predicted at a place is the input of the next one.
            said = torch.zeros_like(tokens).masked_scatter(valid, predicted).roll(1, -1)
        replaced = torch.rand(tokens.shape, device=tokens.device) < probability
        replaced[..., 0] = False
        return torch.where(replaced & valid, said, tokens)

    def _chosen(self, logits: Float[Tensor, "R V"]) -> Int[Tensor, "R"]:
        if self.choice == "sample":  # Gumbel's way, which takes any number, also none (NaN)
            noise = torch.empty_like(logits, dtype=torch.float).exponential_()
            logits = logits.float() - noise.clamp(min=TINY).log()
        return logits.argmax(-1)
