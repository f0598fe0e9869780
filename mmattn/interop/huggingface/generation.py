"""How a Hugging Face folder wants its captions written, as our own decoding options."""

from pathlib import Path
from typing import Any, NamedTuple

from mmattn.decoding.options import DecodingOptions
from mmattn.errors import CheckpointError, ConfigError
from mmattn.interop.json_settings import Settings, read_settings

NEW_TOKENS = 20  # what `generate` writes at most where nobody says
TOP_K = 50  # what `generate` draws from where nobody says
# What changes captions and is not among our options, with the value that changes nothing.
NEUTRAL: dict[str, Any] = {
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "constraints": None,
    "dola_layers": None,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "exponential_decay_length_penalty": None,
    "force_words_ids": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "guidance_scale": 1.0,
    "max_time": None,
    "penalty_alpha": 0.0,
    "renormalize_logits": False,
    "sequence_bias": None,
    "stop_strings": None,
    "suppress_tokens": None,
    "token_healing": False,
    "watermarking_config": None,
}
NEUTRAL_IN_SAMPLING = {"typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "top_h": None}


class Generation(NamedTuple):
    """max_length: the most tokens behind the begin token. decoding: see `Bundle.decoding`."""

    max_length: int
    decoding: dict[str, Any]


def read_generation(folder: Path, *older: Settings) -> Generation:
    """Return the folder's own choice of decoding; see `generation_settings` for where it is.

    Raises:
        CheckpointError: for a value of another kind, or a way of decoding that we do not have.
    """
    return generation(generation_settings(folder, *older))


def generation_settings(folder: Path, *older: Settings) -> Settings:
    """Return the settings of `generate`: of generation_config.json, and of it alone.

    Folders that are older than this file have them in config.json: in the `older` sections, of
    which an earlier one counts more.
    """
    folder = Path(folder)
    if (folder / "generation_config.json").is_file():
        return read_settings(folder / "generation_config.json")
    values = {key: value for one in reversed(older) for key, value in one.given().items()}
    return Settings(values, str(folder / "config.json"))


def generation(settings: Settings) -> Generation:
    """Return what these settings of `generate` say; what they leave at its default is left out.

    Lengths count the begin token there and not here. Raises CheckpointError as `read_generation`.
    """
    _refuse_unknown(settings, NEUTRAL)
    beams, sample = settings.whole("num_beams", 1), settings.flag("do_sample", False)
    if sample and beams > 1:
        raise settings.wrong("num_beams", "1 where 'do_sample' is true: drawn beams are unknown")
    decoding = _rules(settings)
    if beams > 1:
        decoding |= _of_beams(settings, beams)
    if sample:
        decoding |= _of_sampling(settings)
    max_length = _max_length(settings)
    try:
        DecodingOptions(max_length=max_length, **decoding)
    except ConfigError as error:
        raise CheckpointError(f"{settings.where}: {error}") from None
    return Generation(max_length, decoding)


def _refuse_unknown(settings: Settings, neutral: dict[str, Any]) -> None:
    for key, value in neutral.items():
        given = settings.raw(key, None)
        if given not in (None, value, []):
            raise settings.wrong(key, "left out: no decoding option does this here")


def _max_length(settings: Settings) -> int:
    if settings.has("max_new_tokens"):
        return settings.whole("max_new_tokens")
    if settings.has("max_length"):
        return settings.whole("max_length", least=2) - 1
    return NEW_TOKENS


def _rules(settings: Settings) -> dict[str, Any]:
    """Return the options that every method knows."""
    shortest = max(settings.whole("min_length", 0, least=0) - 1, 0)
    return _changed(
        {
            "min_length": (settings.whole("min_new_tokens", shortest, least=0), 0),
            "repetition_penalty": (settings.number("repetition_penalty", 1.0), 1.0),
            "no_repeat_ngram": (settings.whole("no_repeat_ngram_size", 0, least=0), 0),
            "returned": (settings.whole("num_return_sequences", 1), 1),
        }
    )


def _of_beams(settings: Settings, beams: int) -> dict[str, Any]:
    groups = settings.whole("num_beam_groups", 1)
    return {"beams": beams} | _changed(
        {
            "groups": (groups, 1),
            "diversity": (settings.number("diversity_penalty", 0.0) if groups > 1 else 0.0, 0.0),
            "length_penalty": (settings.number("length_penalty", 1.0), 1.0),
            "early_stopping": (settings.flag("early_stopping", False), False),
        }
    )


def _of_sampling(settings: Settings) -> dict[str, Any]:
    _refuse_unknown(settings, NEUTRAL_IN_SAMPLING)
    drawn = settings.whole("num_return_sequences", 1)
    top_k = settings.whole("top_k", TOP_K, least=0)
    return {"sample": True, "top_k": top_k or None} | _changed(
        {
            "samples": (drawn, 1),
            "temperature": (settings.number("temperature", 1.0), 1.0),
            "top_p": (settings.number("top_p", 1.0), 1.0),
            "min_p": (settings.number("min_p", 0.0), 0.0),
        }
    )


def _changed(values: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Return the values that differ from the default beside them."""
    return {name: value for name, (value, default) in values.items() if value != default}
