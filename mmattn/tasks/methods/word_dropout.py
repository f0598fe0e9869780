"""Input tokens that say nothing: the decoder must rely on the image, not on the words before."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mmattn.errors import ConfigError


@dataclass(frozen=True)
class WordDropout:
    """Blanks each input token but the first with a probability (Bowman et al. 2016, section 3.1).

    A blank is the tokenizer's padding: no real token ever sees it otherwise, so that it is a token
    without a meaning, whose embedding is learned, and none that the model must have more. (A
    tokenizer may use one token for padding and for the begin; that is an input only at the first
    place otherwise, which is never blanked.)

    Attributes:
        rate: the probability.

    Raises:
        ConfigError: for a probability that is none.
    """

    rate: float

    def __post_init__(self):
        if not 0 < self.rate <= 1:
            raise ConfigError(
                f"task.cross_entropy.word_dropout.rate={self.rate} is a probability, above 0 and "
                "up to 1"
            )

    def __call__(self, tokens: Int[Tensor, "B N T"], blank: int) -> Int[Tensor, "B N T"]:
        """Return the input tokens with some of them blanked."""
        dropped = torch.rand(tokens.shape, device=tokens.device) < self.rate
        dropped[..., 0] = False
        return tokens.masked_fill(dropped, blank)
