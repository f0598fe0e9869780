"""Whether the texts that config.json tells of are those that a model can read or write."""

from collections.abc import Mapping
from typing import Any

from mmattn.data.tokenizer import SpecialIds
from mmattn.errors import CheckpointError
from mmattn.text import TextTransformer


def check_text_fits(config: Mapping[str, Any], text: TextTransformer, source: str) -> None:
    """Raise CheckpointError for a length, a vocabulary or special tokens that a model cannot have.

    A vocabulary may be smaller than the model's: some are padded to a round number.
    """
    check_length_fits(config, text, source)
    values = config["tokenizer"]
    number = values.get("vocab_size")
    if type(number) is not int or number > text.vocab_size:
        raise CheckpointError(
            f"{source}: the tokenizer has {number} tokens, and the model {text.vocab_size}"
        )
    for role in SpecialIds._fields:
        number = values.get(role)
        if type(number) is not int or not 0 <= number < text.vocab_size:
            raise CheckpointError(f"{source}: tokenizer.{role} is {shown(number)}, no token's id")


def check_length_fits(config: Mapping[str, Any], text: TextTransformer, source: str) -> None:
    """Raise CheckpointError for texts that are longer than a model has positions for."""
    longest = config["max_length"]
    if longest < 1 or (text.position == "learned" and longest > text.max_length):
        raise CheckpointError(
            f"{source}: max_length is {longest}, and the model has positions for "
            f"{text.max_length} tokens"
        )


def shown(value: Any) -> str:
    """Return a value for a message, cut to one short line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
