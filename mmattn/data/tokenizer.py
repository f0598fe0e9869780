"""Byte-level BPE: trained on the training captions, or read from any `tokenizer.json`."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mmattn.data.backend import read_backend
from mmattn.data.pieces import METASPACE, token_pieces
from mmattn.errors import ConfigError, DataError

PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
# What other libraries call the same three, in the order in which they are looked for.
KNOWN = {
    "pad": (PAD, "<pad>", "[PAD]", "<|endoftext|>"),
    "begin": (BEGIN, "<s>", "[CLS]", "<|startoftext|>", "<|endoftext|>"),
    "end": (END, "</s>", "[SEP]", "<|endoftext|>"),
}


class SpecialIds(NamedTuple):
    """The ids of padding, begin and end of a text; two of them, or all, may be one id."""

    pad: int
    begin: int
    end: int


class CaptionTokenizer:
    """A tokenizer with the three special tokens of captioning; their ids come from the tokenizer.

    Args:
        backend: the `tokenizers.Tokenizer`.
        source: what to call it in messages, usually its file.
        special: the ids of the special tokens, where the tokenizer does not tell by their names.

    Raises:
        DataError: where no token can serve as padding, begin or end of a text.
    """

    def __init__(
        self,
        backend: Tokenizer,
        source: str = "the tokenizer",
        special: SpecialIds | None = None,
    ):
        self.backend, self.source = backend, source
        backend.no_padding()
        backend.no_truncation()
        special = special or SpecialIds(*(self._special(role) for role in SpecialIds._fields))
        for role, number in special._asdict().items():
            if backend.id_to_token(number) is None:
                raise DataError(f"{source} has no token {number}, which is to be its {role} token")
        self.special = special
        self.pad_id, self.begin_id, self.end_id = special

    @classmethod
    def train(cls, captions: Iterable[str], vocab_size: int, min_frequency: int = 2):
        """Train a byte-level BPE (Sennrich et al. 2016) on captions; the same input, the same ids.

        `vocab_size` is an upper bound: pairs seen fewer than `min_frequency` times are not merged.
        """
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=[PAD, BEGIN, END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(captions, trainer)
        return cls(backend, "the tokenizer trained on the captions")

    @classmethod
    def load(cls, path: str | Path, special: SpecialIds | None = None):
        """Read a `tokenizer.json`. Raises DataError where it is missing or not a tokenizer."""
        return cls(read_backend(Path(path)), str(path), special)

    @property
    def vocab_size(self) -> int:
        """Number of tokens V, special ones included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenizer's own description: two tokenizers agree if this agrees."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return the content of the tokenizer.json."""
        return self.backend.to_str()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without begin and end."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids up to the end-of-text token, special tokens left out."""
        return self.backend.decode(self.until_end(ids), skip_special_tokens=True).strip()

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """For each id, the bytes that the token adds to a text: b" cat", b"s", b"cat ".

        Special tokens add nothing.
        """
        pieces = token_pieces(self.backend)
        for number in self.special[1:]:  # begin and end, whether the backend knows it or not
            pieces[number] = b""
        return tuple(pieces)

    def ways(self, text: str) -> list[list[int]]:
        """Return the ways to write a word or phrase inside a caption, the text as given first.

        After a space and without one; in small letters, with a capital, in capitals. A way that the
        vocabulary does not have is left out.

        Raises:
            DataError: where the vocabulary does not have the text as given.
        """
        given = text.strip()
        forms = dict.fromkeys([given, given.lower(), given[:1].upper() + given[1:], given.upper()])
        ways: dict[tuple[int, ...], None] = {}
        for form in forms:
            for written in (form, " " + form):
                ids = self._known(written)
                if self._says(ids, form):
                    ways[tuple(ids)] = None
            if not ways:
                raise DataError(f"{text!r}: {self.source} has no tokens for it")
        return [list(ids) for ids in ways]

    def _known(self, text: str) -> list[int]:
        """Return the ids of a text, none where the vocabulary does not have all of it."""
        try:
            return self.encode(text)
        except Exception:  # tokenizers raises bare Exception where it has no token for "unknown"
            return []

    def _says(self, ids: Sequence[int], text: str) -> bool:
        """Return whether the ids write the text, as far as the tokenizer's own rules keep it."""
        normalizer = self.backend.normalizer
        wanted = normalizer.normalize_str(text) if normalizer else text
        said = b"".join(self.pieces[number] for number in ids).decode(errors="replace")
        return "".join(said.split()) == "".join(wanted.replace(METASPACE, " ").split()) != ""

    def until_end(self, ids: Sequence[int]) -> list[int]:
        """Return the ids before the first end-of-text token, without a leading begin token."""
        ids = list(ids)
        if ids[:1] == [self.begin_id]:
            ids = ids[1:]
        return ids[: ids.index(self.end_id)] if self.end_id in ids else ids

    def offsets(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Return where each id's text stands in `decode(ids)`, as (start, end) characters.

        An id that completes no character (part of a multi-byte one) gets an empty span at the
        place where the character will stand. A special token that `decode` leaves out, and an id
        that the tokenizer does not know, get (0, 0).
        """
        ids = self.until_end(ids)
        text = self.backend.decode(ids, skip_special_tokens=True)
        lead, limit = len(text) - len(text.lstrip()), len(text.strip())
        # How far each beginning agrees with the whole: what follows may yet change its last
        # characters, as "ball '" becomes "ball's".
        written = [
            agreement(text, self.backend.decode(ids[: i + 1], skip_special_tokens=True))
            for i in range(len(ids))
        ]
        ends = [min(max(length - lead, 0), limit) for length in written]
        places = list(accumulate(ends, max))
        spans = zip([0, *places][: len(ids)], places, strict=True)
        silent = self._silent(ids)
        return [(0, 0) if i in silent else span for i, span in zip(ids, spans, strict=True)]

    def _silent(self, ids: Sequence[int]) -> set[int]:
        """Return those of the ids that `decode` leaves out."""
        added = self.backend.get_added_tokens_decoder()
        special = {number for number, token in added.items() if token.special}
        return {i for i in ids if i in special or self.backend.id_to_token(i) is None}

    def _special(self, role: str) -> int:
        for token in KNOWN[role]:
            number = self.backend.token_to_id(token)
            if number is not None:
                return number
        raise DataError(
            f"{self.source} has no {role} token; it needs one of {', '.join(KNOWN[role])}"
        )


def agreement(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their beginnings."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def check_same_tokens(theirs: CaptionTokenizer, ours: CaptionTokenizer, model: str) -> None:
    """Raise ConfigError where another `model`, named with its key, has other tokens than a run."""
    if theirs.fingerprint == ours.fingerprint and theirs.special == ours.special:
        return
    raise ConfigError(
        f"{model} has another tokenizer, of {theirs.vocab_size} tokens, than this run, of "
        f"{ours.vocab_size}: set data.tokenizer.path to that model's tokenizer.json"
    )
