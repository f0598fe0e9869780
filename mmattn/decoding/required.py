"""Words that must be in every caption, and what a beam search needs to know of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.decoding.automaton import PhraseAutomaton
from mmattn.decoding.rules import NEVER
from mmattn.decoding.words import Words
from mmattn.errors import ConfigError

NO_WAY = 1_000_000  # so many tokens: it cannot be written


@dataclass(frozen=True, eq=False)
class RequiredPhrases:
    """Phrases that every caption must have, each as one of its alternatives, as whole words.

    What a caption still needs is counted in tokens. Each phrase that it lacks `costs` the fewest
    that write it as a new word, wherever the caption stands; of the one phrase that most is written
    of already, only the rest counts, and those with which the caption ends count nothing. So by as
    many tokens as it needs a caption can be completed: one phrase after another.

    A beam search shares its K places among *banks* of captions that need equally much (dynamic beam
    allocation, Post and Vilar 2018), else those that put off what is required would always win:

    1. A token may not follow if the caption then needs more tokens than it may still get. The end
       may not follow while it needs any.
    2. Of each row, the 2K best tokens by which it needs less are candidates, if they write a part
       of a phrase, and the 2K best of all others.
    3. A candidate that ends is kept if it is among the K best of those that need nothing.
    4. Of the others, every bank's best goes on, then every bank's second and so on, those that need
       less before those that need more, until there are K.

    Among captions that need nothing this is plain beam search.

    Attributes:
        automaton: finds the phrases, a group for each.
        texts: of the phrases, as they were asked for.
        steps: the fewest tokens that write a phrase, from each state.
        costs: the same from wherever, the first token beginning a new word.
    """

    automaton: PhraseAutomaton
    texts: tuple[str, ...]
    steps: Int[Tensor, "states groups"]
    costs: Int[Tensor, "groups"]

    @classmethod
    def of(cls, words: Words, required: Sequence[str], end_id: int) -> "RequiredPhrases":
        """Read phrases whose alternatives stand between bars: "dog|puppy".

        Raises:
            DataError: for a word that the vocabulary does not have.
            ConfigError: for one that could not be written after every other text.
        """
        automaton = PhraseAutomaton.of(words, [text.split("|") for text in required], end_id)
        steps, costs = fewest_steps(automaton)
        for text, cost in zip(required, costs.tolist(), strict=True):
            if cost >= NO_WAY:
                raise ConfigError(
                    f"required={text!r}: after some words no token of the vocabulary begins it"
                )
        return cls(automaton, tuple(required), steps, costs)

    def on(self, device: torch.device) -> "RequiredPhrases":
        """Return the same on a device."""
        steps, costs = self.steps.to(device), self.costs.to(device)
        return replace(self, automaton=self.automaton.on(device), steps=steps, costs=costs)

    def check(self, max_length: int) -> None:
        """Raise ConfigError where a caption of `max_length` tokens has no room for all phrases."""
        needed = int(self.needed(torch.zeros_like(self.costs[0]), self.costs < 0))
        if needed > max_length:
            raise ConfigError(
                f"required={self.texts} takes {needed} tokens, one phrase after another, and "
                f"max_length={max_length}: give a larger max_length, or require less"
            )

    def needed(
        self, state: Int[Tensor, "*R"], found: Bool[Tensor, "*R groups"]
    ) -> Int[Tensor, "*R"]:
        """Return how many tokens captions need that are in a state and have phrases."""
        costs = self.costs * ~found
        begun = (costs - self.steps[state] * ~found).amax(-1)
        written = (costs * self.automaton.ready[state]).sum(-1)
        return costs.sum(-1) - torch.maximum(begun, written)

    def needed_by(self, written: Int[Tensor, "*R t"]) -> Int[Tensor, "*R"]:
        """Return how many tokens captions need."""
        state = self.automaton.states(written)[..., -1]
        return self.needed(state, self.automaton.found(written))

    def candidates(
        self, scores: Float[Tensor, "*R V"], written: Int[Tensor, "*R t"], most: int, left: int
    ) -> tuple[Float[Tensor, "*R C"], Int[Tensor, "*R C"]]:
        """Return the scores of the tokens that may follow, and the tokens, some of them -inf.

        Args:
            scores: after the rules.
            written: so far.
            most: how many tokens of each kind: those by which less is needed, and others.
            left: how many tokens may follow the next one.
        """
        automaton, parts = self.automaton, self.automaton.parts
        state, found = automaton.states(written)[..., -1], automaton.found(written)
        after, done = automaton.after[state], automaton.done[state] & ~found[..., None, :]
        needed = self.needed(after, found[..., None, :] | done)  # [*R, kinds]
        too_late = needed > left
        too_late[..., -1] = needed[..., -1] > 0  # the end token's kind
        scores = scores.masked_fill(automaton.of_tokens(too_late), NEVER)
        nearer = needed < self.needed(state, found)[..., None]
        nearer &= automaton.begun[after].any(-1) | done.any(-1)
        nearer = nearer[..., automaton.kind[parts]]
        of_parts = scores[..., parts]
        near = of_parts.masked_fill(~nearer, NEVER).topk(min(most, len(parts)), dim=-1)
        others = scores.index_copy(-1, parts, of_parts.masked_fill(nearer, NEVER)).topk(most)
        return (
            torch.cat([near.values, others.values], -1),
            torch.cat([parts[near.indices], others.indices], -1),
        )

    def shares(
        self,
        scores: Float[Tensor, "A C"],
        written: Int[Tensor, "A C t"],
        ends: Bool[Tensor, "A C"],
        size: int,
    ) -> tuple[Bool[Tensor, "A C"], Int[Tensor, "A K"]]:
        """Return which candidates are kept as ended, and the places of those that go on.

        Args:
            scores: of the candidates, sorted.
            written: by them.
            ends: which of them end.
            size: K.
        """
        needed, possible = self.needed_by(written), scores > NEVER
        kept = ends & possible & (place_in_bank(needed, possible) < size)
        going = ~ends & possible
        place = place_in_bank(needed, going) * (int(needed.max()) + 1) + needed
        place = place.masked_fill(~going, torch.iinfo(place.dtype).max)
        return kept, place.sort(dim=-1, stable=True).indices[:, :size]


def place_in_bank(bank: Int[Tensor, "A C"], counted: Bool[Tensor, "A C"]) -> Int[Tensor, "A C"]:
    """Return how many of the candidates before each one are in its bank, of those that count."""
    member = torch.nn.functional.one_hot(bank) * counted[..., None]
    before = member.cumsum(1) - member
    return before.gather(-1, bank[..., None])[..., 0]


def fewest_steps(
    automaton: PhraseAutomaton,
) -> tuple[Int[Tensor, "states groups"], Int[Tensor, "groups"]]:
    """Return the fewest tokens that write each group's phrases: from each state, and from any.

    The latter begins with a token that does not go on with a word that is to stay as it is.
    """
    after, ready = automaton.after[:, :-1], automaton.ready  # without the end token's kind
    done = automaton.done[:, :-1]
    written, steps = done | ready[after], (~ready).long() * NO_WAY
    while True:
        further = (steps[after] * ~written + 1).clamp(max=NO_WAY)  # [states, kinds, groups]
        shorter = further.amin(1) * ~ready
        if torch.equal(shorter, steps):
            break
        steps = shorter
    leaves = (done | ~ready[:, None]).all(-1)  # whatever was just written stays written
    return steps, further.masked_fill(~leaves[..., None], NO_WAY).amin(1).amax(0)
