import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mmattn.data.backend import backend_errors
from mmattn.data.tokenizer import BEGIN, END, PAD, CaptionTokenizer
from mmattn.errors import CheckpointError, DataError
from mmattn.maps.words import group_words

CAPTIONS = ["latin small letter e with acute", "latin capital letter e", "été à l'œuvre 🙂"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return CaptionTokenizer.train(CAPTIONS, vocab_size=400)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1))
@settings(max_examples=200)
def test_any_text_comes_back(text):
    tokenizer = CaptionTokenizer.train(CAPTIONS, vocab_size=400)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_same_captions_give_the_same_tokenizer(tokenizer):
    again = CaptionTokenizer.train(CAPTIONS, vocab_size=400)
    other = CaptionTokenizer.train([*CAPTIONS, "another caption"] * 2, vocab_size=400)
    assert again.to_json() == tokenizer.to_json()
    assert again.fingerprint == tokenizer.fingerprint != other.fingerprint


def test_special_ids_are_three_and_never_part_of_a_text(tokenizer):
    special = {tokenizer.pad_id, tokenizer.begin_id, tokenizer.end_id}
    assert len(special) == 3
    assert not special & {i for caption in CAPTIONS for i in tokenizer.encode(caption)}


def test_the_text_ends_at_the_end_token(tokenizer):
    ids = tokenizer.encode(CAPTIONS[0])
    written = [tokenizer.begin_id, *ids, tokenizer.end_id, tokenizer.end_id, *ids]
    assert tokenizer.until_end(written) == ids
    assert tokenizer.decode(written) == CAPTIONS[0]
    assert tokenizer.decode([tokenizer.end_id]) == ""


@pytest.mark.parametrize("text", [CAPTIONS[0], CAPTIONS[2], "ünter 🙂🙂 x", "été"])
def test_offsets_cover_the_text_in_order(tokenizer, text):
    ids = tokenizer.encode(text)
    spans = tokenizer.offsets(ids)
    assert len(spans) == len(ids)
    assert spans[0][0] == 0
    assert spans[-1][1] == len(text)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))


@pytest.mark.parametrize("written", [[], ["end"], ["begin", "end"]])
def test_an_empty_caption_has_no_offsets(tokenizer, written):
    special = {"begin": tokenizer.begin_id, "end": tokenizer.end_id}
    assert tokenizer.offsets([special[name] for name in written]) == []


def test_offsets_of_a_known_word(tokenizer):
    text = CAPTIONS[0]
    spans = tokenizer.offsets(tokenizer.encode(text))
    words = [text[start:end].strip() for start, end in spans]
    assert "".join(text[start:end] for start, end in spans) == text
    assert "acute" in words


def wordpiece(decoder: decoders.Decoder | None = None) -> CaptionTokenizer:
    """BERT's kind of tokenizer: what goes on within a word is marked, not what begins one."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = ["a", "dog", "ball", "play", "##s", "##ing", ".", ",", "'", "s", "(", ")"]
    vocabulary = {word: number for number, word in enumerate(special + words)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.add_special_tokens(special)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoder or decoders.WordPiece()
    return CaptionTokenizer(backend)


def grouped(tokenizer: CaptionTokenizer, ids: list[int]) -> list[tuple[str, tuple[int, ...]]]:
    words = group_words(tokenizer.decode(ids), tokenizer.offsets(ids))
    return [(word.text, word.tokens) for word in words]


def test_wordpieces_and_punctuation_belong_to_the_word_before():
    tokenizer = wordpiece()
    ids = tokenizer.encode("a dogs, (playing balls).")
    assert tokenizer.decode(ids) == "a dogs, ( playing balls )."
    spans = [(0, 1), (1, 5), (5, 6), (6, 7), (7, 9), (9, 14), (14, 17), (17, 22), (22, 23)]
    assert tokenizer.offsets(ids) == [*spans, (23, 25), (25, 26)]
    words = [("a", (0,)), ("dogs,", (1, 2, 3)), ("(", (4,)), ("playing", (5, 6))]
    assert grouped(tokenizer, ids) == [*words, ("balls", (7, 8)), (").", (9, 10))]


def test_what_a_later_token_changes_is_not_yet_an_earlier_ones():
    joined = [decoders.WordPiece(), decoders.Fuse(), decoders.Replace(" ' ", "'")]
    tokenizer = wordpiece(decoders.Sequence(joined))
    ids = tokenizer.encode("a dog's ball.")
    assert tokenizer.decode(ids) == "a dog's ball."
    spans = [(0, 1), (1, 5), (5, 5), (5, 7), (7, 12), (12, 13)]
    assert tokenizer.offsets(ids) == spans
    assert grouped(tokenizer, ids) == [("a", (0,)), ("dog's", (1, 2, 3)), ("ball.", (4, 5))]


def test_a_special_token_within_a_text_belongs_to_no_word():
    tokenizer = wordpiece()
    dog, ball, mask, unknown = (
        tokenizer.backend.token_to_id(w) for w in ["dog", "ball", "[MASK]", "s"]
    )
    ids = [mask, dog, mask, ball, 99, unknown, mask]
    assert tokenizer.decode(ids) == "dog ball s"
    assert grouped(tokenizer, ids) == [("dog", (1,)), ("ball", (3,)), ("s", (5,))]


@given(st.lists(st.integers(0, 18), max_size=12))
@settings(max_examples=100)
def test_offsets_of_any_ids_tell_all_of_the_text(ids):
    joined = [decoders.WordPiece(), decoders.Fuse(), decoders.Replace(" ' ", "'")]
    for tokenizer in (wordpiece(), wordpiece(decoders.Sequence(joined))):
        text, spans = tokenizer.decode(ids), tokenizer.offsets(ids)
        assert len(spans) == len(tokenizer.until_end(ids))
        told = [span for span in spans if span != (0, 0)]
        assert "".join(text[start:end] for start, end in told) == text
        assert sum(len(word.tokens) for word in group_words(text, spans)) == len(told)


def test_it_reads_back_what_it_wrote(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json(), encoding="utf-8")
    again = CaptionTokenizer.load(path)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode(CAPTIONS[2]) == tokenizer.encode(CAPTIONS[2])


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff\xfe\x00"])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not a tokenizer\.json"):
        CaptionTokenizer.load(path)


def test_merges_that_make_no_token_are_refused(tmp_path):
    """Of them the library panics, which is no Exception."""
    whole = json.loads(Tokenizer(models.BPE()).to_str())
    whole["model"] |= {"vocab": {PAD: 0, BEGIN: 1, END: 2, "a": 3, "b": 4}}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(whole))
    assert CaptionTokenizer.load(path).vocab_size == 5
    whole["model"]["merges"] = [["a", "b"]]
    path.write_text(json.dumps(whole))
    with pytest.raises(DataError, match=r"tokenizer\.json: not a tokenizer\.json \(.+\)$"):
        CaptionTokenizer.load(path)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_who_ends_the_program_does_not_hear_of_tokenizers(kind):
    with pytest.raises(kind), backend_errors("a tokenizer"):
        raise kind


def test_an_error_of_the_library_is_one_line_of_the_kind_that_is_wanted():
    refused = pytest.raises(CheckpointError, match=r"^here: no vocabulary \(two lines\)$")
    with refused, backend_errors("here: no vocabulary", CheckpointError):
        raise Exception("two\n lines")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        CaptionTokenizer.load(tmp_path / "tokenizer.json")


def test_a_tokenizer_without_an_end_is_refused():
    backend = Tokenizer(models.WordLevel({PAD: 0, BEGIN: 1, "a": 2}, unk_token="a"))
    with pytest.raises(DataError, match="has no end token"):
        CaptionTokenizer(backend)


def test_the_three_may_be_one_token_as_in_gpt2():
    backend = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "a": 1}, unk_token="a"))
    tokenizer = CaptionTokenizer(backend)
    assert tokenizer.pad_id == tokenizer.begin_id == tokenizer.end_id == 0
    assert tokenizer.until_end([0, 1, 1, 0, 1]) == [1, 1]


def test_gpt2_byte_level_bpe(data_root):
    vocabulary, merges = (str(data_root / "tokenizers" / f) for f in ("vocab.json", "merges.txt"))
    backend = Tokenizer(models.BPE.from_file(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = CaptionTokenizer(backend)
    assert tokenizer.encode("hello world") == [31373, 995]
    assert tokenizer.decode([31373, 995, 50256, 11]) == "hello world"


def test_end_comes_from_the_tokenizer_not_from_a_number(tokenizer):
    assert tokenizer.backend.id_to_token(tokenizer.end_id) == END
