"""What every decoding method returns, and what it is told of the vocabulary."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Decoded(NamedTuple):
    """N captions of each of B images, best first.

    tokens: [B, N, T] without the begin token; after a caption's end token every entry is the end
    token. log_probs: [B, N, T], the model's log-probability of each token, whatever rules changed
    it for the choice; 0 after the end token. scores: [B, N], what the captions are ranked by.
    """

    tokens: Int[Tensor, "B N T"]
    log_probs: Float[Tensor, "B N T"]
    scores: Float[Tensor, "B N"]


def check_length(max_length: int) -> None:
    """Raise ValueError where a caption could have no token."""
    if max_length < 1:
        raise ValueError(f"max_length={max_length}: a caption has at least one token")
