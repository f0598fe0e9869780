"""What every decoding method is told of a text's limits, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Limits:
    """Where a text begins and ends.

    begin_id: the token that every text begins with; it is not returned. end_id: the token that ends
    a text. max_length: the most tokens, the end token included. Raises ValueError where that leaves
    no token.
    """

    begin_id: int
    end_id: int
    max_length: int

    def __post_init__(self):
        if self.max_length < 1:
            raise ValueError(f"max_length={self.max_length}: a caption has at least one token")


class Decoded(NamedTuple):
    """N captions of each of B images, best first.

    tokens: [B, N, T] without the begin token; after a caption's end token every entry is the end
    token. log_probs: [B, N, T], the model's log-probability of each token, whatever rules changed
    it for the choice; 0 after the end token. scores: [B, N], what the captions are ranked by.
    """

    tokens: Int[Tensor, "B N T"]
    log_probs: Float[Tensor, "B N T"]
    scores: Float[Tensor, "B N"]


# All that was written of each image, with the method's own scores -> what these captions are ranked
# by instead [B, N], the best highest.
Ranking = Callable[[Decoded], Float[Tensor, "B N"]]
