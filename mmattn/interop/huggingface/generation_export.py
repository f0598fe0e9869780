"""Our decoding options as Hugging Face's generation_config.json."""

from dataclasses import fields
from typing import Any

from mmattn.bundle import Bundle
from mmattn.decoding.options import DecodingOptions
from mmattn.errors import ConfigError

NAMES = {
    "beams": "num_beams",
    "length_penalty": "length_penalty",
    "early_stopping": "early_stopping",
    "sample": "do_sample",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "returned": "num_return_sequences",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram": "no_repeat_ngram_size",
}


def generation_config(bundle: Bundle) -> dict[str, Any]:
    """Return what `generate` needs to know to decode as the bundle says.

    Lengths count the begin token there and not here.

    Raises:
        ConfigError: for a choice of decoding that `generate` does not have.
    """
    chosen = _changed(bundle.decoding)
    special = bundle.tokenizer.special
    written: dict[str, Any] = {
        "bos_token_id": special.begin,
        "decoder_start_token_id": special.begin,
        "eos_token_id": special.end,
        "pad_token_id": special.pad,
        "max_length": chosen.pop("max_length", bundle.max_length) + 1,
    }
    if "min_length" in chosen:
        written["min_length"] = chosen.pop("min_length") + 1
    if chosen.get("sample"):
        written["top_k"] = 0  # all tokens, where `generate` would draw from 50
        if chosen.pop("samples", 1) != chosen.get("returned", 1):
            raise _foreign("samples", "draws more captions than are returned")
    for name, value in chosen.items():
        if name not in NAMES:
            raise _foreign(name, f"is {value!r}")
        written[NAMES[name]] = value
    return written


def _changed(decoding: dict[str, Any]) -> dict[str, Any]:
    """Return the options that differ from their defaults."""
    default = {field.name: field.default for field in fields(DecodingOptions)}
    plain = {name: tuple(v) if isinstance(v, list) else v for name, v in decoding.items()}
    return {name: value for name, value in plain.items() if value != default.get(name)}


def _foreign(name: str, what: str) -> ConfigError:
    return ConfigError(
        f"decoding option {name!r} {what}: Hugging Face's generate has no such option; leave it out"
    )
