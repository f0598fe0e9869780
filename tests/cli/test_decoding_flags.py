"""Every decoding option has a flag that means it, and nothing else does."""

from argparse import ArgumentParser
from dataclasses import fields

import pytest

from mmattn.cli.decoding_flags import (
    FLAGS,
    SWITCHES,
    WORDS,
    add_decoding_flags,
    decoding_options,
    options_as_flags,
)
from mmattn.decoding.option_checks import RANGES
from mmattn.decoding.options import DecodingOptions
from mmattn.errors import ConfigError


@pytest.fixture
def read():
    """Read a command line; returns the options that were given."""
    parser = ArgumentParser()
    add_decoding_flags(parser)
    return lambda typed: decoding_options(parser.parse_args(typed.split()))


def test_every_option_has_a_flag_of_its_own_type():
    defaults = {field.name: field.default for field in fields(DecodingOptions)}
    assert sorted([*FLAGS, *SWITCHES, *WORDS]) == sorted(defaults)
    for name, (kind, _) in FLAGS.items():
        assert kind is (RANGES[name].kind if name in RANGES else type(defaults[name]))
    assert all(defaults[name] is False for name in SWITCHES)
    assert all(defaults[name] == () for name in WORDS)


def test_what_is_not_given_is_as_the_model_says(read):
    assert read("") == {}


def test_what_is_given_is_read(read):
    typed = (
        "--beams 4 --length-penalty -0.5 --no-repeat-ngram 3 --early-stopping --required dog|puppy"
    )
    assert read(f"{typed} --required cat") == {
        "beams": 4,
        "length_penalty": -0.5,
        "no_repeat_ngram": 3,
        "early_stopping": True,
        "required": ["dog|puppy", "cat"],
    }
    assert read("--sample --top-p 0.9 --seed 7") == {"sample": True, "top_p": 0.9, "seed": 7}


def test_whatever_is_given_makes_options(read):
    options = DecodingOptions().changed(read("--beams 4 --required dog --bad-endings of"))
    assert (options.required, options.bad_endings) == (("dog",), ("of",))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"best_of": 5}, "--best-of 5 with --beams 1: .* add --sample, or give --beams 5, say"),
        ({"top_p": 0.9}, "--top-p 0.9 without --sample: nothing is drawn; add --sample, or"),
        ({"sample": True, "beams": 2}, "--sample with --beams 2: captions are drawn or searched"),
        (
            {"required": ["a dog", "b"], "beams": 2, "groups": 2},
            "--required a dog --required b with --beams 2 and --groups 2: give at least",
        ),
    ],
)
def test_a_mistake_names_flags(options, said):
    with pytest.raises(ConfigError, match=said), options_as_flags():
        DecodingOptions().changed(options)


@pytest.mark.parametrize("typed", ["--beams four", "--beams 4.5", "--top-p", "--beems 4"])
def test_what_no_option_takes_is_refused(read, typed, capsys):
    with pytest.raises(SystemExit) as ended:
        read(typed)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
