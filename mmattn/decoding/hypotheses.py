"""What a beam search holds: captions that go on, and captions that have ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.decoding.decoded import Decoded


@dataclass(frozen=True)
class Hypothesis:
    """A finished caption: its tokens, their log-probabilities, and the rows that wrote them."""

    score: float
    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    path: tuple[int, ...]


@dataclass
class Beams:
    """The unfinished captions of A images, in one group of K rows each; t tokens so far.

    path[a, k, i] is the row that wrote token i; scores are sums of log-probabilities.
    """

    tokens: Int[Tensor, "A K t"]
    log_probs: Float[Tensor, "A K t"]
    path: Int[Tensor, "A K t"]
    scores: Float[Tensor, "A K"]

    @classmethod
    def start(cls, images: int, rows: int, device: torch.device) -> "Beams":
        """Return empty captions: of equal rows only the first counts."""
        none = torch.zeros(images, rows, 0, dtype=torch.long, device=device)
        scores = torch.full((images, rows), float("-inf"), dtype=torch.float32, device=device)
        scores[:, 0] = 0.0
        return cls(none, none.float(), none, scores)

    def keep(self, images: Tensor) -> "Beams":
        """Return the captions of some of the images."""
        return Beams(
            self.tokens[images], self.log_probs[images], self.path[images], self.scores[images]
        )

    def extend(self, chosen: "Candidates", first: int = 0) -> "Beams":
        """Return the captions that go on with one more token each.

        `first` is the place of this group's first row among all rows of an image.
        """
        parents = chosen.parents
        place = parents[..., None].expand(*parents.shape, self.tokens.shape[-1])

        def longer(x: Tensor, newest: Tensor) -> Tensor:
            return torch.cat([x.gather(1, place), newest[..., None]], -1)

        return Beams(
            longer(self.tokens, chosen.tokens),
            longer(self.log_probs, chosen.log_probs),
            longer(self.path, parents + first),
            chosen.scores,
        )


class Candidates(NamedTuple):
    """Ways to go on: the row to go on from, and the token that follows, with its log-probability.

    The scores are those of the captions that come of it.
    """

    parents: Int[Tensor, "A C"]
    tokens: Int[Tensor, "A C"]
    log_probs: Float[Tensor, "A C"]
    scores: Float[Tensor, "A C"]

    def at(self, places: Int[Tensor, "A K"]) -> "Candidates":
        """Return some of them."""
        return Candidates(*(x.gather(1, places) for x in self))


@dataclass
class Finished:
    """The best finished captions of one image in one group, at most `most` of them."""

    most: int
    found: list[Hypothesis] = field(default_factory=list)

    def add(self, hypothesis: Hypothesis) -> None:
        """Keep it if it is one of the best; of equal ones the earlier."""
        self.found.append(hypothesis)
        self.found.sort(key=lambda h: -h.score)
        del self.found[self.most :]

    def cannot_improve(self, best_possible: float, early_stopping: bool) -> bool:
        """Return whether no caption that goes on will be among the best."""
        if len(self.found) < self.most:
            return False
        return early_stopping or best_possible <= self.found[-1].score


def stacked(
    captions: Sequence[Sequence[Hypothesis]], end_id: int, device: torch.device
) -> tuple[Decoded, Int[Tensor, "B N T"]]:
    """Return the captions as tensors, padded with the end token, and their paths, with row 0."""
    longest = max(len(h.tokens) for found in captions for h in found)

    def padded(name: str, fill: int | float) -> list[list[list]]:
        rows = [[list(getattr(h, name)) for h in found] for found in captions]
        return [[row + [fill] * (longest - len(row)) for row in found] for found in rows]

    real = {"dtype": torch.float32, "device": device}  # whatever the default is now
    decoded = Decoded(
        torch.tensor(padded("tokens", end_id), device=device),
        torch.tensor(padded("log_probs", 0.0), **real),
        torch.tensor([[h.score for h in found] for found in captions], **real),
    )
    return decoded, torch.tensor(padded("path", 0), device=device)
