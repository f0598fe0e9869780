"""Tokenizers from vocabulary files of GPT-2's and BERT's kind, built without transformers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from mmattn.data.backend import backend_errors
from mmattn.errors import CheckpointError
from mmattn.interop.json_settings import Settings

GPT2_TOKENS = {
    "unk_token": "<|endoftext|>",
    "bos_token": "<|endoftext|>",
    "eos_token": "<|endoftext|>",
}
BERT_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def gpt2_backend(folder: Path, config: Settings, added: Settings) -> Tokenizer:
    """Return the byte-level BPE of a folder's vocab.json and merges.txt.

    Args:
        folder: the model folder.
        config: its tokenizer_config.json and special_tokens_map.json, together.
        added: its added_tokens.json: tokens and their ids.

    Raises:
        CheckpointError: where a file is missing or damaged, or an added token has another id.
    """
    with backend_errors(f"{folder}: vocab.json and merges.txt are no tokenizer", CheckpointError):
        vocab, merges = models.BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        backend = Tokenizer(models.BPE(vocab, merges))
    prefix_space = config.flag("add_prefix_space", False)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    backend.decoder = decoders.ByteLevel()
    _add_tokens(backend, config, added, GPT2_TOKENS)
    return backend


def bert_backend(folder: Path, config: Settings, added: Settings) -> Tokenizer:
    """Return the WordPiece tokenizer of a folder's vocab.txt; see `gpt2_backend`.

    Raises:
        CheckpointError: where the file is damaged, or an added token has another id.
    """
    roles = _roles(config, BERT_TOKENS)
    with backend_errors(f"{folder / 'vocab.txt'}: is no vocabulary", CheckpointError):
        vocab = models.WordPiece.read_file(str(folder / "vocab.txt"))
        backend = Tokenizer(models.WordPiece(vocab, unk_token=roles["unk_token"]))
    lower_case = config.flag("do_lower_case", True)
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=lower_case,
        strip_accents=config.flag("strip_accents", lower_case),
        handle_chinese_chars=config.flag("tokenize_chinese_chars", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    _add_tokens(backend, config, added, BERT_TOKENS)
    first, last = roles["cls_token"], roles["sep_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in (first, last)],
    )
    return backend


def _roles(config: Settings, defaults: dict[str, str]) -> dict[str, str]:
    """Return the special tokens of the kind, as the files name them."""
    return {role: _content(config, role, token) for role, token in defaults.items()}


def _content(settings: Settings, key: str, default: Any) -> str:
    """Return a token that is written as text, or as an object with its text and options."""
    value = settings.raw(key, default)
    if isinstance(value, dict):
        value = settings.section(key).raw("content")
    if not isinstance(value, str) or not value:
        raise settings.wrong(key, "a token's text")
    return value


def _add_tokens(
    backend: Tokenizer, config: Settings, added: Settings, defaults: dict[str, str]
) -> None:
    """Add what stands beside the vocabulary, and mark what is special.

    Raises CheckpointError where a token would get another id than the files say.
    """
    wanted: dict[int, AddedToken] = {}
    for key in added.values:
        wanted[added.whole(key, least=0)] = AddedToken(key, special=False)
    if config.has("added_tokens_decoder"):
        wanted |= dict(_described(config.section("added_tokens_decoder")))
    for number, token in sorted(wanted.items(), key=lambda item: item[0]):
        (backend.add_special_tokens if token.special else backend.add_tokens)([token])
        if backend.token_to_id(token.content) != number:
            raise CheckpointError(
                f"{config.where}: the token {token.content!r} is to have the id {number}, but in "
                f"this vocabulary it has {backend.token_to_id(token.content)}"
            )
    names = [key for key in config.values if key.endswith("_token") and _is_token(config, key)]
    tokens = [_content(config, key, None) for key in names] + _more_tokens(config)
    tokens += [token for role, token in defaults.items() if role not in names]
    backend.add_special_tokens([AddedToken(token, special=True) for token in dict.fromkeys(tokens)])


def _more_tokens(config: Settings) -> list[str]:
    """Return the special tokens that have no role."""
    key = "additional_special_tokens"
    values = config.raw(key, [])
    if not isinstance(values, list):
        raise config.wrong(key, "a list of tokens")
    return [_content(Settings({key: one}, config.where), key, None) for one in values]


def _is_token(config: Settings, key: str) -> bool:
    """Tell `pad_token` from flags such as `add_bos_token`, and from null."""
    return isinstance(config.values[key], str | dict)


def _described(tokens: Settings) -> Iterator[tuple[int, AddedToken]]:
    """Return the id and the token of every entry of `added_tokens_decoder`."""
    for key in tokens.values:
        if not key.isdecimal() or len(key) > 9:
            raise CheckpointError(f"{tokens.where}: {key!r} is no id of a token")
        one = tokens.section(key)
        flags = {name: one.flag(name, False) for name in ("lstrip", "rstrip", "single_word")}
        special = one.flag("special", False)
        yield (
            int(key),
            AddedToken(
                _content(one, "content", None),
                normalized=one.flag("normalized", not special),
                special=special,
                **flags,
            ),
        )
