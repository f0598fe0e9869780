"""config.json: all that a captioner is besides weights and tokenizer, as plain values."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmattn.architecture import describe
from mmattn.bundle import Bundle
from mmattn.captioner import Captioner
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import SpecialIds
from mmattn.decoding.options import DecodingOptions
from mmattn.errors import CheckpointError, ConfigError, one_line
from mmattn.model_folder.layout import FORMAT, library_version
from mmattn.model_folder.weights import DTYPES, MIXED

TASK = "caption"
KINDS: dict[str, type] = {
    "format": int,
    "mmattn": str,
    "task": str,
    "source": str,
    "architecture": dict,
    "weights": dict,
    "preprocessing": dict,
    "tokenizer": dict,
    "max_length": int,
    "decoding": dict,
}
# What `timm.create_model` may be told of where weights come from.
ORIGINS = re.compile(r"pretrained.*|checkpoint.*|cache_dir")
# A string of an architecture is a name: no path and no address can be written with these.
NAME = re.compile(r"[\w.-]*")


def config_of(bundle: Bundle, dtype: str, tied: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of config.json.

    Args:
        bundle: what is written.
        dtype: name of the type of the stored weights.
        tied: parameters that are not stored -> those that they are.

    Raises:
        CheckpointError: for a model that plain values do not describe.
    """
    tokenizer = bundle.tokenizer
    config = {
        "format": FORMAT,
        "mmattn": library_version(),
        "task": TASK,
        "source": bundle.source,
        "architecture": without_origins(describe(bundle.model)),
        "weights": {"dtype": dtype, "tied": dict(tied)},
        "preprocessing": bundle.preprocessing.settings(),
        "tokenizer": {"vocab_size": tokenizer.vocab_size, **tokenizer.special._asdict()},
        "max_length": bundle.max_length,
        "decoding": bundle.decoding,
    }
    try:
        plain = json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the model's settings are not plain values: {error}") from error
    check_config(plain, "the model's settings")
    return plain


def config_json(config: Mapping[str, Any]) -> bytes:
    """Return the content of the file."""
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()


def without_origins(architecture: dict[str, Any]) -> dict[str, Any]:
    """Return an architecture without what timm was told of where its weights come from."""
    patches = architecture["vision"]["patches"]
    if "options" in patches:
        kept = {k: v for k, v in patches["options"].items() if not ORIGINS.fullmatch(k)}
        patches = {**patches, "options": kept}
    return {**architecture, "vision": {**architecture["vision"], "patches": patches}}


def check_config(config: Mapping[str, Any], source: str) -> None:
    """Check a configuration of this version's format.

    Raises:
        CheckpointError: for a key that is missing, unknown, of another type or that would make
            reading run something or look elsewhere.
    """
    check_nothing_runs(config, source)
    for key, kind in KINDS.items():
        if type(config.get(key)) is not kind:
            found = f"is {shown(config[key])}" if key in config else "is missing"
            raise CheckpointError(f"{source}: {key} {found}; format {FORMAT} has a {kind.__name__}")
    unknown = sorted(config.keys() - KINDS.keys())
    if unknown:
        raise CheckpointError(f"{source}: format {FORMAT} has no key {unknown[0]!r}")
    if config["task"] != TASK:
        raise CheckpointError(f"{source}: task is {config['task']!r}; this version knows {TASK!r}")
    check_architecture(config["architecture"], source)
    check_weights(config["weights"], source)
    check_decoding(config["decoding"], source)


def check_nothing_runs(config: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for a `_target_` at any depth."""
    for where, key, _ in walk(config):
        if key == "_target_":
            raise CheckpointError(
                f"{source}: {where} would say what to run, and a model folder holds values only: "
                "it is not of mmattn, or somebody changed it; do not use it"
            )


def check_architecture(architecture: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for an architecture that would read a file or fetch weights."""
    for where, key, value in walk(architecture, "architecture"):
        if ORIGINS.fullmatch(key) and value is not False:
            raise CheckpointError(
                f"{source}: {where} is {shown(value)}: the weights of a model folder come from "
                "itself only"
            )
        if isinstance(value, str) and not NAME.fullmatch(value):
            raise CheckpointError(f"{source}: {where} is {shown(value)}, which is no name")


def check_weights(weights: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError where type or ties of the weights are not said as they should be."""
    dtype, tied = weights.get("dtype"), weights.get("tied")
    if dtype not in (*DTYPES, MIXED):
        known = ", ".join((*DTYPES, MIXED))
        raise CheckpointError(f"{source}: weights.dtype is {shown(dtype)}; known: {known}")
    if not isinstance(tied, dict) or not all(isinstance(name, str) for name in tied.values()):
        raise CheckpointError(f"{source}: weights.tied is {shown(tied)}, not names of parameters")


def check_decoding(decoding: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for decoding options that this version does not have or take."""
    try:
        DecodingOptions().changed(decoding_of(decoding))
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{source}: decoding: {one_line(error)}") from error


def check_fits(config: Mapping[str, Any], model: Captioner, source: str) -> None:
    """Raise CheckpointError for captions, a vocabulary or special tokens that a model cannot have.

    A vocabulary may be smaller than the model's: some are padded to a round number.
    """
    text, longest, values = model.text, config["max_length"], config["tokenizer"]
    if longest < 1 or (text.position == "learned" and longest > text.max_length):
        raise CheckpointError(
            f"{source}: max_length is {longest}, and the model has positions for "
            f"{text.max_length} tokens"
        )
    number = values.get("vocab_size")
    if type(number) is not int or number > text.vocab_size:
        raise CheckpointError(
            f"{source}: the tokenizer has {number} tokens, and the model {text.vocab_size}"
        )
    for role in SpecialIds._fields:
        number = values.get(role)
        if type(number) is not int or not 0 <= number < text.vocab_size:
            raise CheckpointError(f"{source}: tokenizer.{role} is {shown(number)}, no token's id")


def preprocessing(config: Mapping[str, Any], source: str) -> Preprocessing:
    """Return the preprocessing. Raises CheckpointError for values that it cannot have."""
    values = config["preprocessing"]
    try:
        found = Preprocessing.of_settings(dict(values))
        found.transform()
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source}: preprocessing cannot be built ({one_line(error)})"
        ) from error
    size: Any = found.size
    if not isinstance(size, tuple) or [type(n) is int and n > 0 for n in size] != [True, True]:
        raise CheckpointError(f"{source}: preprocessing.size is {shown(size)}: give two numbers")
    return found


def decoding_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decoding options; JSON's lists are tuples there."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def walk(value: Any, where: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield (dotted place, key, value) of every entry of nested values; list items have key "".

    Values may be nested deeper than Python calls.
    """
    waiting = [(where, value)]
    while waiting:
        where, value = waiting.pop()
        entries = value.items() if isinstance(value, Mapping) else ()
        if isinstance(value, list):
            entries = (("", item) for item in value)
        for key, inner in entries:
            place = f"{where}.{key}".strip(".")
            waiting.append((place, inner))
            yield place, key, inner


def shown(value: Any) -> str:
    """Return a value for a message, cut to one short line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
