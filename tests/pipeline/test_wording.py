"""What tokens say, also those that models write by mistake."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmattn.pipeline.wording import wording


@pytest.fixture(scope="module")
def tokenizer(make_captioner):
    return make_captioner().tokenizer


def test_a_caption_ends_before_its_end_token(tokenizer):
    ids = tokenizer.encode("a cat sleeps on a mat")
    end = tokenizer.end_id
    for row in (ids, [*ids, end], [*ids, end, end, *ids]):
        said = wording(row, tokenizer)
        assert said.ids == tuple(ids)
        assert said.text == "a cat sleeps on a mat"
        assert [word.text for word in said.words] == ["a", "cat", "sleeps", "on", "a", "mat"]
        assert "".join(said.tokens) == said.text


@pytest.mark.parametrize("row", [[], [2], [2, 2, 2]])
def test_no_token_says_nothing(tokenizer, row):
    assert tokenizer.end_id == 2
    assert wording(row, tokenizer) == ((), "", (), ())


def test_special_tokens_are_tokens_without_a_text(tokenizer):
    """Also a begin token in front: what stands behind it keeps its own attention."""
    cat = tokenizer.encode("cat")
    begin, pad = tokenizer.begin_id, tokenizer.pad_id
    said = wording([begin, begin, *cat, pad], tokenizer)
    assert said.ids == (begin, begin, *cat, pad)
    assert said.text == "cat"
    assert len(said.spans) == len(said.ids)
    assert said.words[0].tokens == tuple(range(2, 2 + len(cat)))
    assert said.tokens[:2] == ("", "")


@settings(max_examples=300)
@given(row=st.lists(st.integers(0, 305), max_size=14))
def test_whatever_a_model_writes_has_a_span_for_every_token_and_all_words(tokenizer, row):
    said = wording(row, tokenizer)
    assert len(said.spans) == len(said.ids) == len(said.tokens)
    assert " ".join(word.text for word in said.words).split() == said.text.split()
    used = [token for word in said.words for token in word.tokens]
    assert len(used) == len(set(used))
