"""CLIP's tokenizer as a backend: open_clip's ids and texts, from every place a vocabulary is in."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from open_clip.tokenizer import SimpleTokenizer
from tokenizers import Tokenizer, models

from mmattn.errors import CheckpointError
from mmattn.interop.open_clip import clip_tokenizer as module
from mmattn.interop.open_clip.clip_tokenizer import VOCABULARY_FILE, clip_tokenizer
from mmattn.maps.words import group_words

MERGES = ["c a", "ca t</w>", "d o", "do g</w>", "a t</w>", "s</w> x", "Ã ©</w>", "ca r"]


@pytest.fixture(scope="module")
def reference() -> SimpleTokenizer:
    return SimpleTokenizer()


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return clip_tokenizer(tmp_path_factory.mktemp("empty"))


def packed(folder: Path, text: str) -> Path:
    path = folder / VOCABULARY_FILE
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return folder


def random_ids(count: int, size: int, seed: int) -> list[int]:
    """Whole words and single bytes, so that broken characters come up, too."""
    source = random.Random(seed)
    return [source.randrange(size if source.random() < 0.7 else 512) for _ in range(count)]


def decode(tokenizer, ids) -> str:
    return tokenizer.backend.decode(ids, skip_special_tokens=False)


def test_decoding_equals_open_clips(ours, reference):
    assert ours.vocab_size == reference.vocab_size == 49408
    assert ours.special == (0, reference.sot_token_id, reference.eot_token_id)
    for seed in range(500):
        ids = random_ids(1 + seed % 20, 49408, seed)
        assert decode(ours, ids) == reference.decode(ids)
    assert all(decode(ours, [i]) == reference.decode([i]) for i in range(0, 49408, 7))


def test_a_caption_ends_at_its_end_and_begins_behind_its_begin(ours, reference):
    ids = reference.encode("two dogs, on a beach!")
    assert ours.decode([49406, *ids, 49407, *ids]) == "two dogs , on a beach !"


TEXTS = [
    "A photo of a DOG!",
    "it's John's; they'd've I'LL we're",
    "“quoted” ‘x’ ‚low‛ „deep‟",
    "ﬁsh & ﬂowers, ﬅ and ŉ, Ǆ ǆ ĳ",
    "ＬＯＵＤ　ＮＯＩＳＥＳ ｶﾞ ￥",
    "naïve cafe\u0301 Zu\u0308rich ÅNGSTRÖM İstanbul ẞ ß",
    "ΟΔΟΣ, ΣΟΦΙΑ ΤΗΣ ΟΔΟΥ Σ 'ΑΣ' ΑΣ.Α",
    "  x \n\t y\u00a0z\u2003w\u2028v \r\n",
    "a\x00b\x1fc\x7fd\ufeffe\u206af",
    "salt &amp; pepper &lt;3 &gt; &quot;hey&quot; it&#39;s it&#039;s it&#x27;s a&nbsp;b",
    "&amp;lt; &amp;amp; AT&T x&y",
    "1234 m² ½ ٣ Ⅷ",
    "emoji 😀👩\u200d👩\u200d👧 🇩🇪 #tag @you http://a.b/c?d=e_f",
    "日本語のテスト 中文 한국어 עברית العربية हिन्दी",
    "<START_OF_TEXT> hi <end_of_text> <end of text>",
    "'ſ 'S don't dont'",
    "!!! !? ... --- a-b a_b (c) [d] {e} $5.00 50%",
    "",
    "   ",
]


@pytest.mark.parametrize("text", TEXTS)
def test_encoding_equals_open_clips(ours, reference, text):
    assert ours.encode(text) == reference.encode(text)


def test_encoding_random_texts_equals_open_clips(ours, reference):
    source = random.Random(0)
    parts = [part for text in TEXTS for part in text.split(" ")] + ["'", "s", "T", "ΑΣ", "é", "4"]
    for _ in range(300):
        chosen = source.choices(parts, k=source.randrange(1, 9))
        text = "".join(part + source.choice(["", " ", "  "]) for part in chosen)
        if "<" not in text:  # the name of a special token may be glued to punctuation
            assert ours.encode(text) == reference.encode(text), text


@pytest.mark.parametrize(
    "text", ["schÃ¶n", "caf&eacute;", "\x1b[36mblue\x1b[0m", "!<start_of_text>"]
)
def test_what_the_docstring_names_is_the_difference(ours, reference, text):
    ids = ours.encode(text)
    assert ids != reference.encode(text)
    assert all(0 <= i < 49408 for i in ids)


def test_a_caption_comes_back_as_it_was(ours):
    text = "a man riding a wave on top of a surfboard ."
    ids = ours.encode(text)
    assert ours.decode(ids) == text
    assert [ours.pieces[i] for i in ids[:3]] == [b"a ", b"man ", b"riding "]


def test_words_of_a_caption_have_their_tokens(ours):
    ids = ours.encode("a surfboarding dachshund, 日本")
    text = ours.decode(ids)
    words = group_words(text, ours.offsets([*ids, 49407]))
    assert [word.text for word in words] == ["a", "surfboarding", "dachshund", ",", "日本"]
    for word in words:
        assert ours.decode([ids[i] for i in word.tokens]) == word.text


def test_the_description_holds_it_all(ours):
    again = Tokenizer.from_str(ours.to_json())
    for text in TEXTS:
        assert again.encode(text).ids == ours.encode(text)
    ids = random_ids(40, 49408, 1)
    assert again.decode(ids) == ours.backend.decode(ids)


# Lines end the file or not, an empty one is among them, a token is made twice.
FILES = [
    "\n".join(["#version: x", *MERGES]),
    "\n".join(["#version: x", *MERGES, ""]),
    "\n".join(["#version: x", *MERGES[:3], "", *MERGES[3:]]),
    "\n".join(["#version: x", *MERGES, "c at</w>"]),
]


@pytest.mark.parametrize("text", FILES, ids=["", "newline", "empty line", "twice"])
def test_a_folders_own_vocabulary_is_numbered_as_open_clip_does(tmp_path, text):
    tokenizer = clip_tokenizer(packed(tmp_path, text))
    reference = SimpleTokenizer(str(tmp_path / VOCABULARY_FILE))
    assert tokenizer.special == (0, reference.sot_token_id, reference.eot_token_id)
    for words in ("cat dog cars at é", "x é! cat's dogs", "512 ö"):
        assert tokenizer.encode(words) == reference.encode(words)
    known = [i for i in random_ids(60, 512 + len(MERGES), 3) if i in reference.decoder]
    assert decode(tokenizer, known) == reference.decode(known)


def save_hugging_face(folder: Path, reference: SimpleTokenizer, *, whole: bool) -> Path:
    """Write the vocabulary as Hugging Face's CLIP models have it, by transformers if `whole`."""
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    ids = {names.get(token, token): number for token, number in reference.encoder.items()}
    merges = [tuple(pair) for pair in reference.bpe_ranks]
    folder.mkdir(exist_ok=True)
    if whole:
        transformers.CLIPTokenizer(vocab=ids, merges=merges).save_pretrained(folder)
    else:
        (folder / "vocab.json").write_text(json.dumps(ids))
        lines = ["#version: 0.2", *map(" ".join, merges), ""]
        (folder / "merges.txt").write_text("\n".join(lines), "utf-8")
    return folder


@pytest.mark.parametrize("whole", [True, False])
def test_hugging_faces_files_give_the_same(tmp_path, ours, reference, whole):
    folder = save_hugging_face(tmp_path, reference, whole=whole)
    assert (folder / "tokenizer.json").is_file() == whole
    tokenizer = clip_tokenizer(folder, pad_id=3)
    assert tokenizer.special == (3, 49406, 49407)
    assert tokenizer.vocab_size == 49408
    for text in ("A photo of a DOG, it's 42!", "naïve café 日本 😀"):
        assert tokenizer.encode(text) == reference.encode(text)
    for seed in range(50):
        ids = random_ids(12, 49406, seed)
        assert decode(tokenizer, ids) == reference.decode(ids)
    caption = [49406, *reference.encode("two dogs, on a beach"), 49407]
    assert tokenizer.decode(caption) == ours.decode(caption) == "two dogs , on a beach"


def test_the_folders_files_are_looked_for_in_order(tmp_path, reference):
    assert clip_tokenizer(tmp_path).vocab_size == 49408  # the installed one
    packed(tmp_path, FILES[0])
    assert clip_tokenizer(tmp_path).vocab_size == 512 + len(MERGES) + 2
    save_hugging_face(tmp_path, reference, whole=False)
    assert clip_tokenizer(tmp_path).source.endswith("vocab.json")
    backend = Tokenizer(models.WordLevel({"<start_of_text>": 0, "<end_of_text>": 1}, "a"))
    backend.save(str(tmp_path / "tokenizer.json"))
    assert clip_tokenizer(tmp_path).special == (0, 0, 1)


def test_open_clip_is_not_imported(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from mmattn.interop.open_clip.clip_tokenizer import clip_tokenizer\n"
        f"assert clip_tokenizer(Path({str(tmp_path)!r})).vocab_size == 49408\n"
        "assert not {'open_clip', 'transformers', 'ftfy'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_vocabulary_at_all_ends_in_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"no vocabulary; put .* or install open_clip_torch"):
        clip_tokenizer(tmp_path)


def test_the_installed_vocabulary_is_not_taken_where_another_one_is_meant(tmp_path):
    with pytest.raises(CheckpointError, match=r"no vocabulary; put .* beside the weights$"):
        clip_tokenizer(tmp_path, installed=False)


def test_a_gzip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    packed(tmp_path, "x" * 10_001)
    with pytest.raises(CheckpointError, match="unpacks to more than 10000 bytes"):
        clip_tokenizer(tmp_path)


def damaged(data: bytes) -> bytes:
    """The bytes with their middle turned over."""
    return data[:30] + bytes(255 - byte for byte in data[30:60]) + data[60:]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"no gzip", "cannot read this vocabulary"),
        (gzip.compress(FILES[0].encode(), mtime=0)[:-20], "cannot read this vocabulary"),
        (damaged(gzip.compress(FILES[0].encode(), mtime=0)), "cannot read this vocabulary"),
        (gzip.compress(b"\xff\xfe\xfd", mtime=0), "cannot read this vocabulary"),
        (gzip.compress(b"#version\na b c", mtime=0), "'a b c' is no merge of this vocabulary"),
        (gzip.compress(b"#version\nab cd", mtime=0), "'ab cd' is no merge of this vocabulary"),
    ],
)
def test_a_damaged_vocabulary_is_one_message(tmp_path, data, said):
    (tmp_path / VOCABULARY_FILE).write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"{VOCABULARY_FILE}: {said}"):
        clip_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("vocabulary", "merges", "said"),
    [
        ("{", "", "vocab.json: cannot be read as JSON"),
        ("[1]", "", "vocab.json: holds no JSON object"),
        ('{"a": "b"}', "", "vocab.json: not a mapping from tokens to ids"),
        ('{"a": -1}', "", "vocab.json: not a mapping from tokens to ids"),
        ('{"a": 4294967296}', "", "merges.txt: no vocabulary of CLIP's kind"),
        ('{"a": 0, "b": 1}', "a b", "merges.txt: 'a b' is no merge of this vocabulary"),
        ('{"a": 0, "b": 1}', "", "vocab.json: has neither <start_of_text> and <end_of_text> nor"),
    ],
)
def test_damaged_files_of_hugging_faces_layout_are_one_message(tmp_path, vocabulary, merges, said):
    (tmp_path / "vocab.json").write_text(vocabulary)
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(CheckpointError, match=said):
        clip_tokenizer(tmp_path)


def test_merges_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"merges\.txt: cannot read these merges"):
        clip_tokenizer(tmp_path)


def test_other_tokenizers_are_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer\.json"):
        clip_tokenizer(tmp_path)
    wrong = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}
    whole = json.loads(Tokenizer(models.BPE()).to_str()) | {"model": wrong}
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer\.json"):
        clip_tokenizer(tmp_path)
    Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1}, "<s>")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="this is not CLIP's kind of tokenizer"):
        clip_tokenizer(tmp_path)


def test_an_id_of_padding_that_no_token_has_is_refused(tmp_path):
    packed(tmp_path, FILES[0])
    with pytest.raises(CheckpointError, match="no token 9999, which is to be its pad token"):
        clip_tokenizer(tmp_path, pad_id=9999)
