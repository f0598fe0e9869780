"""What a beam search holds: captions that go on, and captions that have ended."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
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

    def extend(
        self, rows: Tensor, token: Tensor, log_prob: Tensor, scores: Tensor, first: int
    ) -> "Beams":
        """Return captions that go on from `rows` [A, K'] with one more token each.

        `first` is the place of this group's first row among all rows of an image.
        """
        place = rows[..., None].expand(*rows.shape, self.tokens.shape[-1])

        def longer(x: Tensor, newest: Tensor) -> Tensor:
            return torch.cat([x.gather(1, place), newest[..., None]], -1)

        return Beams(
            longer(self.tokens, token),
            longer(self.log_probs, log_prob),
            longer(self.path, rows + first),
            scores,
        )


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


def picked(candidates: Beams, chosen: Int[Tensor, "A K"], ends: Bool[Tensor, "A C"]) -> Beams:
    """Return the chosen candidates; one that ended has no way on."""
    deep = chosen[..., None].expand(*chosen.shape, candidates.tokens.shape[-1])
    return Beams(
        candidates.tokens.gather(1, deep),
        candidates.log_probs.gather(1, deep),
        candidates.path.gather(1, deep),
        candidates.scores.masked_fill(ends, float("-inf")).gather(1, chosen),
    )


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
