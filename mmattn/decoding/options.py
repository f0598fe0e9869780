"""Decoding as a user asks for it: one flat set of options, read into a method and its rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from mmattn.decoding.beam import BeamSearch
from mmattn.decoding.greedy import Greedy
from mmattn.decoding.rules import (
    Rule,
)
from mmattn.decoding.sampling import Sampling
from mmattn.errors import ConfigError

Method = Greedy | BeamSearch | Sampling
# A text -> the ways in which it may be written as tokens inside a caption.
Encode = Callable[[str], Sequence[Sequence[int]]]


@dataclass(frozen=True)
class DecodingOptions:
    """How captions are written; the names are those of `generate` where it has one.

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
        returned: captions returned of each image.
        max_length: the most tokens of a caption, its end included; the model's own if None.
        min_length: the fewest tokens before the end.
        repetition_penalty: what was written is so many times less likely; 1 is none.
        no_repeat_ngram: no so many tokens twice in a caption; 0 is no such rule.
        bad_endings: words after which a caption may not end.
        prefix: how every caption begins.
        forbidden: words or phrases that may not appear.
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
    returned: int = 1
    max_length: int | None = None
    min_length: int = 0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    bad_endings: tuple[str, ...] = ()
    prefix: str = ""
    forbidden: tuple[str, ...] = ()

    def __post_init__(self):
        self.method()

    def changed(self, changes: dict[str, Any]) -> "DecodingOptions":
        """Return the options with changes. Raises ConfigError for one that does not exist."""
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                near = get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
                raise ConfigError(f"no decoding option {name!r}{hint}")
        return replace(self, **changes)

    def method(self) -> Method:
        """Return the method. Raises ConfigError for options that exclude each other."""
        raise NotImplementedError

    def rules(self, encode: Encode, end_id: int) -> list[Rule]:
        """Return the rules on what may follow."""
        raise NotImplementedError
