"""What decoding options may be, each by itself and together."""

import math
import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from mmattn.errors import ConfigError

# The values of `DecodingOptions`, by their names.
Options = Mapping[str, Any]


class Range(NamedTuple):
    """Which numbers an option takes. above: `least` itself is none of them."""

    kind: type
    least: float = -math.inf
    most: float = math.inf
    above: bool = False

    def takes(self, value: Any) -> bool:
        """Return whether a value is such a number; NaN and what no real can hold are none."""
        kinds = (int,) if self.kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            return False
        if not abs(value) <= sys.float_info.max:
            return False
        return self.least <= value <= self.most and not (self.above and value == self.least)

    def __str__(self):
        name = "a whole number" if self.kind is int else "a number"
        if self.least == -math.inf:
            return name
        bound = f"above {self.least}" if self.above else f"of at least {self.least}"
        return f"{name} {bound}" + (f" and at most {self.most}" if self.most < math.inf else "")


RANGES = {
    "beams": Range(int, 1),
    "groups": Range(int, 1),
    "diversity": Range(float, 0),
    "length_penalty": Range(float),
    "temperature": Range(float, 0, above=True),
    "top_k": Range(int, 1),
    "top_p": Range(float, 0, 1, above=True),
    "min_p": Range(float, 0, 1),
    "samples": Range(int, 1),
    "seed": Range(int, 0),
    "best_of": Range(int, 1),
    "returned": Range(int, 1),
    "max_length": Range(int, 1),
    "min_length": Range(int, 0),
    "repetition_penalty": Range(float, 0, above=True),
    "no_repeat_ngram": Range(int, 0),
}
UNUSED = "\N{LATIN LETTER WYNN}"
MAY_BE_NONE = ("top_k", "max_length", "best_of")
FLAGS = ("early_stopping", "sample")
# What an option must be for another to mean anything, and the value by which that one is not used.
NEEDS_BEAMS = {"length_penalty": 1.0, "early_stopping": False, "required": ()}
NEEDS_SAMPLE = {"temperature": 1.0, "top_k": None, "top_p": 1.0, "min_p": 0.0, "samples": 1}


def checked(options: Options) -> dict[str, Any]:
    """Return the values with lists as tuples, and whole numbers as reals where reals are meant.

    Raises:
        ConfigError: for a value that cannot be, or two that exclude each other.
    """
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    check_values(values)
    values |= {name: float(values[name]) for name, wanted in RANGES.items() if wanted.kind is float}
    check_words(values)
    check_contradictions(values["prefix"], values["required"], values["forbidden"])
    check_combinations(values)
    return values


def check_values(options: Options) -> None:
    """Raise ConfigError for a value of another kind, or out of its range."""
    for name, wanted in RANGES.items():
        value = options[name]
        if not (value is None and name in MAY_BE_NONE) and not wanted.takes(value):
            none = " or None" if name in MAY_BE_NONE else ""
            raise ConfigError(f"{name}={value!r}: give {wanted}{none}")
    for name in FLAGS:
        if not isinstance(options[name], bool):
            raise ConfigError(f"{name}={options[name]!r}: give true or false")


def check_words(options: Options) -> None:
    """Raise ConfigError for words that are none."""
    if not isinstance(options["prefix"], str):
        raise ConfigError(f"prefix={options['prefix']!r}: give a text")
    for name in ("bad_endings", "forbidden", "required"):
        value = options[name]
        if not isinstance(value, tuple) or not all(isinstance(word, str) for word in value):
            raise ConfigError(f"{name}={value!r}: give a list of words or phrases")
        for word in value:
            alternatives = word.split("|") if name == "required" else [word]
            if not all(text.removesuffix("*").strip() for text in alternatives):
                raise ConfigError(f"{name} has {word!r}: a word is missing")
    for word in options["bad_endings"]:
        if word.endswith("*"):
            raise ConfigError(
                f"bad_endings has {word!r}: give whole words, '*' is for forbidden and required"
            )


def check_contradictions(
    prefix: str, required: tuple[str, ...], forbidden: tuple[str, ...]
) -> None:
    """Raise ConfigError where what every caption has is forbidden."""
    asked = [("prefix", prefix, [f"{prefix}*"] if prefix else [])]  # its last word may go on
    asked += [("required", word, word.split("|")) for word in required]
    for name, value, alternatives in asked:
        blocking = [forbidding(text, forbidden) for text in alternatives]
        if blocking and all(blocking):
            raise ConfigError(
                f"{name} has {value!r} and forbidden has {blocking[0]!r}: no caption can do both; "
                "take one of them out"
            )


def forbidding(text: str, forbidden: tuple[str, ...]) -> str | None:
    """Return the first forbidden word or phrase that is in every caption with `text`, if any."""
    if text.endswith("*"):  # the word goes on, in a letter that no word has
        text = text.removesuffix("*") + UNUSED
    for word in forbidden:
        said = word.removesuffix("*").strip()
        start = r"\b" if said[0].isalnum() else ""
        end = r"\b" if said[-1].isalnum() and not word.endswith("*") else ""
        if re.search(start + re.escape(said) + end, text, re.IGNORECASE):
            return word
    return None


def check_combinations(options: Options) -> None:
    """Raise ConfigError for options that exclude each other."""
    check_method(options)
    check_best_of(options)
    check_returned(options)
    if options["max_length"] is not None:
        check_min_length(options["min_length"], options["max_length"])


def check_method(options: Options) -> None:
    """Raise ConfigError where options are of different methods."""
    sample, beams, groups = options["sample"], options["beams"], options["groups"]
    for name in ("beams", "groups"):
        if sample and options[name] > 1:
            raise ConfigError(
                f"sample=True with {name}={options[name]}: captions are drawn or searched for, "
                f"not both; leave out sample, or {name}"
            )
    for name, unused in NEEDS_SAMPLE.items():
        if not sample and options[name] != unused:
            raise ConfigError(
                f"{name}={options[name]!r} with sample=False: nothing is drawn; add sample=True, "
                f"or leave out {name}"
            )
    for name, unused in NEEDS_BEAMS.items():
        if beams == 1 and options[name] != unused:
            other, remedy = ("sample=True", "leave out sample and ") if sample else ("beams=1", "")
            raise ConfigError(
                f"{name}={options[name]!r} with {other}: only beam search knows {name}; {remedy}"
                f"give beams=4, say, or leave out {name}"
            )
    check_groups(beams, groups, options["diversity"], options["required"])


def check_groups(beams: int, groups: int, diversity: float, required: tuple[str, ...]) -> None:
    """Raise ConfigError where the groups of beams cannot be."""
    if beams % groups:
        raise ConfigError(
            f"groups={groups} with beams={beams}: give beams that divide into so many groups, as "
            f"{max(groups, beams - beams % groups)} do"
        )
    if diversity and groups == 1:
        raise ConfigError(
            f"diversity={diversity} with groups=1: it is groups that differ; give groups=2 or "
            "more, or leave out diversity"
        )
    if required and beams < 2 * groups:
        raise ConfigError(
            f"required={required} with beams={beams} and groups={groups}: give at least two beams "
            "a group, better one for each token that is required and one more"
        )


def check_best_of(options: Options) -> None:
    """Raise ConfigError where captions are to be chosen among more than are written."""
    best_of, samples, beams = (options[name] for name in ("best_of", "samples", "beams"))
    if best_of is None:
        return
    if options["sample"] and samples not in (1, best_of):
        raise ConfigError(
            f"best_of={best_of} with samples={samples}: both say how many captions are drawn; "
            "leave one of them out"
        )
    if not options["sample"] and best_of > beams:
        how = (
            "greedy decoding writes one caption; add sample=True, or give" if beams == 1 else "give"
        )
        raise ConfigError(f"best_of={best_of} with beams={beams}: {how} beams={best_of}, say")


def check_returned(options: Options) -> None:
    """Raise ConfigError where more captions are to be returned than are written."""
    most = "samples" if options["sample"] else "beams"
    most = most if options["best_of"] is None else "best_of"
    written, returned = options[most], options["returned"]
    if returned <= written:
        return
    how = "raise " + most
    if most == "beams" and written == 1:
        how = "greedy decoding writes one caption; raise beams, or set sample=True and samples"
    raise ConfigError(
        f"returned={options['returned']} with {most}={written}: {how}, or return at most {written}"
    )


def check_min_length(min_length: int, max_length: int) -> None:
    """Raise ConfigError where a caption would have no room for its end."""
    if min_length >= max_length:
        raise ConfigError(
            f"min_length={min_length} with max_length={max_length}: a caption has at least one "
            "token more than min_length, its end; give a smaller min_length"
        )
