"""CLIP's tokenizer, as open_clip has it, in a backend of Hugging Face's `tokenizers`.

Decoding equals open_clip's. Encoding equals it for text that needs no repair. open_clip runs every
text through ftfy and `html.unescape` first; a backend's normalisers express the rules that look at
one place by itself (quotes, ligatures, full-width letters, control characters, the commonest HTML
entities), but not the others: wrongly decoded text ("schÃ¶n"), other entities ("&eacute;"), escape
codes of terminals. And the name of a special token is found also where it is glued to punctuation.
A tokenizer.json brings rules of its own for encoding, which are kept.
"""

import gzip
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)

from mmattn.data.backend import backend_errors, read_backend
from mmattn.data.tokenizer import CaptionTokenizer, SpecialIds
from mmattn.errors import CheckpointError
from mmattn.interop.model_tokenizer import model_tokenizer
from mmattn.json_file import read_json

# Begin and end of a text, as open_clip calls them, and as OpenAI and Hugging Face do.
SPECIAL = (("<start_of_text>", "<end_of_text>"), ("<|startoftext|>", "<|endoftext|>"))
WORD_END = "</w>"  # part of every token that ends a word
VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
MERGES = 49_152 - 256 - 2  # so many of the file's lines are CLIP's
MOST_BYTES = 64 * 2**20  # of an unpacked vocabulary: CLIP's has 3 MB, a gzip bomb any number

# Contractions, words, single digits, and whatever else stands between spaces.
PIECES = r"'[sſ]|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
CONTROL = r"[\x{00}-\x{08}\x{0b}\x{0e}-\x{1f}\x{7f}\x{206a}-\x{206f}\x{feff}\x{fff9}-\x{fffc}]"
LIGATURES = "ĲĳŉǱǲǳǄǅǆǇǈǉǊǋǌﬀﬁﬂﬃﬄﬆ"
BEFORE, BEHIND = r"\p{Cased}\p{Case_Ignorable}*", r"\p{Case_Ignorable}*\p{Cased}"
FULL_WIDTH = [chr(0x3000), *map(chr, range(0xFF01, 0xFFF0))]
ENTITIES = {"lt": "<", "gt": ">", "quot": '"', "#39": "'", "#039": "'", "#x27": "'", "nbsp": " "}


def clip_tokenizer(folder: Path, pad_id: int = 0, *, installed: bool = True) -> CaptionTokenizer:
    """Return the tokenizer of an open_clip model.

    It is made of the first of these that is there: `tokenizer.json` in the folder, `vocab.json` and
    `merges.txt` in it, `bpe_simple_vocab_16e6.txt.gz` in it, and the last one in the installed
    open_clip, which is not imported for that.

    Args:
        folder: the model's.
        pad_id: the id of padding, for which CLIP's vocabulary has no token of its own.
        installed: whether the installed open_clip's vocabulary will do.

    Raises:
        CheckpointError: where there is no vocabulary, or it is not one of CLIP's kind.
    """
    backend, source = _read(folder, installed)
    for begin, end in SPECIAL:
        begin_id, end_id = backend.token_to_id(begin), backend.token_to_id(end)
        if begin_id is not None and end_id is not None:
            return model_tokenizer(backend, str(source), SpecialIds(pad_id, begin_id, end_id))
    names = " nor ".join(" and ".join(pair) for pair in SPECIAL)
    raise CheckpointError(f"{source}: has neither {names}: this is not CLIP's kind of tokenizer")


def _read(folder: Path, installed: bool) -> tuple[Tokenizer, Path]:
    """Return the backend, and the file that it was made of."""
    whole, vocabulary, merges, packed = (
        folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt", VOCABULARY_FILE)
    )
    if whole.is_file():
        return _of_tokenizer_json(whole), whole
    if vocabulary.is_file() and merges.is_file():
        return _of_vocabulary_and_merges(vocabulary, merges), vocabulary
    path = installed_vocabulary() if installed and not packed.is_file() else packed
    if path is None or not path.is_file():
        remedy = ", or install open_clip_torch, which has the last" if installed else ""
        raise CheckpointError(
            f"{folder}: no vocabulary; put tokenizer.json, vocab.json and merges.txt, or "
            f"{VOCABULARY_FILE} beside the weights{remedy}"
        )
    return _of_packed_vocabulary(path), path


def installed_vocabulary() -> Path | None:
    """Return the vocabulary file of the installed open_clip; none of its code runs."""
    spec = find_spec("open_clip")
    folders = spec.submodule_search_locations if spec else None
    found = (Path(folder) / VOCABULARY_FILE for folder in folders or ())
    return next((path for path in found if path.is_file()), None)


def _of_tokenizer_json(path: Path) -> Tokenizer:
    backend = read_backend(path, CheckpointError)
    if getattr(backend.model, "end_of_word_suffix", None) == WORD_END:
        # Hugging Face turns the ends of words into spaces in Python, and the file does not say so.
        backend.decoder = _decoder()
    return backend


def _of_vocabulary_and_merges(vocabulary: Path, merges: Path) -> Tokenizer:
    ids = read_json(vocabulary)
    if not all(type(number) is int and number >= 0 for number in ids.values()):
        raise CheckpointError(f"{vocabulary}: not a mapping from tokens to ids")
    try:
        lines = merges.read_text("utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{merges}: cannot read these merges ({error})") from None
    first = 1 if lines[0].startswith("#version") else 0
    return clip_backend(ids, [tuple(line.split()) for line in lines[first:]], str(merges))


def _of_packed_vocabulary(path: Path) -> Tokenizer:
    """Number the tokens as open_clip does: bytes, bytes that end a word, merges, special tokens."""
    merges = [tuple(line.split()) for line in _unpacked(path).split("\n")[1 : MERGES + 1]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + WORD_END for letter in letters), *map("".join, merges)]
    # An empty line has a number, too, and of a token that two merges make the later number counts.
    ids = {token: number for number, token in enumerate([*tokens, *SPECIAL[0]])}
    return clip_backend(ids, merges, str(path))


def _unpacked(path: Path) -> str:
    """Return the text of a .gz file. Raises CheckpointError where it is broken, or too long."""
    try:
        with gzip.open(path) as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise CheckpointError(f"{path}: cannot read this vocabulary ({error})") from None
    if len(data) > MOST_BYTES:
        raise CheckpointError(f"{path}: unpacks to more than {MOST_BYTES} bytes: no vocabulary")
    return text


def clip_backend(ids: dict[str, int], merges: Sequence[tuple[str, ...]], source: str) -> Tokenizer:
    """Return a byte-level BPE whose tokens tell the end of a word, with CLIP's rules around it.

    Args:
        ids: the tokens and their numbers.
        merges: pairs of tokens, the first to be merged first; empty ones are left out.
        source: what to call them in messages.

    Raises:
        CheckpointError: where a merge is not of two tokens of the vocabulary to a third.
    """
    pairs = _pairs(ids, merges, source)
    with backend_errors(f"{source}: no vocabulary of CLIP's kind", CheckpointError):
        backend = Tokenizer(models.BPE(ids, pairs, end_of_word_suffix=WORD_END))
    backend.normalizer = normalizers.Sequence(list(_normalisers()))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = _decoder()
    known = [name for pair in SPECIAL for name in pair if name in ids]
    backend.add_special_tokens([AddedToken(name, normalized=True) for name in known])
    return backend


def _pairs(
    ids: dict[str, int], merges: Sequence[tuple[str, ...]], source: str
) -> list[tuple[str, str]]:
    """Return the merges that are not empty; the backend would crash on a wrong one."""
    pairs = []
    for merge in filter(None, merges):
        if len(merge) != 2 or not ids.keys() >= {*merge, "".join(merge)}:
            raise CheckpointError(f"{source}: {' '.join(merge)!r} is no merge of this vocabulary")
        pairs.append((merge[0], merge[1]))
    return pairs


def _decoder() -> decoders.Decoder:
    return decoders.Sequence([decoders.ByteLevel(), decoders.Replace(WORD_END, " ")])


def _normalisers() -> Iterator[normalizers.Normalizer]:
    """Yield what ftfy, `html.unescape` and `lower` do, as far as one place tells it by itself."""
    yield normalizers.Replace(Regex("&(amp;)+"), "&")
    for name, letter in ENTITIES.items():
        yield normalizers.Replace(f"&{name};", letter)
    for letter in (*LIGATURES, *FULL_WIDTH):
        plain = unicodedata.normalize("NFKC", letter)
        if plain != letter:
            yield normalizers.Replace(letter, plain)
    yield normalizers.Replace("ﬅ", "ſt")  # NFKC would make "st" of it
    yield normalizers.Replace(Regex("[ʼ\u2018-\u201b]"), "'")
    yield normalizers.Replace(Regex("[\u201c-\u201f]"), '"')
    yield normalizers.Replace(Regex(CONTROL), "")
    yield normalizers.NFC()
    # The backend lowers letter by letter, Python knows how a Greek word ends.
    yield normalizers.Replace(Regex(f"(?<={BEFORE})Σ(?!{BEHIND})"), "ς")
    yield normalizers.Lowercase()
