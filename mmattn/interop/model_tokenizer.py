"""Another library's tokenizer as that of a captioner: both must know the same tokens."""

from tokenizers import Tokenizer

from mmattn.data.tokenizer import CaptionTokenizer, SpecialIds
from mmattn.errors import CheckpointError, DataError


def model_tokenizer(backend: Tokenizer, source: str, special: SpecialIds) -> CaptionTokenizer:
    """Return the tokenizer with the special tokens that its model's configuration names.

    Raises:
        CheckpointError: where the tokenizer has no token of a special id.
    """
    try:
        return CaptionTokenizer(backend, source, special)
    except DataError as error:
        raise CheckpointError(str(error)) from None


def check_vocabulary(tokenizer: CaptionTokenizer, vocab_size: int) -> None:
    """Raise CheckpointError where a tokenizer has more tokens than the model.

    It may have fewer: some models' vocabularies are padded to a round number.
    """
    if tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"{tokenizer.source}: the tokenizer has {tokenizer.vocab_size} tokens, but the model "
            f"{vocab_size}: one of them belongs to another model"
        )
