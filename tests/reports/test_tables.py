from dataclasses import replace

import pytest

from mmattn.reports.results import (
    Estimate,
    LineResult,
    Report,
    SetResult,
    UniformResult,
    WordResult,
)
from mmattn.reports.tables import (
    cascade_table,
    heads_table,
    perturbations_table,
    ranged,
    regions_table,
    tables,
    uniform_table,
    words_table,
)


def figures(value: float) -> dict[str, Estimate]:
    names = ("pointing", "pointing_near", "energy")
    return {name: Estimate(value, value - 0.1, value + 0.1) for name in names}


def of_tokens(log_prob: float, accuracy: float) -> dict[str, Estimate]:
    return {
        "log_prob": Estimate(log_prob, log_prob - 0.1, log_prob + 0.1),
        "accuracy": Estimate(accuracy, accuracy, accuracy),
    }


@pytest.fixture
def result() -> SetResult:
    heads = [(0, None, 0.3), (0, 0, 0.2), (0, 1, 0.4), (1, None, 0.7), (1, 0, 0.6), (1, 1, 0.8)]
    return SetResult(
        name="fonts",
        images=1000,
        words=1234,
        perturbed=0,
        chance=0.03,
        near_chance=0.17,
        lines=(
            LineResult("raw", False, None, None, figures(0.7)),
            LineResult("uniform", True, None, None, figures(0.2)),
            *(LineResult("cross-attention", False, i, h, figures(v)) for i, h, v in heads),
        ),
        by_word=(WordResult("acute", 50, 0.02, figures(0.9)),),
        above={},
        uniform=UniformResult(
            5678, of_tokens(-0.4, 0.9), {0: of_tokens(0.2, 0.05), None: of_tokens(1.3, 0.35)}
        ),
    )


def texts(table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_methods_and_controls_with_what_was_measured(result):
    table = regions_table(result)
    assert table.header == ("map", "pointing", "± 1 patch", "energy")
    assert texts(table) == [
        ["raw", *["0.70 (0.60 to 0.80)"] * 3],
        ["control: uniform", *["0.20 (0.10 to 0.30)"] * 3],
    ]
    assert "1,234 words of 1,000 images" in table.title


def test_perturbations_have_a_table_where_they_were_measured(result):
    for line in result.lines[:2]:
        line.figures["road"] = Estimate(0.2, 0.1, 0.3)
    used = replace(result, perturbed=17)
    table = perturbations_table(used)
    assert table.header == ("map", "ROAD ↑")
    assert texts(table) == [[name, "0.20 (0.10 to 0.30)"] for name in ("raw", "control: uniform")]
    counts = [len(list(tables(Report("raw", 1, (each,), (), 0)))) for each in (result, used)]
    assert counts == [5, 6]


def test_layers_and_heads(result):
    table = heads_table(result)
    assert table.header == ("layer", "mean over heads", "head 0", "head 1")
    assert texts(table) == [["0", "0.30", "0.20", "0.40"], ["1", "0.70", "0.60", "0.80"]]
    assert [cell.heat for cell in table.rows[1]] == [None, 0.7, 0.6, 0.8]


def test_what_a_uniform_attention_costs(result):
    table = uniform_table(result)
    assert table.title == (
        "fonts: what a uniform attention costs, 5,678 tokens of 1,000 images; the model itself has "
        "log-probability -0.40 (-0.50 to -0.30) and accuracy 0.90 (0.90 to 0.90)"
    )
    assert table.header == ("uniform in", "nats lost a token", "token accuracy lost")
    assert texts(table) == [
        ["layer 0", "0.20 (0.10 to 0.30)", "0.05 (0.05 to 0.05)"],
        ["all layers", "1.30 (1.20 to 1.40)", "0.35 (0.35 to 0.35)"],
    ]


def test_words_and_the_cascade(result):
    report = Report("raw", 1, (result,), (("text output", 1.0), ("bridge", -0.2)), 0)
    assert texts(words_table(report, result))[0][:4] == [
        "acute", "50", "0.020", "0.90 (0.80 to 1.00)",
    ]  # fmt: skip
    table = cascade_table(report)
    assert texts(table) == [["text output", "1.00"], ["bridge", "-0.20"]]
    assert [row[1].heat for row in table.rows] == [1.0, 0.0]


def test_a_number_that_rounds_to_zero_has_no_sign():
    assert ranged(Estimate(-0.001, -0.009, 0.004)) == "0.00 (-0.01 to 0.00)"


def test_what_is_undefined_is_a_dash():
    assert ranged(Estimate(float("nan"), float("nan"), float("nan"))) == "–"
