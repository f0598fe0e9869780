"""From a decision about a batch to an input's own part of it; texts as the model read them."""

import numpy as np
import pytest
import torch

from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.maps.argued import argued, reading
from mmattn.maps.decision import Decision
from mmattn.maps.decision_record import ExplainedClass

TEXT = "does it carry the mark acute?"
YES = ExplainedClass("answer", "yes", 0.7)


@pytest.fixture(scope="module")
def tokenizer():
    return CaptionTokenizer.train([TEXT] * 3, 275)


def test_every_token_of_a_text_has_its_characters_and_every_word_its_tokens(tokenizer):
    inner = tokenizer.encode(TEXT)
    read = reading([tokenizer.begin_id, *inner, tokenizer.end_id], tokenizer)
    assert (read.text, len(read.offsets)) == (TEXT, len(inner) + 2)
    assert read.offsets[0] == read.offsets[-1] == (0, 0)
    assert "".join(TEXT[start:end] for start, end in read.offsets) == TEXT
    assert [word.text for word in read.words] == TEXT.split()
    used = [token for word in read.words for token in word.tokens]
    assert used == list(range(1, len(inner) + 1))


def test_special_tokens_in_a_text_belong_to_no_word(tokenizer):
    """A begin token that a text holds is not taken for its own; an end token ends what is read."""
    begin, end, it = tokenizer.begin_id, tokenizer.end_id, tokenizer.encode("it")
    read = reading([begin, begin, *it, end, *it, end], tokenizer)
    assert read.text == "it"
    assert len(read.offsets) == 4 + 2 * len(it)
    assert [word.tokens for word in read.words] == [tuple(range(2, 2 + len(it)))]


def test_an_empty_text_is_a_text_and_no_tokens_are_none(tokenizer):
    assert reading([tokenizer.begin_id, tokenizer.end_id], tokenizer) == ("", ((0, 0),) * 2, ())
    assert reading([], tokenizer) == (None, (), ())
    assert reading([1, 2], None) == (None, (), ())


def test_an_input_has_its_own_images_and_tokens_of_a_batch():
    image, text = torch.rand(2, 3, 4, 5), torch.rand(2, 6)
    valid = torch.arange(6) < torch.tensor([[4], [0]])  # the second one's text is missing
    tokens = torch.arange(12).reshape(2, 6)
    classes, shares = torch.zeros(2, dtype=torch.long), torch.zeros(2)
    decision = Decision(classes, shares, image, text, tokens, valid)
    one, other = argued(decision, 0, YES, images=2), argued(decision, 1, YES, images=0)
    np.testing.assert_array_equal(one.image, image[0, :2])
    np.testing.assert_array_equal(one.text, text[0, :4])
    assert one.ids == (0, 1, 2, 3)
    assert not np.shares_memory(one.image, image.numpy())
    assert (other.image.shape, other.text.shape, other.ids) == ((0, 0, 0), (0,), ())
    blind = argued(Decision(classes, shares, None, None, tokens, valid), 0, YES, 2)
    assert (blind.image.shape, blind.text.shape, blind.ids) == ((0, 0, 0), (0,), ())
