"""Decoding as a user asks for it: one flat set of options, read into a method and its rules."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from mmattn.decoding.automaton import PhraseAutomaton
from mmattn.decoding.beam import BeamSearch
from mmattn.decoding.decoded import Limits
from mmattn.decoding.greedy import Greedy
from mmattn.decoding.option_checks import check_min_length, checked
from mmattn.decoding.required import RequiredPhrases
from mmattn.decoding.rules import (
    Forbidden,
    MinLength,
    NoEndAfter,
    NoRepeatNgram,
    Prefix,
    RepetitionPenalty,
    Rule,
)
from mmattn.decoding.sampling import Sampling
from mmattn.decoding.words import Words
from mmattn.errors import ConfigError

Method = Greedy | BeamSearch | Sampling
OF_BEAMS = ("beams", "groups", "diversity", "length_penalty", "early_stopping", "required")
OF_BEAMS += ("best_of",)
OF_SAMPLING = ("sample", "temperature", "top_k", "top_p", "min_p", "samples", "best_of")


@dataclass(frozen=True)
class DecodingOptions:
    """How captions are written; the names are those of `generate` where it has one.

    Words are found as words, in small letters or capitals, and however the tokenizer cuts them:
    "cat" is in "a cat" and "Cat, ", and neither in "cattle" nor in "bobcat". "cat*" is every word
    that begins so.

    Attributes:
        beams: beam search with so many beams; 1 is greedy decoding.
        groups: groups of beams, for diverse beam search.
        diversity: what a token costs that an earlier group chose at the same place.
        length_penalty: above 0 favours long captions; of beam search.
        early_stopping: stop as soon as there are `beams` captions.
        sample: draw tokens instead of choosing the best.
        temperature, top_k, top_p, min_p: of the distribution that is drawn from.
        samples: captions drawn of each image, of which the `returned` best are returned.
        seed: of what is drawn.
        best_of: captions of each image among which the best are chosen, by their probability or by
            what else the call ranks by: so many are drawn, as with `samples`, or they are the best
            so many beams; `samples`, or all beams, if None.
        returned: captions returned of each image.
        max_length: the most tokens of a caption, its end included; the model's own if None.
        min_length: the fewest tokens before the end.
        repetition_penalty: what was written is so many times less likely; 1 is none.
        no_repeat_ngram: no so many tokens twice in a caption; 0 is no such rule.
        bad_endings: words or phrases in which a caption may not end.
        prefix: how every caption begins.
        forbidden: words or phrases that may not appear. Greedy decoding, which does not look
            ahead, may write "cats" where it wanted "cat"; beams look further, and "cat*" forbids
            that, too.
        required: words or phrases that must appear, of beam search; each may have alternatives:
            "dog|puppy".

    Raises:
        ConfigError: for a value that cannot be, or two that exclude each other.
    """

    beams: int = 1
    groups: int = 1
    diversity: float = 0.0
    length_penalty: float = 1.0
    early_stopping: bool = False
    sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    samples: int = 1
    seed: int = 0
    best_of: int | None = None
    returned: int = 1
    max_length: int | None = None
    min_length: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    bad_endings: tuple[str, ...] = ()
    prefix: str = ""
    forbidden: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    def __post_init__(self):
        for name, value in checked(vars(self)).items():
            object.__setattr__(self, name, value)

    def changed(self, changes: dict[str, Any]) -> "DecodingOptions":
        """Return the options with changes, of which lists and whole numbers are taken as they come.

        Where these ask for another method, what only the old one knows is as by default again: a
        model's own length penalty does not forbid greedy decoding.

        Raises:
            ConfigError: for an option that does not exist, or what the options then say.
        """
        known = {field.name: field.default for field in fields(self)}
        for name in changes:
            if name not in known:
                near = get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
                raise ConfigError(f"no decoding option {name!r}{hint}")
        old: tuple[str, ...] = ()
        if changes.get("sample") is True or changes.get("beams") == 1:
            old = OF_BEAMS
        elif "beams" in changes or changes.get("sample") is False:
            old = OF_SAMPLING
        default = {name: known[name] for name in old}
        return DecodingOptions(**checked(vars(self) | default | changes))

    @property
    def candidates(self) -> int:
        """How many captions of each image the best are chosen among."""
        return self.best_of or (self.samples if self.sample else self.beams)

    def method(self) -> Method:
        """Return the method, without what is `required`: that takes a vocabulary, see `plan`."""
        if self.sample:
            return Sampling(
                self.temperature,
                self.top_k,
                self.top_p,
                self.min_p,
                self.candidates,
                self.returned,
                self.seed,
            )
        if self.beams == 1:
            return Greedy()
        return BeamSearch(
            self.beams,
            self.groups,
            self.diversity,
            self.length_penalty,
            self.early_stopping,
            self.returned,
            candidates=self.best_of,
        )

    def rules(self, words: Words, limits: Limits) -> list[Rule]:
        """Return the rules on what may follow.

        Args:
            words: what the tokens say.
            limits: of the captions, `limits.max_length` being this or the model's own.

        Raises:
            ConfigError: for a prefix or a minimum that has no room.
            DataError: for a word that the vocabulary does not have.
        """
        end, longest = limits.end_id, limits.max_length
        rules: list[Rule] = []
        if self.repetition_penalty != 1:
            rules.append(RepetitionPenalty(self.repetition_penalty, limits.begin_id))
        if self.no_repeat_ngram:
            rules.append(NoRepeatNgram(self.no_repeat_ngram))
        if self.prefix:  # behind the rules that are on what the model writes by itself
            rules.append(Prefix(self._prefix(words, longest)))
        if self.bad_endings:
            rules.append(NoEndAfter(PhraseAutomaton.of(words, [self.bad_endings], end), longest))
        if self.min_length:
            check_min_length(self.min_length, longest)
            rules.append(MinLength(self.min_length, end))
        if self.forbidden:
            rules.append(Forbidden(PhraseAutomaton.of(words, [self.forbidden], end), longest))
        return rules

    def plan(self, words: Words, limits: Limits) -> tuple[Method, list[Rule]]:
        """Return the method, with what is required, and the rules; raises what `rules` does."""
        method = self.method()
        if isinstance(method, BeamSearch) and self.required:
            required = RequiredPhrases.of(words, self.required, limits.end_id)
            required.check(limits.max_length)
            method = replace(method, required=required)
        return method, self.rules(words, limits)

    def _prefix(self, words: Words, longest: int) -> tuple[int, ...]:
        prefix: Sequence[int] = words.ways(self.prefix)[0]
        if len(prefix) >= longest:
            raise ConfigError(
                f"prefix={self.prefix!r} has {len(prefix)} tokens and max_length={longest}: a "
                "caption must be longer than how it begins; give a larger max_length"
            )
        return tuple(prefix)
