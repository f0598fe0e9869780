"""What config.json says of a captioner and of no other model: how it writes its captions."""

from collections.abc import Mapping
from typing import Any

from mmattn.architecture import construct
from mmattn.bundle import Bundle
from mmattn.captioner import Captioner
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.decoding.options import DecodingOptions
from mmattn.errors import CheckpointError, ConfigError, one_line
from mmattn.model_folder.text_fits import check_text_fits

KINDS: dict[str, tuple[type, ...]] = {
    "preprocessing": (dict,),
    "tokenizer": (dict,),
    "decoding": (dict,),
}
build = construct


def values_of(bundle: Bundle) -> dict[str, Any]:
    """Return the entries of config.json that only a captioner has."""
    return {"decoding": bundle.decoding}


def check(config: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for decoding options that this version does not have or take."""
    try:
        DecodingOptions().changed(decoding_of(config["decoding"]))
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{source}: decoding: {one_line(error)}") from error


def check_fits(config: Mapping[str, Any], model: Captioner, source: str) -> None:
    """Raise CheckpointError for captions, a vocabulary or special tokens that it cannot have."""
    check_text_fits(config, model.text, source)


def bundle_of(
    config: Mapping[str, Any],
    model: Captioner,
    tokenizer: CaptionTokenizer | None,
    preprocessing: Preprocessing | None,
) -> Bundle:
    """Return the captioner with all that it needs; `check` and `check_fits` come first."""
    assert tokenizer is not None
    assert preprocessing is not None
    return Bundle(
        model=model,
        tokenizer=tokenizer,
        preprocessing=preprocessing,
        max_length=config["max_length"],
        decoding=decoding_of(config["decoding"]),
        source=config["source"],
    )


def decoding_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decoding options; JSON's lists are tuples there."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
