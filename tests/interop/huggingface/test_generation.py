"""Settings of Hugging Face's `generate` become decoding options that write the same."""

import json
from dataclasses import fields

import pytest
from transformers import GenerationConfig

from mmattn.decoding.options import DecodingOptions
from mmattn.errors import CheckpointError
from mmattn.interop.huggingface.generation import generation, generation_settings, read_generation
from mmattn.interop.json_settings import Settings

SAMPLE = {"do_sample": True}
# settings -> most tokens behind the begin token, decoding options
KNOWN = [
    ({}, 20, {}),
    ({"max_length": 20}, 19, {}),
    ({"max_length": 20, "max_new_tokens": 7}, 7, {}),
    ({"num_beams": 4}, 20, {"beams": 4}),
    (
        {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5, "early_stopping": True},
        20,
        {"beams": 6, "groups": 3, "diversity": 0.5, "early_stopping": True},
    ),
    (
        {"num_beams": 2, "length_penalty": 2, "num_return_sequences": 2},
        20,
        {"beams": 2, "length_penalty": 2.0, "returned": 2},
    ),
    # What only beam search asks, and what only sampling asks, is nothing without it.
    ({"length_penalty": 2.0, "early_stopping": True, "top_k": 50, "temperature": 0.5}, 20, {}),
    ({"typical_p": 0.5, "epsilon_cutoff": 0.1}, 20, {}),
    (SAMPLE, 20, {"sample": True, "top_k": 50}),
    ({**SAMPLE, "top_k": 0, "top_p": 0.9}, 20, {"sample": True, "top_k": None, "top_p": 0.9}),
    (
        {**SAMPLE, "top_k": 7, "min_p": 0.1, "temperature": 2, "num_return_sequences": 3},
        20,
        {"sample": True, "top_k": 7, "min_p": 0.1, "temperature": 2.0}
        | {"samples": 3, "returned": 3},
    ),
    ({"min_length": 5}, 20, {"min_length": 4}),
    ({"min_length": 1}, 20, {}),
    ({"min_length": 5, "min_new_tokens": 2}, 20, {"min_length": 2}),
    (
        {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3},
        20,
        {"repetition_penalty": 1.2, "no_repeat_ngram": 3},
    ),
]


@pytest.mark.parametrize(("values", "max_length", "decoding"), KNOWN)
def test_settings_become_options(values, max_length, decoding):
    assert generation(Settings(values, "file")) == (max_length, decoding)
    assert decoding.keys() <= {field.name for field in fields(DecodingOptions)}


def test_all_that_the_library_writes_by_default_says_nothing():
    default = Settings(GenerationConfig().to_dict(), "file")
    assert generation(default) == (20, {})
    older = {"num_beams": 1, "typical_p": 1.0, "bad_words_ids": None, "suppress_tokens": []}
    assert generation(Settings({**older, "max_length": 20, "top_k": 50}, "file")) == (19, {})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_beams": 0}, "file: 'num_beams' is 0; it must be a whole number, 1 or more"),
        ({"num_beams": "4"}, "'num_beams' is '4'"),
        ({"max_length": 1}, "'max_length' is 1; it must be a whole number, 2 or more"),
        ({"do_sample": 1}, "'do_sample' is 1; it must be true or false"),
        ({**SAMPLE, "num_beams": 2}, "'num_beams' is 2; it must be 1 where 'do_sample' is true"),
        ({**SAMPLE, "typical_p": 0.9}, "'typical_p' is 0.9; it must be left out"),
        ({"num_beams": 2, "early_stopping": "never"}, "'early_stopping' is 'never'"),
        ({"bad_words_ids": [[3]]}, r"'bad_words_ids' is \[\[3\]\]; it must be left out"),
        ({"forced_eos_token_id": 2}, "'forced_eos_token_id' is 2; it must be left out"),
        ({"repetition_penalty": float("inf")}, "'repetition_penalty' is inf"),
    ],
)
def test_what_no_option_does_is_refused_by_name(values, message):
    with pytest.raises(CheckpointError, match=message):
        generation(Settings(values, "file"))


def test_the_file_counts_alone_and_without_it_the_older_places_in_order(tmp_path):
    inner = Settings({"num_beams": 3, "max_length": None}, "config.json: text_config")
    outer = Settings({"num_beams": 5, "max_length": 9}, "config.json")
    assert read_generation(tmp_path, inner, outer) == (8, {"beams": 3})
    assert read_generation(tmp_path, outer, inner) == (8, {"beams": 5})
    (tmp_path / "generation_config.json").write_text(json.dumps({"no_repeat_ngram_size": 2}))
    assert read_generation(tmp_path, inner, outer) == (20, {"no_repeat_ngram": 2})
    assert generation_settings(tmp_path).where == str(tmp_path / "generation_config.json")
