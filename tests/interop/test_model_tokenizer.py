"""A tokenizer and its model know the same tokens, or one of them is refused."""

import pytest
from tokenizers import Tokenizer, models

from mmattn.data.tokenizer import SpecialIds
from mmattn.errors import CheckpointError
from mmattn.interop.model_tokenizer import check_vocabulary, model_tokenizer


def backend() -> Tokenizer:
    made = Tokenizer(models.WordLevel({"a": 0, "dog": 1}, unk_token="a"))
    made.add_tokens(["<new>"])
    return made


def test_the_special_tokens_are_those_of_the_configuration():
    tokenizer = model_tokenizer(backend(), "here", SpecialIds(0, 2, 1))
    assert (tokenizer.special, tokenizer.source) == ((0, 2, 1), "here")
    with pytest.raises(CheckpointError, match=r"^here has no token 3, which is to be its end"):
        model_tokenizer(backend(), "here", SpecialIds(0, 2, 3))


def test_a_model_may_have_more_tokens_and_not_fewer():
    """Tokens that were added beside the vocabulary count, too: the model has no row for them."""
    tokenizer = model_tokenizer(backend(), "here", SpecialIds(0, 0, 1))
    check_vocabulary(tokenizer, 3)
    check_vocabulary(tokenizer, 8)
    with pytest.raises(CheckpointError, match="here: the tokenizer has 3 tokens, but the model 2:"):
        check_vocabulary(tokenizer, 2)
