"""Greedy decoding: at every step the most probable token."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from mmattn.decoding.decoded import Decoded, Limits, Ranking
from mmattn.decoding.ensemble import Encoded, Heard, Model
from mmattn.decoding.rows import write_rows
from mmattn.decoding.rules import Rule


@dataclass(frozen=True)
class Greedy:
    """Writes the most probable token at every step; one caption an image."""

    def __call__(
        self,
        model: Model,
        image: Encoded,
        limits: Limits,
        rules: Sequence[Rule] = (),
        listener: Heard = None,
        ranking: Ranking | None = None,
    ) -> Decoded:
        """Write captions of encoded images; see `BeamSearch` for what is asked."""
        told = {"rules": rules, "listener": listener, "ranking": ranking}
        return write_rows(model, image, 1, most_probable, limits, **told)


def most_probable(
    scores: Float[Tensor, "A K V"], images: Int[Tensor, "A"], step: int
) -> Int[Tensor, "A K"]:
    """Return each row's best token."""
    return scores.argmax(-1)
