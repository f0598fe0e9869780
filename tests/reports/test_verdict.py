from dataclasses import replace

import pytest

from mmattn.reports.results import Estimate, LineResult, Report, SetResult, UniformResult
from mmattn.reports.verdict import (
    FEWEST_IMAGES,
    headline,
    is_better,
    set_verdict,
    uniform_sentence,
    verdict,
    within,
)

OWN = {
    "pointing": Estimate(0.87, 0.85, 0.89),
    "pointing_near": Estimate(0.95, 0.9, 1),
    "energy": Estimate(0.5, 0.4, 0.6),
}
CLEAR, UNCLEAR = Estimate(0.82, 0.8, 0.84), Estimate(0.03, -0.02, 0.07)


def uniform(**lost: Estimate) -> UniformResult:
    """What is lost in layers such as `layer_2`, and in all of them (`every`)."""
    layers = {None if key == "every" else int(key[-1]): each for key, each in lost.items()}
    return UniformResult(999, {}, {key: {"log_prob": each} for key, each in layers.items()})


@pytest.fixture
def good() -> SetResult:
    return SetResult(
        name="fonts",
        images=1000,
        words=1234,
        perturbed=0,
        chance=0.025,
        near_chance=0.17,
        lines=(LineResult("raw", False, None, None, OWN),),
        by_word=(),
        above={"uniform": {"pointing": CLEAR}, "shuffled caption": {"pointing": CLEAR}},
        uniform=uniform(layer_0=UNCLEAR, layer_2=CLEAR, every=Estimate(1.3, 1.2, 1.4)),
    )


@pytest.fixture
def bad(good) -> SetResult:
    above = good.above | {"randomised weights": {"pointing": UNCLEAR}}
    return replace(good, name="compositions", above=above)


def report(*sets: SetResult) -> Report:
    return Report("raw", 1, sets, (), 0)


def test_words_out_of_sight_are_said(good):
    told = "a region wholly outside what the network sees"
    assert told not in set_verdict(report(good), good)
    assert f"1 more word names {told}" in set_verdict(report(good), replace(good, unseen=1))
    assert f"1,200 more words name {told}" in set_verdict(report(good), replace(good, unseen=1200))


def test_better_than_every_control(good):
    assert is_better(good)
    assert headline(report(good)) == (
        "The maps of this model are better than all controls on fonts."
    )
    text = set_verdict(report(good), good)
    assert "point at the named region in 0.87 (95 % CI 0.85 to 0.89) of 1,234 words" in text
    assert "chance is 0.025" in text
    assert "20.0 times the mass" in text
    assert "beats every control: uniform by 0.82 (95 % CI 0.80 to 0.84)" in text
    assert "NOT" not in text
    assert "(raw, best of 3 on the validation set)" in set_verdict(
        replace(report(good), candidates=3), good
    )


def test_one_unclear_control_on_one_set_is_not_better(good, bad):
    assert not is_better(bad)
    text = headline(report(good, bad))
    assert text == (
        "The maps of this model are NOT better than the controls (compositions: not surely above "
        "randomised weights)."
    )
    paragraph = set_verdict(report(bad), bad)
    assert "NOT better than the controls: not surely above randomised weights" in paragraph
    assert "from randomised weights by 0.03 (95 % CI -0.02 to 0.07), uniform by" in paragraph


def test_zero_is_not_above(good):
    above = {"uniform": {"pointing": Estimate(0.1, 0.0, 0.2)}}
    assert not is_better(replace(good, above=above))
    nan = {"uniform": {"pointing": Estimate(float("nan"), float("nan"), float("nan"))}}
    assert not is_better(replace(good, above=nan))


def test_few_images_are_too_few(good):
    few = replace(good, images=FEWEST_IMAGES - 1)
    assert not is_better(few)
    assert "9 images are too few to tell, 10 are needed" in headline(report(few))
    assert is_better(replace(good, images=FEWEST_IMAGES))


@pytest.mark.parametrize(
    ("difference", "told"), [(CLEAR, "more than by any control"), (UNCLEAR, "NOT surely more")]
)
def test_whether_the_model_uses_what_is_shown(good, difference, told):
    line = replace(good.lines[0], figures=OWN | {"road": Estimate(0.2, 0.15, 0.25)})
    above = {title: each | {"road": difference} for title, each in good.above.items()}
    used = replace(good, lines=(line,), above=above, perturbed=17)
    text = set_verdict(report(used), used)
    assert "costs the word 0.40 of its probability (twice ROAD; 95 % CI 0.30 to 0.50" in text
    assert told in text


def test_what_a_uniform_attention_costs_in_words(good):
    told = (
        "With uniform attention in all layers the model loses 1.30 nats (95 % CI 1.20 to 1.40) a "
        "token, in layer 2 alone 0.82: its answer depends on where it looks."
    )
    assert uniform_sentence(good) == told
    assert set_verdict(report(good), good).endswith(f" {told}")
    assert "NOT" not in set_verdict(report(good), good)


def test_no_sure_cost_is_no_sure_dependence(good):
    unsure = replace(good, uniform=uniform(every=UNCLEAR))
    assert uniform_sentence(unsure) == (
        "With uniform attention in all layers the model loses 0.03 nats (95 % CI -0.02 to 0.07) a "
        "token: its answer does NOT surely depend on where it looks."
    )
    few = replace(good, images=9)
    assert uniform_sentence(few).endswith(": 9 images are too few to tell, 10 are needed.")


def test_the_verdict_has_a_paragraph_for_each_set(good, bad):
    paragraphs = verdict(report(good, bad))
    assert [text.split(":")[0] for text in paragraphs[1:]] == ["fonts", "compositions"]
    assert within(CLEAR) == "0.82 (95 % CI 0.80 to 0.84)"
