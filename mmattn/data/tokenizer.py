"""Byte-level BPE: trained on the training captions, or read from any `tokenizer.json`."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mmattn.errors import DataError

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
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path}: no such file; a tokenizer is a tokenizer.json")
        try:
            backend = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise DataError(f"{path}: not a tokenizer.json ({error})") from None
        return cls(backend, str(path), special)

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

    def until_end(self, ids: Sequence[int]) -> list[int]:
        """Return the ids before the first end-of-text token, without a leading begin token."""
        ids = list(ids)
        if ids[:1] == [self.begin_id]:
            ids = ids[1:]
        return ids[: ids.index(self.end_id)] if self.end_id in ids else ids

    def offsets(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Return where each id's text stands in `decode(ids)`, as (start, end) characters.

        An id that completes no character (part of a multi-byte one) gets an empty span at the
        place where the character will stand.
        """
        ids = self.until_end(ids)
        text = self.backend.decode(ids, skip_special_tokens=True)
        lead = len(text) - len(text.lstrip())
        ends = [
            len(self.backend.decode(ids[: i + 1], skip_special_tokens=True).rstrip("�"))
            for i in range(len(ids))
        ]
        limit = len(text.strip())
        places = [min(max(end - lead, 0), limit) for end in ends]
        return list(zip([0, *places][: len(places)], places, strict=True))

    def _special(self, role: str) -> int:
        for token in KNOWN[role]:
            number = self.backend.token_to_id(token)
            if number is not None:
                return number
        raise DataError(
            f"{self.source} has no {role} token; it needs one of {', '.join(KNOWN[role])}"
        )
