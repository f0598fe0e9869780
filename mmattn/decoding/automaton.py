"""An automaton that reads captions token by token and knows which phrases were written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mmattn.decoding.words import APART, GOES_ON, LETTER, SPACE, Phrase, Words, like, part_of_word

# Phrases, by number, of which so many bytes were just read; is the last byte one of a word?
State = tuple[frozenset[tuple[int, int]], bool]
START: State = (frozenset(), False)


@dataclass(frozen=True, eq=False)
class PhraseAutomaton:
    """Finds phrases as whole words in texts, however these are cut into tokens.

    It reads bytes (Aho and Corasick 1975), and its tables say what a whole token does. Tokens that
    do the same are of one kind: most are in no phrase, and their kind is how they begin and end.
    Phrases are in groups of alternatives. One is `ready` in a text that ends in it, and `done` once
    something else follows than a letter: "cat" is ready, "cat " and "cat," and the end of the text
    do it, and in "cattle" it is neither.

    Attributes:
        kind: of each token.
        after: the state that follows a state when a token of a kind is read; texts begin in 0.
        done: the groups that are found by that.
        ready: the groups of which a phrase was just written in a state, but for spaces behind it.
        begun: the groups of which a part, or all, of a phrase ends a text in a state.
        parts: the tokens that write a part of a phrase, each of which may matter by itself.
    """

    kind: Int[Tensor, "V"]
    after: Int[Tensor, "states kinds"]
    done: Bool[Tensor, "states kinds groups"]
    ready: Bool[Tensor, "states groups"]
    begun: Bool[Tensor, "states groups"]
    parts: Int[Tensor, "parts"]
    _elsewhere: dict[torch.device, "PhraseAutomaton"] = field(
        default_factory=dict, init=False, repr=False
    )

    @classmethod
    def of(cls, words: Words, groups: Sequence[Iterable[str]], end_id: int) -> "PhraseAutomaton":
        """Return the automaton of groups of texts, each of which `Words.phrases` reads.

        Raises:
            DataError: for a text that the vocabulary does not have.
        """
        found = [frozenset().union(*map(words.phrases, group)) for group in groups]
        reader = _Reader([(phrase, g) for g, group in enumerate(found) for phrase in sorted(group)])
        parts = sorted(set().union(*(words.parts(p) for group in found for p in group)) - {end_id})
        kind, texts = _kinds(words, parts, end_id)
        table = _ByteTable(reader, len(groups))
        after, done = table.of_texts(texts)
        done[:, -1] = table.ready  # the end of a text ends its last word
        numbers = torch.tensor(parts, dtype=torch.long)
        return cls(kind, after, done, table.ready, table.begun, numbers)

    def on(self, device: torch.device) -> "PhraseAutomaton":
        """Return the same on a device; it is copied there once."""
        if device == self.kind.device:
            return self
        if device not in self._elsewhere:
            tables = (self.kind, self.after, self.done, self.ready, self.begun, self.parts)
            self._elsewhere[device] = PhraseAutomaton(*(table.to(device) for table in tables))
        return self._elsewhere[device]

    @cached_property
    def blocked(self) -> Bool[Tensor, "states kinds"]:
        """What may not follow in a state, so that no phrase is ever found.

        Where nothing could follow any more, as behind the only token for a whole word in a
        vocabulary without endings, the way there is blocked, too. A special token is no way out.
        """
        states = torch.arange(len(self.after), device=self.after.device)
        silent = (self.after == states[:, None]).all(0)
        blocked = self.done.any(-1) | (self.ready.any(-1)[:, None] & silent)
        while True:
            dead = blocked.all(-1)
            more = blocked | dead[self.after]
            if torch.equal(more, blocked):
                return blocked
            blocked = more

    def states(self, written: Int[Tensor, "*R t"]) -> Int[Tensor, "*R t+1"]:
        """Return the states that texts lead through, the first one included."""
        states = [written.new_zeros(written.shape[:-1])]
        for kind in self.kind[written].unbind(-1):
            states.append(self.after[states[-1], kind])
        return torch.stack(states, -1)

    def found(self, written: Int[Tensor, "*R t"]) -> Bool[Tensor, "*R groups"]:
        """Return the groups of which a phrase is done in texts."""
        return self.done[self.states(written)[..., :-1], self.kind[written]].any(-2)

    def of_tokens(self, by_kind: Bool[Tensor, "*R kinds"]) -> Bool[Tensor, "*R V"]:
        """Return for each token what is true of its kind."""
        return by_kind.index_select(-1, self.kind)


def _kinds(words: Words, parts: Sequence[int], end_id: int) -> tuple[Int[Tensor, "V"], list[bytes]]:
    """Return the kind of each token and a text of each kind; the last is that of the end token."""
    said = sorted({words.pieces[token] for token in parts})
    texts = [*words.shapes.texts, *said, b""]
    number = {text: i for i, text in enumerate(said, len(words.shapes.texts))}
    kind = words.shapes.of.clone()
    kind[list(parts)] = torch.tensor(
        [number[words.pieces[token]] for token in parts], dtype=torch.long
    )
    kind[end_id] = len(texts) - 1
    used, kind = kind.unique(return_inverse=True)  # a kind without tokens could mislead
    return kind, [texts[i] for i in used]


class _Reader:
    """Reads a text byte by byte, and knows which phrases it may be in the middle of."""

    def __init__(self, phrases: Sequence[tuple[Phrase, int]]):
        self.phrases = [phrase for phrase, _ in phrases]
        self.groups = [group for _, group in phrases]
        self.by_first: dict[int, list[int]] = {}
        for number, phrase in enumerate(self.phrases):
            self.by_first.setdefault(phrase.text[0], []).append(number)

    def read(self, state: State, byte: int) -> tuple[State, set[int]]:
        """Return the state after one more byte, and the groups that it shows to be found."""
        (places, within), phrases = state, self.phrases
        goes_on = part_of_word(byte, within)
        begins = not within or not part_of_word(byte, False)
        reached = {(k, 1) for k in self.by_first.get(byte, ()) if begins}
        done = set()
        for k, n in places:
            if n < len(phrases[k].text):
                reached |= {(k, n + 1)} if phrases[k].text[n] == byte else set()
                continue
            reached |= {(k, n)} if byte == SPACE else set()
            done |= {self.groups[k]} if not goes_on else set()
        done |= {self.groups[k] for k, n in reached if self._ends(k, n) and not phrases[k].whole}
        return (frozenset(reached), goes_on), done

    def ready(self, state: State) -> set[int]:
        """Return the groups of which a phrase was just read, spaces behind it left out."""
        return {self.groups[k] for k, n in state[0] if self._ends(k, n)}

    def begun(self, state: State) -> set[int]:
        """Return the groups of which a phrase, or its first part, was just read."""
        return {self.groups[k] for k, _ in state[0]}

    def _ends(self, k: int, n: int) -> bool:
        return n == len(self.phrases[k].text)


class _ByteTable:
    """What a reader does in each of its states at each byte, as tensors."""

    def __init__(self, reader: _Reader, groups: int):
        inside = {SPACE, *(byte for phrase in reader.phrases for byte in phrase.text)}
        bytes_ = [*sorted(inside), LETTER, APART, GOES_ON]
        self.column = [bytes_.index(b if b in inside else like(b)) for b in range(256)]
        order, rows = [START], []
        number = {START: 0}
        while len(rows) < len(order):
            rows.append([reader.read(order[len(rows)], byte) for byte in bytes_])
            for state, _ in rows[-1]:
                if state not in number:
                    number[state] = len(order)
                    order.append(state)
        # The last column is that of no byte: the state stays.
        self.after = torch.tensor([[*(number[s] for s, _ in r), i] for i, r in enumerate(rows)])
        self.done = torch.tensor(
            [[[g in done for g in range(groups)] for _, done in (*row, ("", ()))] for row in rows]
        )
        self.ready = torch.tensor([[g in reader.ready(s) for g in range(groups)] for s in order])
        self.begun = torch.tensor([[g in reader.begun(s) for g in range(groups)] for s in order])

    def of_texts(
        self, texts: Sequence[bytes]
    ) -> tuple[Int[Tensor, "states texts"], Bool[Tensor, "states texts groups"]]:
        """Return the state after each text, and the groups that are found while it is read."""
        longest, nothing = max(map(len, texts)), self.after.shape[1] - 1
        columns = torch.tensor(
            [[*(self.column[b] for b in t), *[nothing] * (longest - len(t))] for t in texts]
        )
        state = torch.arange(len(self.after))[:, None].expand(-1, len(texts))
        done = self.done.new_zeros(*state.shape, self.done.shape[-1])
        for column in columns.unbind(-1):
            done, state = done | self.done[state, column], self.after[state, column]
        return state, done
