"""Tokens become words: nothing is counted twice, nothing is lost, special tokens are listed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from mmattn.maps.words import Word, group_words, left_out, merge

CAPTIONS = ["a dog runs on the grass", "le café naïve d'été", "two  dogs 🐶 run ."]


@pytest.fixture(scope="module", params=[True, False], ids=["trimmed", "untrimmed"])
def byte_level(request) -> Tokenizer:
    """A byte-level BPE so small that most words, and every rare character, are several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=270,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CAPTIONS[:1] * 9, trainer)
    frame = processors.TemplateProcessing(
        single="<s> $0 </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    level = processors.ByteLevel(trim_offsets=request.param)
    tokenizer.post_processor = processors.Sequence([level, frame])
    return tokenizer


@st.composite
def texts_and_offsets(draw) -> tuple[str, list[tuple[int, int]]]:
    """A text cut at any places, with special tokens before it and a repeated piece now and then."""
    text = draw(st.text(alphabet="ab é\t日", max_size=20))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    spans = list(zip([0, *cuts], [*cuts, len(text)], strict=True))
    repeated = [span for span in spans for _ in range(draw(st.integers(1, 2)))]
    return text, [(0, 0)] * draw(st.integers(0, 2)) + repeated


@pytest.mark.parametrize("text", CAPTIONS)
def test_words_of_a_byte_level_tokenizer(byte_level, text):
    encoding = byte_level.encode(text)
    words = group_words(text, encoding.offsets)
    assert [word.text for word in words] == text.split()
    assert left_out(words, len(encoding.ids)) == (0, len(encoding.ids) - 1)
    for word in words:
        pieces = [encoding.ids[token] for token in word.tokens]
        assert byte_level.decode(pieces).split() == [word.text]


def test_words_of_gpt2(data_root):
    files = [str(data_root / "tokenizers" / name) for name in ("vocab.json", "merges.txt")]
    tokenizer = Tokenizer(models.BPE.from_file(*files))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    text = "a kayaker's façade in 日本 ."
    encoding = tokenizer.encode(text)
    words = group_words(text, encoding.offsets)
    assert [word.text for word in words] == text.split()
    assert sum(len(word.tokens) for word in words) == len(encoding.ids)


def test_a_word_knows_its_place_and_its_tokens():
    words = group_words("a big dog", [(0, 0), (0, 1), (1, 3), (3, 5), (6, 9)])
    assert words == [
        Word("a", 0, 1, (1,)),
        Word("big", 2, 5, (2, 3)),
        Word("dog", 6, 9, (4,)),
    ]


def test_a_token_that_spans_two_words_joins_them():
    words = group_words("in New York today", [(0, 2), (2, 11), (11, 17)])
    assert [(word.text, word.tokens) for word in words] == [
        ("in", (0,)),
        ("New York", (1,)),
        ("today", (2,)),
    ]


def test_a_part_of_a_character_belongs_to_the_word_at_its_place():
    # As CaptionTokenizer.offsets has it: a token that completes no character has an empty span.
    words = group_words("a né", [(0, 1), (1, 3), (3, 3), (3, 4)])
    assert [word.tokens for word in words] == [(0,), (1, 2, 3)]


def test_white_space_opens_the_next_word_and_ends_in_none():
    words = group_words("a  b ", [(0, 1), (1, 2), (2, 4), (4, 5)])
    assert [word.tokens for word in words] == [(0,), (1, 2)]
    assert left_out(words, 4) == (3,)


def test_a_word_without_tokens_is_not_returned():
    assert [word.text for word in group_words("a b c", [(0, 1), (4, 5)])] == ["a", "c"]


@pytest.mark.parametrize("span", [(0, 6), (3, 2), (-1, 2)])
def test_offsets_of_another_text_are_refused(span):
    with pytest.raises(ValueError, match=r"token 1 .* 5"):
        group_words("a dog", [(0, 1), span])


@given(texts_and_offsets())
def test_words_share_no_token_and_hold_the_text_of_theirs(case):
    text, offsets = case
    words = group_words(text, offsets)
    tokens = [token for word in words for token in word.tokens]
    assert len(set(tokens)) == len(tokens)
    assert sorted([*tokens, *left_out(words, len(offsets))]) == list(range(len(offsets)))
    for word in words:
        assert word.text == text[word.start : word.end]
        for start, end in (offsets[token] for token in word.tokens):
            inside = text[max(start, word.start) : min(end, word.end)]
            assert inside.split() == text[start:end].split()
    for token in left_out(words, len(offsets)):
        assert not text[slice(*offsets[token])].strip()


@given(texts_and_offsets())
def test_merging_preserves_mass(case):
    text, offsets = case
    words = group_words(text, offsets)
    maps = np.random.default_rng(len(text)).random((len(offsets), 3, 4))
    kept = [token for word in words for token in word.tokens]
    total = merge(maps, words, "sum")
    assert total.shape == (len(words), 3, 4)
    np.testing.assert_allclose(total.sum(axis=0), maps[kept].sum(axis=0), atol=1e-12)
    shares = maps / maps.sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(merge(shares, words, "mean").sum(axis=(1, 2)), 1.0)


def test_merged_values():
    maps = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], dtype=np.float32)
    words = [Word("ab", 0, 2, (0, 1)), Word("c", 3, 4, (2,))]
    np.testing.assert_array_equal(merge(maps, words), [[0.75, 0.25], [0.0, 1.0]])
    np.testing.assert_array_equal(merge(maps, words, "sum"), [[1.5, 0.5], [0.0, 1.0]])


def test_maps_with_too_few_tokens_are_refused():
    with pytest.raises(ValueError, match="'dog' has token 7, but there are maps of 5"):
        merge(np.zeros((5, 2, 2)), [Word("dog", 0, 3, (6, 7))])
