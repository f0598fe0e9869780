"""From the token ids of a caption to what they say."""

from collections.abc import Sequence
from typing import NamedTuple

from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.maps.words import Span, Word, group_words


class Wording(NamedTuple):
    """What a caption's T tokens say.

    ids: of the tokens, the end token left out. text: the caption. spans: the characters of each
    token in it, empty for one that says nothing. words: its words, with their tokens.
    """

    ids: tuple[int, ...]
    text: str
    spans: tuple[Span, ...]
    words: tuple[Word, ...]

    @property
    def tokens(self) -> tuple[str, ...]:
        """What each token says."""
        return tuple(self.text[start:end] for start, end in self.spans)


def wording(row: Sequence[int], tokenizer: CaptionTokenizer) -> Wording:
    """Return what decoded tokens say, up to the end token, if there is one."""
    ids = said_ids(row, tokenizer)
    text, spans = tokenizer.decode(ids), tokenizer.offsets(ids)
    # The tokenizer takes a begin token in front for the one that every text has. Decoding leaves
    # that out, so here it is one that the model wrote.
    spans = [(0, 0)] * (len(ids) - len(spans)) + spans
    return Wording(ids, text, tuple(spans), tuple(group_words(text, spans)))


def said_ids(row: Sequence[int], tokenizer: CaptionTokenizer) -> tuple[int, ...]:
    """Return decoded tokens up to the end token, if there is one."""
    end = row.index(tokenizer.end_id) if tokenizer.end_id in row else len(row)
    return tuple(row[:end])
