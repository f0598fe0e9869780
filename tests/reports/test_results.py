import numpy as np
import pytest

from mmattn.maps.quality.controls import Uniform
from mmattn.reports.ablation import MeasuredTokens
from mmattn.reports.measures import Line, Measured
from mmattn.reports.results import Estimate, Report, set_result, uniform_result

LINES = (
    Line("good"),
    Line("bad"),
    Line("uniform", (Uniform(),), control=True),
    Line("cross-attention", layer=0),
    Line("cross-attention", layer=0, head=1),
)


def measured(values: dict[str, list[list[float]]], lines=LINES) -> Measured:
    count = len(next(iter(values.values()), []))
    return Measured(
        lines=lines,
        texts=("acute", "grave", "acute", "acute")[:count],
        images=np.array([0, 0, 4, 7])[:count],
        chance=np.full(count, 0.25),
        near_chance=np.full(count, 0.5),
        values={figure: np.array(each) for figure, each in values.items()},
    )


# Four tokens of two images: the model, it with a uniform layer 1, and with all layers uniform.
TOKENS = MeasuredTokens(
    changes=(1, None),
    images=np.array([0, 0, 0, 4]),
    log_probs=np.array([[-1, -1, -3], [-1, -2, -3], [-1, -3, -3], [-5, -2, -7]], dtype=float),
    hits=np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=float),
)


@pytest.fixture
def result():
    hits = [[1, 0, 0.25, 1, 0], [1, 0, 0.25, 0, 0], [1, 1, 0.25, 1, 0], [0, 0, 0.25, 1, 0]]
    regions = measured({"pointing": hits, "pointing_near": hits, "energy": hits})
    faith = measured({"road": [[0.5, 0.1, 0.0], [0.3, 0.1, 0.0]]}, LINES[:3])
    return set_result("fonts", "good", regions, faith, TOKENS, seed=0)


def test_means_counts_and_chances(result):
    assert (result.images, result.words, result.perturbed) == (3, 4, 2)
    assert (result.chance, result.near_chance) == (0.25, 0.5)
    assert result.line("good").figures["pointing"].mean == 0.75
    assert result.line("good").figures["road"].mean == pytest.approx(0.4)
    assert result.line("bad").figures["pointing"].mean == 0.25
    by_head = {line.key: line.figures["pointing"].mean for line in result.lines[3:]}
    assert by_head == {"layer_0/heads": 0.75, "layer_0/head_1": 0}
    assert "road" not in result.lines[3].figures


def test_words_are_those_of_the_method_the_commonest_first(result):
    acute, grave = result.by_word
    assert (acute.text, acute.count, grave.text, grave.count) == ("acute", 3, "grave", 1)
    assert acute.figures["pointing"].mean == pytest.approx(2 / 3)
    assert grave.figures["pointing"] == (1, 1, 1)


def test_controls_are_compared_word_by_word(result):
    assert list(result.above) == ["uniform"]
    above = result.above["uniform"]
    assert above["pointing"].mean == 0.5
    assert above["road"].mean == pytest.approx(0.4)
    # Two of three images hit, so that the difference is from -0.25 (the third alone) to 0.75.
    assert above["pointing"][1:] == (-0.25, 0.75)


def test_flat_keys_hold_every_number(result):
    flat = Report("good", 2, (result,), (("text output", 0.5),), 0).figures()
    assert flat["fonts/words"] == 4
    assert flat["fonts/good/pointing"] == 0.75
    assert flat["fonts/layer_0/head_1/pointing_high"] == 0
    assert flat["fonts/word/acute/words"] == 3
    assert flat["fonts/above/uniform/pointing_low"] == -0.25
    assert flat["cascade/text output"] == 0.5
    assert flat["fonts/uniform_attention/tokens"] == 4
    assert flat["fonts/uniform_attention/own/accuracy"] == 0.5
    assert flat["fonts/uniform_attention/lost/layer_1/log_prob"] == 0
    assert flat["fonts/uniform_attention/lost/all_layers/log_prob_low"] == 2
    assert all(isinstance(value, float) for value in flat.values())
    assert sum(key.endswith("_low") for key in flat) == 3 * (5 + 2 + 1) + 3 + 1 + 3 * 2


def test_without_perturbations_there_are_none():
    hits = {"pointing": [[1, 0, 0.25, 1, 0]]}
    result = set_result("fonts", "good", measured(hits), measured({}, LINES[:3]), TOKENS, 0)
    assert result.perturbed == 0
    assert set(result.line("good").figures) == {"pointing"}
    assert result.line("good").figures["pointing"] == Estimate(1, 1, 1)


def test_a_uniform_attention_costs_what_the_model_loses_by_it():
    uniform = uniform_result(TOKENS, seed=0)
    assert uniform.tokens == 4
    assert uniform.own["log_prob"].mean == -2
    assert uniform.own["accuracy"].mean == 0.5
    one, every = uniform.lost[1], uniform.lost[None]
    # Image 0 loses (0 + 1 + 2) / 3 nats a token, image 4 gains 3; whole images are drawn.
    assert one["log_prob"] == (0, -3, 1)
    assert one["accuracy"] == (0, 0, 0)
    assert every["log_prob"] == (2, 2, 2)
    assert every["accuracy"] == (0.5, 0, pytest.approx(2 / 3))


def test_the_measured_tokens_stay_as_they_were():
    before = TOKENS.log_probs.copy()
    uniform_result(TOKENS, seed=0)
    np.testing.assert_array_equal(TOKENS.log_probs, before)
