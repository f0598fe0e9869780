"""Rules on what may be written next: each changes the scores of the tokens that may follow.

A rule is a function of the scores [*R, V] and of what each row has written so far [*R, t], the
begin token left out; it returns new scores, -inf where a token may not follow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Rule = Callable[[Float[Tensor, "*R V"], Int[Tensor, "*R t"]], Float[Tensor, "*R V"]]
NEVER = float("-inf")


def obey(
    rules: Sequence[Rule], scores: Float[Tensor, "*R V"], written: Int[Tensor, "*R t"]
) -> Float[Tensor, "*R V"]:
    """Return the scores after all rules, in order."""
    for rule in rules:
        scores = rule(scores, written)
    return scores


@dataclass(frozen=True)
class MinLength:
    """No end before `length` tokens were written, the end token not counted."""

    length: int
    end_id: int

    def __call__(self, scores: Tensor, written: Tensor) -> Tensor:
        """Forbid the end token while a caption is too short."""
        return forbid(scores, [self.end_id]) if written.shape[-1] < self.length else scores


@dataclass(frozen=True)
class RepetitionPenalty:
    """Make what was written less likely to be written again (Keskar et al. 2019, section 4.1).

    A positive score is divided by `penalty`, a negative one multiplied. As in Hugging Face, greedy
    decoding and sampling apply it to logits, beam search to log-probabilities.
    """

    penalty: float

    def __post_init__(self):
        if not self.penalty > 0:
            raise ValueError(f"repetition_penalty={self.penalty}: give a number above 0; 1 is none")

    def __call__(self, scores: Tensor, written: Tensor) -> Tensor:
        """Change the scores of every token that a row has written."""
        if not written.shape[-1]:
            return scores
        found = scores.gather(-1, written)
        changed = torch.where(found > 0, found / self.penalty, found * self.penalty)
        return scores.scatter(-1, written, changed)


@dataclass(frozen=True)
class NoRepeatNgram:
    """No `size` tokens in a row that stand in the caption already (Paulus et al. 2018)."""

    size: int

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(
                f"no_repeat_ngram={self.size}: give at least 1, or None for no such rule"
            )

    def __call__(self, scores: Tensor, written: Tensor) -> Tensor:
        """Forbid what followed earlier copies of the last size - 1 tokens."""
        length = written.shape[-1]
        if length < self.size:
            return scores
        grams = written.unfold(-1, self.size, 1)  # [*R, n, size]
        last = written[..., length - self.size + 1 :]
        again = (grams[..., :-1] == last[..., None, :]).all(-1)
        # The rows' other n-grams forbid nothing: they are sent to a column that is dropped.
        ends = grams[..., -1].masked_fill(~again, scores.shape[-1])
        banned = scores.new_zeros(*scores.shape[:-1], scores.shape[-1] + 1, dtype=torch.bool)
        return scores.masked_fill(banned.scatter(-1, ends, True)[..., :-1], NEVER)


@dataclass(frozen=True)
class NoEndAfter:
    """No end directly after these tokens: "a man riding a" is no caption."""

    tokens: tuple[int, ...]
    end_id: int

    def __call__(self, scores: Tensor, written: Tensor) -> Tensor:
        """Forbid the end token behind a bad ending."""
        if not written.shape[-1]:
            return scores
        bad = torch.isin(written[..., -1], written.new_tensor(self.tokens))
        end = scores[..., self.end_id].masked_fill(bad, NEVER)
        return scores.index_copy(-1, written.new_tensor([self.end_id]), end[..., None])


@dataclass(frozen=True)
class Prefix:
    """Every caption begins with these tokens."""

    tokens: tuple[int, ...]

    def __call__(self, scores: Tensor, written: Tensor) -> Tensor:
        """Forbid all but the prefix's next token."""
        place = written.shape[-1]
        if place >= len(self.tokens):
            return scores
        only = torch.full_like(scores, NEVER)
        only[..., self.tokens[place]] = 0.0
        return only


@dataclass(frozen=True)
class Forbidden:
    """None of these phrases, each a sequence of tokens, may appear."""

    phrases: tuple[tuple[int, ...], ...]

    def __post_init__(self):
        if not all(self.phrases):
            raise ValueError("a forbidden phrase is empty: it would forbid every caption")

    def __call__(self, scores: Tensor, written: Tensor) -> Tensor:
        """Forbid the token that would complete a phrase."""
        length = written.shape[-1]
        for *head, last in self.phrases:
            if len(head) > length:
                continue
            begun = written[..., length - len(head) :] == written.new_tensor(head)
            column = scores[..., last].masked_fill(begun.all(-1), NEVER)
            scores = scores.index_copy(-1, written.new_tensor([last]), column[..., None])
        return scores


def forbid(scores: Tensor, tokens: Sequence[int]) -> Tensor:
    """Return the scores with some tokens forbidden."""
    places = torch.tensor(tokens, device=scores.device)
    return scores.index_fill(-1, places, NEVER)
