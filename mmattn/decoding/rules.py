"""Rules on what may be written next: each changes the scores of the tokens that may follow.

A rule is a function of the scores [*R, V] and of what each row has written so far [*R, t], the
begin token left out; it returns new scores, -inf where a token may not follow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.decoding.automaton import PhraseAutomaton
from mmattn.errors import ConfigError

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
    decoding and sampling apply it to logits, beam search to log-probabilities, and the begin token
    `begin_id` counts as written, which matters where it is the end token as well.
    """

    penalty: float
    begin_id: int | None = None

    def __post_init__(self):
        if not self.penalty > 0:
            raise ConfigError(
                f"repetition_penalty={self.penalty}: give a number above 0; 1 is none"
            )

    def __call__(self, scores: Tensor, written: Tensor) -> Tensor:
        """Change the scores of every token that a row has written."""
        if self.begin_id is not None:
            written = torch.nn.functional.pad(written, (1, 0), value=self.begin_id)
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
            raise ConfigError(
                f"no_repeat_ngram={self.size}: give at least 1, or leave the rule out"
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
    """No phrase of the automaton is in a caption, as whole words and however cut into tokens.

    "cat" may be written on the way to "cattle", but then the word must go on: no space, comma or
    end may follow, and at the last of `max_length` places it may not be written.
    """

    automaton: PhraseAutomaton
    max_length: int

    def __call__(self, scores: Tensor, written: Tensor) -> Tensor:
        """Forbid the tokens by which a phrase would be done."""
        automaton = self.automaton.on(scores.device)
        state = automaton.states(written)[..., -1]
        wrong = automaton.blocked[state]
        if written.shape[-1] == self.max_length - 1:
            wrong = wrong | automaton.ready[automaton.after[state]].any(-1)
        return without(scores, automaton, wrong)


@dataclass(frozen=True)
class NoEndAfter:
    """No caption ends in a phrase of the automaton: "a man riding a" is none.

    That holds also where a caption ends because it may not be longer.
    """

    automaton: PhraseAutomaton
    max_length: int

    def __call__(self, scores: Tensor, written: Tensor) -> Tensor:
        """Forbid the end behind a phrase, and at the last place what makes it the end."""
        automaton = self.automaton.on(scores.device)
        state = automaton.states(written)[..., -1]
        wrong = torch.zeros_like(automaton.done[state][..., 0])
        if written.shape[-1] == self.max_length - 1:
            wrong = automaton.ready[automaton.after[state]].any(-1)
        wrong[..., -1] = automaton.ready[state].any(-1)  # the last kind is the end token's
        return without(scores, automaton, wrong)


def without(
    scores: Float[Tensor, "*R V"], automaton: PhraseAutomaton, wrong: Bool[Tensor, "*R kinds"]
) -> Float[Tensor, "*R V"]:
    """Return the scores with the tokens of some kinds forbidden."""
    rows = wrong.any(-1)
    if not bool(rows.any()):  # most often: then nothing as large as the vocabulary is touched
        return scores
    scores = scores.clone()
    scores[rows] = scores[rows].masked_fill(automaton.of_tokens(wrong[rows]), NEVER)
    return scores


def forbid(scores: Tensor, tokens: Sequence[int]) -> Tensor:
    """Return the scores with some tokens forbidden."""
    places = torch.tensor(tokens, device=scores.device)
    return scores.index_fill(-1, places, NEVER)
