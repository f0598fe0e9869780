"""Three reports as one: means and t-intervals worked out by hand."""

import json
from dataclasses import replace

import pytest

from mmattn.errors import ConfigError
from mmattn.reports.over_runs import CHOSEN, over_runs, sentences, write_over_runs
from mmattn.reports.results import (
    Estimate,
    LineResult,
    Report,
    SetResult,
    UniformResult,
    WordResult,
)
from mmattn.reports.tables import BY_WORD

T = 4.302653  # the 97.5 % quantile of Student's t with 2 degrees of freedom
# 0.6, 0.7 and 0.8 have the standard deviation 0.1, their mean the standard error 0.1 / sqrt(3).
HALF = T * 0.1 / 3**0.5


def of(value: float, *figures: str) -> dict[str, Estimate]:
    """Estimates whose own intervals must not matter over runs."""
    return {figure: Estimate(value, -9.0, 9.0) for figure in figures or ("pointing",)}


def run(raw: float, other: float, *, named=("acute", "grave"), **changes) -> Report:
    result = SetResult(
        name="fonts",
        images=400,
        words=500,
        perturbed=0,
        chance=0.03,
        near_chance=0.1,
        lines=(
            LineResult("raw", False, None, None, of(raw)),
            LineResult("other", False, None, None, of(other)),
            LineResult("uniform", True, None, None, of(0.1)),
            LineResult("cross-attention", False, 0, None, of(raw)),
        ),
        by_word=tuple(WordResult(word, 3, 0.03, of(raw, *BY_WORD)) for word in named),
        above={"uniform": of(max(raw, other) - 0.1)},
        uniform=UniformResult(
            999, of(-raw, "log_prob", "accuracy"), {None: of(raw, "log_prob", "accuracy")}
        ),
    )
    method = "raw" if raw > other else "other"
    sets = (replace(result, **changes),)
    return Report(method, 2, sets, (("text output", raw),), 0)


@pytest.fixture
def reports() -> dict[str, Report]:
    return {"a": run(0.6, 0.1), "b": run(0.7, 0.1), "c": run(0.5, 0.8, named=("acute",))}


def test_each_figure_is_its_mean_over_runs_with_a_t_interval(reports):
    (result,) = over_runs(reports).report.sets
    expected = pytest.approx((0.6, 0.6 - HALF, 0.6 + HALF))
    assert result.line("raw").figures["pointing"] == expected
    assert result.line("uniform").figures["pointing"] == pytest.approx((0.1, 0.1, 0.1))
    assert result.lines[-1].layer == 0
    assert result.lines[-1].figures["pointing"] == expected
    assert result.uniform.lost[None]["log_prob"] == expected
    assert result.uniform.own["accuracy"].mean == pytest.approx(-0.6)
    assert (result.images, result.words, result.uniform.tokens) == (400, 500, 999)


def test_the_chosen_map_is_that_of_each_run(reports):
    over = over_runs(reports).report
    assert over.method == CHOSEN
    expected = pytest.approx((0.7, 0.7 - HALF, 0.7 + HALF))  # 0.6 and 0.7 of raw, 0.8 of other
    assert over.sets[0].line(CHOSEN).figures["pointing"] == expected
    lead = over.sets[0].above["uniform"]["pointing"]
    assert lead == pytest.approx((0.6, 0.6 - HALF, 0.6 + HALF))


def test_what_a_run_lacks_has_no_figure_over_runs(reports):
    (result,) = over_runs(reports).report.sets
    assert [word.text for word in result.by_word] == ["acute"]
    assert over_runs(reports).report.cascade == (("text output", pytest.approx(0.6)),)


def test_in_words(reports):
    headline, fonts = sentences(over_runs(reports))
    assert headline == "Over 3 runs the maps are better than all controls on fonts."
    assert fonts == (
        "fonts: over 3 runs the map that each run's report is about points at the named region in "
        "0.70 (95 % CI 0.45 to 0.95) of 500 words; chance is 0.030. It leads the nearest control, "
        "uniform, by 0.60 (95 % CI 0.35 to 0.85): surely above every control. With uniform "
        "attention in all layers the models lose 0.60 nats (95 % CI 0.35 to 0.85) a token."
    )


def test_runs_that_scatter_are_not_surely_better(reports):
    scattered = {**reports, "c": run(0.0, 0.05)}
    headline, fonts = sentences(over_runs(scattered))
    assert headline == "Over 3 runs the maps are NOT surely better than all controls on fonts."
    assert "NOT surely better (not surely above uniform)" in fonts
    few = {name: run(value, 0, images=9) for name, value in (("a", 0.6), ("b", 0.7), ("c", 0.8))}
    assert "NOT surely better (9 images are too few" in sentences(over_runs(few))[1]


def test_some_sets_may_be_better():
    sets = [run(value, 0).sets[0] for value in (0.6, 0.7, 0.8)]
    unsure = [replace(each, name="compositions", above={"uniform": of(0)}) for each in sets]
    both = {
        name: Report("raw", 1, (sets[i], unsure[i]), (), 0)
        for i, name in enumerate(("a", "b", "c"))
    }
    assert sentences(over_runs(both))[0] == (
        "Over 3 runs the maps are better than all controls on fonts, and NOT surely better than "
        "all controls on compositions."
    )


def test_files(reports, tmp_path):
    over = over_runs(reports)
    paths = write_over_runs(over, tmp_path / "new")
    assert [path.name for path in paths] == ["over_runs.json", "over_runs.md"]
    flat = json.loads(paths[0].read_text("utf-8"))
    assert flat["runs"] == 3
    assert flat["fonts/raw/pointing_low"] == pytest.approx(0.6 - HALF)
    assert flat[f"fonts/{CHOSEN}/pointing"] == pytest.approx(0.7)
    assert flat["fonts/uniform_attention/lost/all_layers/log_prob_high"] == pytest.approx(
        0.6 + HALF
    )
    text = paths[1].read_text("utf-8")
    assert text.startswith(sentences(over)[0])
    assert "means over the runs a, b, c, with 95 % t-intervals" in text
    assert "| raw | 0.60 (0.35 to 0.85) |" in text
    assert "| control: uniform | 0.10 (0.10 to 0.10) |" in text


@pytest.mark.parametrize("changed", [{"words": 499}, {"chance": 0.04}, {"name": "compositions"}])
def test_runs_on_other_words_are_refused(reports, changed):
    reports["b"] = run(0.7, 0.1, **changed)
    with pytest.raises(ConfigError, match="a and b were not measured on the same words"):
        over_runs(reports)


def test_two_runs_have_no_interval(reports):
    del reports["b"]
    with pytest.raises(ValueError, match="at least 3 of them, got 2"):
        over_runs(reports)
