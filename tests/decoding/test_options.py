"""Options become a method and rules; what cannot be is said with both options and the remedy."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.decoding.beam import BeamSearch
from mmattn.decoding.decoded import Limits
from mmattn.decoding.greedy import Greedy
from mmattn.decoding.options import DecodingOptions
from mmattn.decoding.rules import (
    Forbidden,
    MinLength,
    NoEndAfter,
    NoRepeatNgram,
    Prefix,
    RepetitionPenalty,
)
from mmattn.decoding.sampling import Sampling
from mmattn.decoding.words import Words
from mmattn.errors import ConfigError, DataError
from mmattn.patches import LinearPatches
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

BEGIN, END = 0, 1
SAYS = [b"", b"", b" a", b" cat", b" dog", b" black", b"s", b".", b" "]
LIMITS = Limits(BEGIN, END, 9)


def ways(text: str) -> list[list[int]]:
    """Words may end in an s, which is a token of its own."""
    tokens = []
    for word in text.split():
        if f" {word.removesuffix('s')}".encode() not in SAYS:
            raise DataError(f"{text!r}: the tokenizer has no tokens for it")
        tokens.append(SAYS.index(f" {word.removesuffix('s')}".encode()))
        tokens += [SAYS.index(b"s")] if word.endswith("s") else []
    return [tokens]


WORDS = Words(SAYS, ways)


def test_each_method_gets_its_own_options():
    assert DecodingOptions().method() == Greedy()
    searched = DecodingOptions(
        beams=6, groups=2, diversity=0.5, length_penalty=0.7, early_stopping=True, returned=3
    )
    assert searched.method() == BeamSearch(6, 2, 0.5, 0.7, True, 3)
    drawn = DecodingOptions(
        sample=True, temperature=0.7, top_k=5, top_p=0.9, min_p=0.1, samples=4, returned=2, seed=3
    )
    assert drawn.method() == Sampling(0.7, 5, 0.9, 0.1, 4, 2, 3)


def test_only_the_rules_that_were_asked_for_apply():
    assert DecodingOptions().rules(WORDS, LIMITS) == []
    options = DecodingOptions(
        min_length=2,
        repetition_penalty=1.2,
        no_repeat_ngram=3,
        bad_endings=("a",),
        prefix="a black",
        forbidden=("dog",),
    )
    penalty, ngrams, prefix, endings, length, forbidden = options.rules(WORDS, LIMITS)
    assert penalty == RepetitionPenalty(1.2, BEGIN)
    assert ngrams == NoRepeatNgram(3)
    assert prefix == Prefix((2, 5))
    assert isinstance(endings, NoEndAfter)
    assert length == MinLength(2, END)
    assert isinstance(forbidden, Forbidden)
    assert endings.max_length == forbidden.max_length == 9


def test_the_plan_has_what_is_required():
    options = DecodingOptions(beams=4, required=("cat|dog", "black"), min_length=3)
    method, rules = options.plan(WORDS, LIMITS)
    assert rules == [MinLength(3, END)]
    assert isinstance(method, BeamSearch)
    assert method.required is not None
    assert method.required.texts == ("cat|dog", "black")
    assert method.required.costs.tolist() == [1, 1]
    plain, _ = DecodingOptions(beams=4).plan(WORDS, LIMITS)
    assert plain == BeamSearch(4)


def test_all_rules_hold_together_in_captions():
    """A random model writes what the options say, and otherwise does not."""
    torch.manual_seed(0)
    block = BlockOptions(heads=2)
    vision = VisionTransformer((8, 12), LinearPatches(4, 16), 1, block)
    text = TextTransformer(len(SAYS), 16, 2, block, max_length=9, context_dim=16)
    model = Captioner(vision, text).eval()
    with torch.no_grad():
        image = model.encode(torch.randn(6, 3, 8, 12))
    options = DecodingOptions(
        beams=6,
        returned=2,
        required=("black dog|cat", "dogs"),
        forbidden=("a cat",),
        bad_endings=("a", "dogs"),
        prefix="a",
        min_length=4,
        max_length=9,
    )

    def written(options):
        method, rules = options.plan(WORDS, LIMITS)
        tokens = method(model, image, LIMITS, rules).tokens.flatten(0, 1).tolist()
        return [b"".join(SAYS[token] for token in row).decode().split() for row in tokens]

    def fits(text):
        said = " ".join(text).replace(".", " .").split()
        pairs = {f"{one} {other}" for one, other in itertools.pairwise(said)}
        required = ("black dog" in pairs or "cat" in said) and "dogs" in said
        return required and "a cat" not in pairs and said[-1] not in ("a", "dogs")

    captions = written(options)
    assert len(captions) == 12
    assert all(fits(text) and text[0][:1] == "a" for text in captions)
    assert not any(fits(text) for text in written(DecodingOptions(beams=6, returned=2)))


WRONG = [
    ({"sample": True, "beams": 4}, r"sample=True with beams=4: .*leave out sample, or beams"),
    ({"sample": True, "groups": 2}, r"sample=True with groups=2"),
    ({"temperature": 0.5}, r"temperature=0.5 with sample=False: .*add sample=True"),
    ({"top_k": 5, "beams": 2}, r"top_k=5 with sample=False"),
    ({"top_p": 0.5}, r"top_p=0.5 with sample=False"),
    ({"min_p": 0.5}, r"min_p=0.5 with sample=False"),
    ({"samples": 5}, r"samples=5 with sample=False"),
    ({"diversity": 0.5, "beams": 4}, r"diversity=0.5 with groups=1: .*give groups=2"),
    ({"beams": 4, "groups": 3}, r"groups=3 with beams=4: .*as 3 do"),
    ({"groups": 2}, r"groups=2 with beams=1: .*as 2 do"),
    ({"returned": 2}, r"returned=2 with beams=1: greedy decoding writes one .* at most 1"),
    ({"returned": 5, "beams": 4}, r"returned=5 with beams=4: raise beams, or return at most 4"),
    ({"returned": 3, "sample": True}, r"returned=3 with samples=1: raise samples"),
    ({"length_penalty": 2.0}, r"length_penalty=2.0 with beams=1: .*give beams=4"),
    ({"early_stopping": True}, r"early_stopping=True with beams=1"),
    ({"length_penalty": 2.0, "sample": True}, r"length_penalty=2.0 with sample=True: .*leave out"),
    ({"required": ("cat",)}, r"required=\('cat',\) with beams=1: .*give beams=4"),
    ({"required": ("cat",), "sample": True}, r"required=\('cat',\) with sample=True"),
    ({"required": ("cat",), "beams": 2, "groups": 2}, r"beams=2 and groups=2: .*two beams a group"),
    ({"min_length": 9, "max_length": 9}, r"min_length=9 with max_length=9: .*smaller min_length"),
    ({"required": ("a Cat",), "beams": 4, "forbidden": ("cat",)}, "'a Cat' and .*'cat'"),
    ({"required": ("cats|catty",), "beams": 4, "forbidden": ("cat*",)}, r"'cats\|catty' .*'cat\*'"),
    (
        {"prefix": "A cat on", "forbidden": ("cat",)},
        r"prefix has 'A cat on' and forbidden has 'cat'",
    ),
    ({"beams": 0}, r"beams=0: give a whole number of at least 1"),
    ({"beams": 2.5}, r"beams=2.5: give a whole number"),
    ({"beams": "4"}, r"beams='4': give a whole number"),
    ({"beams": True}, r"beams=True: give a whole number"),
    ({"beams": None}, r"beams=None: give a whole number"),
    ({"length_penalty": float("nan"), "beams": 2}, r"length_penalty=nan: give a number"),
    ({"length_penalty": float("inf"), "beams": 2}, r"length_penalty=inf: give a number"),
    ({"temperature": 0, "sample": True}, r"temperature=0: give a number above 0"),
    ({"top_p": 1.5, "sample": True}, r"top_p=1.5: give a number above 0 and at most 1"),
    ({"top_k": 0, "sample": True}, r"top_k=0: give a whole number of at least 1 or None"),
    ({"min_p": -0.1, "sample": True}, r"min_p=-0.1: give a number of at least 0 and at most 1"),
    ({"diversity": -1, "beams": 4, "groups": 2}, r"diversity=-1: give a number of at least 0"),
    ({"repetition_penalty": 0}, r"repetition_penalty=0: give a number above 0"),
    ({"no_repeat_ngram": -1}, r"no_repeat_ngram=-1"),
    ({"max_length": 0}, r"max_length=0: give a whole number of at least 1 or None"),
    ({"seed": -1}, r"seed=-1"),
    ({"length_penalty": 10**400, "beams": 2}, r"length_penalty=1000+: give a number"),
    ({"sample": "yes"}, r"sample='yes': give true or false"),
    ({"early_stopping": 1, "beams": 2}, r"early_stopping=1: give true or false"),
    ({"forbidden": "cat"}, r"forbidden='cat': give a list of words"),
    ({"forbidden": ("cat", 3)}, r"forbidden=\('cat', 3\)"),
    ({"forbidden": ("", "cat")}, r"forbidden has '': a word is missing"),
    ({"forbidden": ("*",)}, r"forbidden has '\*': a word is missing"),
    ({"required": ("cat|",), "beams": 2}, r"required has 'cat\|': a word is missing"),
    ({"bad_endings": ("a*",)}, r"bad_endings has 'a\*': give whole words"),
    ({"prefix": None}, r"prefix=None: give a text"),
]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        DecodingOptions().changed(options)


def test_lists_and_whole_numbers_are_taken_as_yaml_and_json_give_them():
    options = DecodingOptions().changed(
        {"beams": 4, "length_penalty": 2, "forbidden": ["cat"], "required": [], "top_k": None}
    )
    assert options == DecodingOptions(beams=4, length_penalty=2.0, forbidden=("cat",))
    assert isinstance(options.length_penalty, float)


def test_what_only_seems_to_exclude_each_other_is_taken():
    DecodingOptions(required=("dog*",), forbidden=("dog",), beams=2)  # "dogs" does both
    DecodingOptions(required=("cat|dog",), forbidden=("cat",), beams=2)
    DecodingOptions(required=("cattle",), forbidden=("cat",), beams=2)
    DecodingOptions(prefix="a cat", forbidden=("cat",))  # "a cattle market"
    DecodingOptions(prefix="a", forbidden=("ax", "x"))
    DecodingOptions(forbidden=("x", "x*"))
    DecodingOptions(min_length=8, max_length=9)
    DecodingOptions(sample=True, samples=3, returned=3, seed=7)


@pytest.mark.parametrize(
    ("options", "said", "kind"),
    [
        ({"min_length": 9}, r"min_length=9 with max_length=9", ConfigError),
        ({"prefix": "a black " * 5}, r"has 10 tokens and max_length=9: .*larger", ConfigError),
        ({"prefix": "zebra"}, r"'zebra': the tokenizer has no tokens", DataError),
        ({"forbidden": ("cat", "zebra")}, r"'zebra': the tokenizer has no tokens", DataError),
        ({"bad_endings": ("zebra",)}, r"'zebra': the tokenizer has no tokens", DataError),
        ({"required": ("cat|zebra",), "beams": 4}, r"'zebra': the tokenizer", DataError),
        (
            {"required": ("a cat " * 5,), "beams": 4},
            r"takes 10 tokens, .*max_length=9",
            ConfigError,
        ),
    ],
)
def test_what_the_model_has_no_room_or_no_words_for_is_refused(options, said, kind):
    with pytest.raises(kind, match=said):
        DecodingOptions(**options).plan(WORDS, LIMITS)


def test_changes_are_made_to_a_models_own_choice():
    own = DecodingOptions(beams=4, length_penalty=2.0, min_length=3, max_length=20)
    assert own.changed({}) == own
    assert own.changed({"beams": 8}).length_penalty == 2.0
    assert own.changed({"beams": 1}) == DecodingOptions(min_length=3, max_length=20)
    drawn = own.changed({"sample": True, "top_k": 5})
    assert drawn == DecodingOptions(sample=True, top_k=5, min_length=3, max_length=20)
    assert drawn.changed({"beams": 2}) == DecodingOptions(beams=2, min_length=3, max_length=20)
    assert drawn.changed({"seed": 4}).top_k == 5
    with pytest.raises(ConfigError, match="sample=True with beams=4"):
        own.changed({"sample": True, "beams": 4})
    with pytest.raises(ConfigError, match=r"length_penalty=3\.0 with beams=1"):
        own.changed({"beams": 1, "length_penalty": 3.0})


@pytest.mark.parametrize(
    ("name", "said"),
    [("beam", "did you mean beams?"), ("num_beam", "num_beam"), ("xyzzy", "known: beams, groups")],
)
def test_an_option_that_does_not_exist_is_named(name, said):
    with pytest.raises(ConfigError) as error:
        DecodingOptions().changed({name: 3})
    assert said in str(error.value)


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 5), st.floats(), st.text(max_size=3), st.just(object)
)


@given(
    st.dictionaries(
        st.sampled_from(list(vars(DecodingOptions()))),
        st.one_of(ANYTHING, st.lists(ANYTHING, max_size=2)),
        max_size=4,
    )
)
@settings(max_examples=300)
def test_whatever_is_typed_there_are_options_or_one_message(values):
    said = ""
    try:
        options = DecodingOptions().changed(values)
    except ConfigError as error:
        said = str(error)
    else:
        assert isinstance(options.method(), Greedy | BeamSearch | Sampling)
    assert not said or any(name in said for name in values)


def test_best_of_says_how_many_are_written_by_whatever_method():
    drawn = DecodingOptions(sample=True, best_of=20, returned=3)
    assert drawn.method() == DecodingOptions(sample=True, samples=20, returned=3).method()
    assert DecodingOptions(beams=8, best_of=5).method() == BeamSearch(8, candidates=5)
    counts = [{}, {"beams": 4}, {"sample": True, "samples": 3}, {"beams": 4, "best_of": 2}]
    assert [DecodingOptions(**options).candidates for options in counts] == [1, 4, 3, 2]
    assert DecodingOptions(beams=4, best_of=2).changed({"sample": True}).candidates == 1
    assert DecodingOptions(beams=4, best_of=2).changed({"beams": 1}).method() == Greedy()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"best_of": 20}, "greedy decoding writes one caption; add sample=True, or give beams=20"),
        ({"best_of": 9, "beams": 4}, "best_of=9 with beams=4: give beams=9, say"),
        ({"best_of": 5, "samples": 4, "sample": True}, "both say how many captions are drawn"),
        ({"best_of": 3, "beams": 8, "returned": 4}, "returned=4 with best_of=3: raise best_of"),
        ({"best_of": 0}, "best_of=0: give a whole number of at least 1 or None"),
    ],
)
def test_more_than_is_written_is_not_chosen_among(options, said):
    with pytest.raises(ConfigError, match=said):
        DecodingOptions(**options)
