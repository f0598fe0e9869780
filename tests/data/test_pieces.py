"""What tokens say, put together, is what the tokenizer itself makes of them."""

import random

import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from mmattn.data.pieces import byte_alphabet
from mmattn.data.tokenizer import BEGIN, END, PAD, CaptionTokenizer
from mmattn.errors import DataError

TEXTS = ["a black cat's tail", "Two dogs, running!", "l'été à Paris 🙂", "a traffic light (red)"]
SPECIAL = [PAD, BEGIN, END, "[UNK]"]


def gpt2() -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def clip() -> Tokenizer:
    backend = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    backend.normalizer = normalizers.Lowercase()
    split = pre_tokenizers.Split(" ", behavior="removed")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " ")])
    return backend


def bert() -> Tokenizer:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=False)
    return backend


def sentencepiece() -> Tokenizer:
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend


def whole_words() -> Tokenizer:
    backend = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return backend


ALPHABET = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "vocab_size": 300}
KINDS = {
    "GPT-2": (gpt2, lambda **o: trainers.BpeTrainer(**o, **ALPHABET)),
    "CLIP": (clip, lambda **o: trainers.BpeTrainer(end_of_word_suffix="</w>", **o, **ALPHABET)),
    "BERT": (bert, lambda **o: trainers.WordPieceTrainer(vocab_size=60, **o)),
    "SentencePiece": (sentencepiece, lambda **o: trainers.UnigramTrainer(vocab_size=60, **o)),
    "whole words": (whole_words, trainers.WordLevelTrainer),
}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request) -> CaptionTokenizer:
    make, trainer = KINDS[request.param]
    backend = make()
    options = {"special_tokens": SPECIAL, "show_progress": False}
    backend.train_from_iterator(TEXTS * 5, trainer(**options))
    backend.add_tokens([AddedToken("<photo>")])
    return CaptionTokenizer(backend, request.param)


def said(tokenizer: CaptionTokenizer, ids) -> str:
    text = b"".join(tokenizer.pieces[i] for i in ids).decode(errors="replace")
    return " ".join(text.split())


def test_pieces_say_what_the_tokenizer_decodes(tokenizer):
    assert len(tokenizer.pieces) == tokenizer.vocab_size
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert said(tokenizer, ids) == " ".join(tokenizer.decode(ids).split()) != ""


def test_pieces_say_what_the_tokenizer_decodes_of_tokens_in_any_order(tokenizer):
    draw = random.Random(0)
    whole = [t for t, p in enumerate(tokenizer.pieces) if "�" not in p.decode(errors="replace")]
    for _ in range(200):
        ids = [*tokenizer.encode("a"), *draw.choices(whole, k=6)]  # no text begins within a word
        decoded = tokenizer.backend.decode(ids, skip_special_tokens=True)
        spaceless = "".join(said(tokenizer, ids).split())
        assert spaceless == "".join(decoded.split())
        if tokenizer.source != "CLIP":  # there a space stands behind a word, and one is left out
            assert said(tokenizer, ids) == " ".join(decoded.split())


def test_special_tokens_say_nothing_and_added_ones_what_they_are(tokenizer):
    for token in (PAD, BEGIN, END):
        assert tokenizer.pieces[tokenizer.backend.token_to_id(token)] == b""
    assert tokenizer.pieces[tokenizer.backend.token_to_id("<photo>")].strip() == b"<photo>"


def test_the_alphabet_of_bytes_is_that_of_the_tokenizers_library():
    assert sorted(byte_alphabet()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_alphabet().values()) == list(range(256))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in ("~ é\x00\xad", "🙂\n—"):
        ((letters, _),) = level.pre_tokenize_str(text)
        assert bytes(byte_alphabet()[letter] for letter in letters) == text.encode()


@pytest.mark.parametrize("text", ["black", "traffic light", "(red)", "l'été"])
def test_ways_write_the_text_with_and_without_a_space_and_in_capitals(tokenizer, text):
    ways = tokenizer.ways(text)
    assert ways[0] == tokenizer.encode(text)
    assert tokenizer.encode(" " + text) in ways
    assert len({tuple(way) for way in ways}) == len(ways)
    for way in ways:
        assert said(tokenizer, way).replace(" ", "").lower() == text.replace(" ", "")
    if tokenizer.source == "GPT-2":
        assert {said(tokenizer, way) for way in ways} == {
            text,
            text[:1].upper() + text[1:],
            text.upper(),
        }


@pytest.mark.parametrize("kind", ["BERT", "SentencePiece", "whole words"])
@pytest.mark.parametrize("text", ["zebra", "black zebra", "", "  ", PAD, f"black {END}"])
def test_a_text_outside_the_vocabulary_is_named(kind, text):
    make, trainer = KINDS[kind]
    backend = make()
    backend.train_from_iterator(TEXTS, trainer(special_tokens=SPECIAL, show_progress=False))
    tokenizer = CaptionTokenizer(backend, "words.json")
    with pytest.raises(DataError, match=r"words\.json has no tokens for it") as error:
        tokenizer.ways(text)
    assert repr(text) in str(error.value)
