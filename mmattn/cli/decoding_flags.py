"""The decoding options as flags of a command: `--beams 4`, `--no-repeat-ngram 3` …"""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmattn.errors import ConfigError

# Of each option: the type of its value and what it does.
FLAGS: dict[str, tuple[Any, str]] = {
    "beams": (int, "beam search with so many beams; 1 is greedy decoding"),
    "groups": (int, "groups of beams that differ: diverse beam search"),
    "diversity": (float, "what a token costs that an earlier group chose"),
    "length_penalty": (float, "above 0 favours long captions"),
    "temperature": (float, "with --sample: of the distribution that is drawn from"),
    "top_k": (int, "with --sample: only the k most probable tokens"),
    "top_p": (float, "with --sample: only the most probable tokens that hold this probability"),
    "min_p": (float, "with --sample: no token less probable than this share of the best one's"),
    "samples": (int, "with --sample: captions drawn of each image, the best are returned"),
    "seed": (int, "with --sample: of what is drawn"),
    "best_of": (int, "captions of each image, drawn or of beams, among which --by chooses"),
    "returned": (int, "captions of each image"),
    "max_length": (int, "the most tokens of a caption"),
    "min_length": (int, "the fewest tokens of a caption"),
    "repetition_penalty": (float, "what was written is so many times less likely; 1 is none"),
    "no_repeat_ngram": (int, "no so many tokens twice in a caption"),
    "prefix": (str, "how every caption begins"),
}
SWITCHES = {
    "sample": "draw tokens instead of choosing the best",
    "early_stopping": "stop as soon as there are as many captions as beams",
}
WORDS = {
    "bad_endings": "a word or phrase in which no caption may end; may be given several times",
    "forbidden": "a word or phrase that may not appear; may be given several times",
    "required": "a word or phrase that must appear, 'dog|puppy' one of them; several times",
}


def add_decoding_flags(parser: ArgumentParser) -> None:
    """Add a flag for every decoding option."""
    group = parser.add_argument_group(
        "how captions are written", "what is not given is as the model's folder says"
    )
    for name, (kind, meaning) in FLAGS.items():
        group.add_argument(flag(name), type=kind, help=meaning, metavar=kind.__name__.upper())
    for name, meaning in SWITCHES.items():
        group.add_argument(flag(name), action="store_true", default=None, help=meaning)
    for name, meaning in WORDS.items():
        group.add_argument(flag(name), action="append", help=meaning, metavar="WORDS")


def decoding_options(arguments: Namespace) -> dict[str, Any]:
    """Return the options that were given."""
    given = {name: getattr(arguments, name) for name in (*FLAGS, *SWITCHES, *WORDS)}
    return {name: value for name, value in given.items() if value is not None}


def flag(name: str) -> str:
    """Return an option's flag."""
    return f"--{name.replace('_', '-')}"


@contextmanager
def options_as_flags() -> Iterator[None]:
    """Let what is said of options, which have Python's names, name flags as they are typed."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(as_flags(str(error))) from None


def as_flags(message: str) -> str:
    """Return a message with `--beams 4` for `beams=4`, and `--sample` for `sample=True`."""
    switches, names = "|".join(SWITCHES), "|".join(("by", *FLAGS, *WORDS))
    message = re.sub(
        rf"\bwith ({switches})=False", lambda found: f"without {flag(found[1])}", message
    )
    message = re.sub(rf"\b({switches})=True", lambda found: flag(found[1]), message)
    value = r"('[^']*'|\([^)]*\)|[^\s,:;]+)"
    return re.sub(rf"\b({names})={value}", _typed, message)


def _typed(found: re.Match[str]) -> str:
    """Return an option as it is typed: a text without quotes, several words as several flags."""
    values = re.findall(r"'([^']*)'", found[2]) or [found[2]]
    return " ".join(f"{flag(found[1])} {value}" for value in values)
