"""What every token adds to a text, read from the tokenizer's own description.

Words part at spaces and punctuation, and tokenizers say so in different ways: byte-level BPE puts a
space before a word (`Ġcat`), WordPiece marks what goes on with a word (`##s`), CLIP marks where a
word ends (`cat</w>`). As bytes of the text that a caption grows by they are all alike: b" cat",
b"s", b"cat ".
"""

import json
from typing import Any

from tokenizers import Tokenizer

METASPACE = "▁"  # what SentencePiece writes for a space


def byte_alphabet() -> dict[str, int]:
    """Return the byte that each letter of byte-level BPE stands for (Radford et al. 2019).

    Printable bytes stand for themselves; the others, in order, for U+0100 and what follows.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(others)}


def token_pieces(backend: Tokenizer) -> list[bytes]:
    """Return, for each id, the bytes that the token adds to a text.

    Special tokens, and ids without a token, add nothing.
    """
    description = json.loads(backend.to_str())
    tokens, spelling = backend.get_vocab(with_added_tokens=True), _Spelling(description)
    added = backend.get_added_tokens_decoder()
    pieces = [b""] * (max(tokens.values()) + 1)
    for token, number in tokens.items():
        if number in added:
            pieces[number] = b"" if added[number].special else spelling.added(token)
        else:
            pieces[number] = spelling.piece(token)
    return pieces


class _Spelling:
    """How a kind of tokenizer writes spaces and bytes."""

    def __init__(self, description: dict[str, Any]):
        model, decoder = description["model"], description["decoder"]
        kinds = json.dumps([description["pre_tokenizer"], decoder])
        self.word_end = model.get("end_of_word_suffix") or ""
        self.goes_on = model.get("continuing_subword_prefix") or ""
        self.alphabet = byte_alphabet() if '"ByteLevel"' in kinds else None
        # A decoder that does not know of spaces joins tokens with them.
        self.apart = bool(self.goes_on) or (decoder is None and not self.alphabet)

    def piece(self, token: str) -> bytes:
        """Return the bytes that a token of the model adds to a text."""
        head = tail = b""
        if self.word_end and token.endswith(self.word_end):
            token, tail = token.removesuffix(self.word_end), b" "
        elif self.goes_on and token.startswith(self.goes_on):
            token = token.removeprefix(self.goes_on)
        elif self.apart and not self.word_end:
            head = b" "
        return head + self._bytes(token) + tail

    def added(self, token: str) -> bytes:
        """Return the bytes of a token that stands beside the model's, whose text is as it is."""
        return b" " * self.apart + token.encode()

    def _bytes(self, token: str) -> bytes:
        if self.alphabet is None:
            return token.replace(METASPACE, " ").encode()
        if any(letter not in self.alphabet for letter in token):
            return token.encode()  # a token that was put in by hand
        return bytes(self.alphabet[letter] for letter in token)
