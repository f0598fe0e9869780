"""The automaton finds in tokens what regular expressions find in the text, however it is cut."""

import random
import re

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from mmattn.data.tokenizer import BEGIN, END, PAD, CaptionTokenizer
from mmattn.decoding.automaton import PhraseAutomaton
from mmattn.decoding.rules import Forbidden, NoEndAfter
from mmattn.decoding.words import Words
from mmattn.errors import DataError

WORDS = ["cat", "Cat", "CAT", "cattle", "bobcat", "black", "blackcat", "a", "at", "été", "étés"]
WORDS += ["black cat", "Été", "cat's", "c", "-cat-", "cat,", "«cat»", "cat—a", "3cat", "t", "s"]
SPECIAL = [PAD, BEGIN, END, "[UNK]"]


def byte_level(space_before: bool) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space_before)
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


def wordpiece() -> Tokenizer:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=False)
    return backend


def trainer(kind: str) -> trainers.Trainer:
    options = {"vocab_size": 330, "special_tokens": SPECIAL, "show_progress": False}
    if kind == "WordPiece":
        return trainers.WordPieceTrainer(**options)
    options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    if kind == "CLIP":
        return trainers.BpeTrainer(end_of_word_suffix="</w>", **options)
    return trainers.BpeTrainer(**options)


BACKENDS = {
    "GPT-2": lambda: byte_level(False),
    "ours": lambda: byte_level(True),
    "CLIP": clip,
    "WordPiece": wordpiece,
}


@pytest.fixture(scope="module", params=BACKENDS)
def tokenizer(request) -> CaptionTokenizer:
    backend, draw = BACKENDS[request.param](), random.Random(0)
    texts = [" ".join(draw.sample(WORDS, 5)) for _ in range(300)]
    backend.train_from_iterator(texts, trainer(request.param))
    return CaptionTokenizer(backend)


def words(tokenizer: CaptionTokenizer) -> Words:
    return Words(tokenizer.pieces, tokenizer.ways)


def cut(text: bytes, pieces, draw: random.Random) -> list[int] | None:
    """Return tokens that write a text, of all the ways there are one by chance."""
    ways = [
        [t for t, p in enumerate(pieces) if p and text.startswith(p, i)] for i in range(len(text))
    ]
    open_ = [False] * len(text) + [True]
    for i in reversed(range(len(text))):
        ways[i] = [t for t in ways[i] if open_[i + len(pieces[t])]]
        open_[i] = bool(ways[i])
    tokens, place = [], 0
    while open_[0] and place < len(text):
        tokens.append(draw.choice(ways[place]))
        place += len(pieces[tokens[-1]])
    return tokens if open_[0] else None


def texts(tokenizer: CaptionTokenizer, count: int) -> list[tuple[str, list[int]]]:
    """Return texts of these words, run together now and then, and a way to cut each of them."""
    draw, found = random.Random(1), []
    while len(found) < count:
        text = "".join(draw.choice(WORDS) + draw.choice(["", " ", " ", " "]) for _ in range(4))
        tokens = cut(spelled(tokenizer, text).encode(), tokenizer.pieces, draw)
        assert tokens is not None
        tokens = tokens[: draw.randrange(1, len(tokens) + 1)]
        try:
            found.append((b"".join(tokenizer.pieces[t] for t in tokens).decode(), tokens))
        except UnicodeDecodeError:  # it ends within a character
            continue
    return found


def spelled(tokenizer: CaptionTokenizer, text: str) -> str:
    """Return a text as the tokenizer's tokens say it."""
    return b"".join(tokenizer.pieces[token] for token in tokenizer.encode(text)).decode()


def sayable(tokenizer: CaptionTokenizer) -> dict[int, str]:
    """What tokens say, those left out that are a part of a character."""
    said = {token: piece.decode(errors="replace") for token, piece in enumerate(tokenizer.pieces)}
    said[tokenizer.end_id] = "."  # it ends a word
    return {token: text for token, text in said.items() if text and "\ufffd" not in text}


LETTER = r"[^\W_]"


def pattern(phrase: str, after: str) -> str:
    """Of a phrase where a word begins, if it begins with a letter."""
    said = phrase.removesuffix("*")
    return (rf"(?<!{LETTER})" if said[0].isalpha() else "") + re.escape(said) + after


def is_found(phrase: str, text: str) -> bool:
    """Whether it is there and something else follows than a letter."""
    after = r"[\W_]" if phrase[-1].isalpha() else ""
    return bool(re.search(pattern(phrase, after), text, re.IGNORECASE))


def is_ready(phrase: str, text: str) -> bool:
    return bool(re.search(pattern(phrase, r"[ \t\n\v\f\r]*\Z"), text, re.IGNORECASE))


def test_phrases_are_found_as_words_however_the_text_is_cut(tokenizer):
    phrases = ["cat", "black cat", "été", "cat*", "at", "«cat", "-"]
    automaton = PhraseAutomaton.of(words(tokenizer), [[p] for p in phrases], tokenizer.end_id)
    # WordPiece writes "«cat" as "« cat".
    phrases = [p if p == "cat*" else spelled(tokenizer, p).strip() for p in phrases]
    seen = {(phrase, state): 0 for phrase in phrases for state in ("found", "ready")}
    for text, tokens in texts(tokenizer, 400):
        written = torch.tensor([tokens])
        found = automaton.found(written)[0].tolist()
        ready = automaton.ready[automaton.states(written)[0, -1]].tolist()
        ended = automaton.found(torch.tensor([[*tokens, tokenizer.end_id]]))[0].tolist()
        assert found == [is_found(phrase, text) for phrase in phrases], text
        assert ready == [is_ready(phrase, text) for phrase in phrases], text
        assert ended == [is_found(phrase, text + ".") for phrase in phrases], text
        for phrase, f, r in zip(phrases, found, ready, strict=True):
            seen[phrase, "found"] += f
            seen[phrase, "ready"] += r
    assert min(seen.values()) > 3, seen  # none of that was always false


def test_forbidden_words_are_not_written_and_all_else_may_be(tokenizer):
    phrases = ["black cat", "at", "été"]
    automaton = PhraseAutomaton.of(words(tokenizer), [phrases], tokenizer.end_id)
    for text, tokens in texts(tokenizer, 60):
        if any(is_found(phrase, text) for phrase in phrases):
            continue
        for longest in (len(tokens) + 1, len(tokens) + 2):
            scores = torch.zeros(1, len(tokenizer.pieces))
            left = Forbidden(automaton, longest)(scores, torch.tensor([tokens]))[0] == 0
            for token, piece in sayable(tokenizer).items():
                wrong = any(is_found(phrase, text + piece) for phrase in phrases)
                if longest == len(tokens) + 1:
                    wrong |= any(is_ready(phrase, text + piece) for phrase in phrases)
                assert left[token] == (not wrong), (text, piece)
    assert not scores.any()  # a rule returns new scores


def test_no_caption_ends_in_a_bad_ending(tokenizer):
    automaton = PhraseAutomaton.of(words(tokenizer), [["black", "a", "été"]], tokenizer.end_id)
    end, seen = tokenizer.end_id, 0
    for text, tokens in texts(tokenizer, 100):
        bad = any(is_ready(phrase, text) for phrase in ("black", "a", "été"))
        seen += bad
        scores, written = torch.zeros(1, len(tokenizer.pieces)), torch.tensor([tokens])
        left = NoEndAfter(automaton, len(tokens) + 2)(scores, written)[0] == 0
        assert left[end] == (not bad), text
        assert left.sum() == left.numel() - bad  # nothing else is forbidden
        last = NoEndAfter(automaton, len(tokens) + 1)(scores, written)[0] == 0
        for token, piece in sayable(tokenizer).items():
            said = text if token == end else text + piece
            ends_badly = any(is_ready(phrase, said) for phrase in ("black", "a", "été"))
            assert last[token] == (not ends_badly), (text, piece)
    assert seen > 5


def test_a_word_that_no_token_goes_on_with_is_not_begun():
    """Where every token is a word, "cat" must not be written: nothing could follow it."""
    pieces = [b"", b"", b" cat", b" dog", b" black", b""]
    vocabulary = Words(
        pieces, lambda text: [[pieces.index(b" " + w.encode()) for w in text.split()]]
    )
    automaton = PhraseAutomaton.of(vocabulary, [["cat", "black dog"]], 1)
    rule = Forbidden(automaton, 9)
    written = torch.tensor([[3], [4]])
    left = (rule(torch.zeros(2, 6), written) == 0).tolist()
    assert left == [[True, True, False, True, True, True], [True, True, False, False, True, True]]


def test_what_is_special_does_not_help_a_word_on():
    pieces = [b"", b"", b" cat", b"s", b""]
    vocabulary = Words(pieces, lambda text: [[2]])
    rule = Forbidden(PhraseAutomaton.of(vocabulary, [["cat"]], 1), 9)
    left = (rule(torch.zeros(1, 5), torch.tensor([[2]])) == 0).tolist()
    assert left == [[False, False, False, True, False]]


def test_letters_are_folded_as_unicode_says():
    says = ["", "", " straße", " STRASSE", " strasse", " ΣΑΣ", " σας", "n"]
    vocabulary = Words([text.encode() for text in says], lambda text: [[says.index(f" {text}")]])
    automaton = PhraseAutomaton.of(vocabulary, [["straße"], ["ΣΑΣ"]], 1)
    written = torch.tensor([[2, 1], [3, 1], [4, 1], [4, 7], [5, 1], [6, 1]])
    street, you = [True, False], [False, True]
    assert automaton.found(written).tolist() == [street, street, street, [False] * 2, you, you]


def test_a_character_is_not_another_one_with_a_byte_in_common():
    """A dash is E2 80 94 and a chess king E2 99 94: tokens may be single bytes."""
    pieces = [b"", b"", b"\xe2", b"\x80", b"\x94", b"\x99", b"\x99\x94", b"a"]
    vocabulary = Words(pieces, lambda text: [[2, 3, 4]])
    automaton = PhraseAutomaton.of(vocabulary, [["—"]], 1)
    written = torch.tensor([[7, 2, 3, 4, 7], [7, 2, 5, 4, 7], [7, 2, 6, 7, 1], [2, 3, 6, 7, 1]])
    assert automaton.found(written)[:, 0].tolist() == [True, False, False, False]


def test_words_that_the_vocabulary_does_not_have_are_named():
    backend = Tokenizer(
        models.WordLevel({PAD: 0, BEGIN: 1, END: 2, "cat": 3, "?": 4}, unk_token="?")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = CaptionTokenizer(backend, "words.json")
    assert words(tokenizer).phrases("cat") == {(b"cat", True)}
    for text in ("dog", "cat dog"):
        with pytest.raises(DataError, match=f"'{text}': words.json has no tokens for it"):
            PhraseAutomaton.of(words(tokenizer), [[text]], tokenizer.end_id)


def test_tokens_that_only_the_model_has_say_nothing():
    """Models are made wider than their tokenizer, to a multiple of 64, say."""
    vocabulary = Words([b"", b"", b" cat", b"s"], lambda text: [[2]], size=8)
    automaton = PhraseAutomaton.of(vocabulary, [["cat"]], 1)
    assert automaton.found(torch.tensor([[2, 7, 1], [2, 3, 1]])).tolist() == [[True], [False]]
