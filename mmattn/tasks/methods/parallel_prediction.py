"""Parallel prediction: all words of a caption at once, from the image alone (CapPa)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mmattn.errors import ConfigError


@dataclass(frozen=True)
class ParallelPrediction:
    """Predicts captions, drawn with a probability, in parallel (Tschannen et al. 2023, section 3).

    Each of their input tokens, the first one too, is blank, and each place sees all others. Nothing
    can be learned from the words before, so that the encoder learns the more. A blank is the
    tokenizer's padding, a token that is learned here and nowhere else (see `WordDropout`), so that
    a model has no weight more for it: what is saved and exported is the same captioner.

    Attributes:
        probability: that a caption is predicted so; the paper has 0.75.

    Raises:
        ConfigError: for a probability that is none.
    """

    probability: float

    def __post_init__(self):
        if not 0 < self.probability <= 1:
            raise ConfigError(
                f"task.cross_entropy.parallel_prediction.probability={self.probability} is a "
                "probability, above 0 and up to 1"
            )

    def chosen(self, tokens: Int[Tensor, "B N T"]) -> Bool[Tensor, "B N"]:
        """Return which captions are predicted in parallel this time."""
        return torch.rand(tokens.shape[:2], device=tokens.device) < self.probability

    def __call__(
        self, tokens: Int[Tensor, "B N T"], chosen: Bool[Tensor, "B N"], blank: int
    ) -> Int[Tensor, "B N T"]:
        """Return the input tokens, those of the chosen captions all blank."""
        return tokens.masked_fill(chosen[..., None], blank)
