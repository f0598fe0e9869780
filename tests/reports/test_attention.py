"""The whole measurement on a small glyph data set: a planted map is better, random weights not."""

import json
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser

import pytest
import torch
from torchvision.transforms import v2

from mmattn.data.dataset import Splits
from mmattn.errors import ConfigError, DataError
from mmattn.maps.methods import RawAttention
from mmattn.maps.quality.controls import Uniform
from mmattn.reports.attention import attention_report, check_seen, lines_of
from mmattn.reports.verdict import headline, is_better
from mmattn.reports.words import GroundedImages
from mmattn.reports.writing import page, write_report

RAW = RawAttention()


def test_a_planted_perfect_map_is_chosen_and_better(task, glyphs, planted):
    report = attention_report(task, glyphs, [RAW, planted], limit=14, perturbed=0)
    assert (report.method, report.candidates) == ("planted", 2)
    assert [result.name for result in report.sets] == ["fonts", "compositions"]
    for result in report.sets:
        figures = result.line("planted").figures
        for figure in ("pointing", "pointing_near", "energy", "iou", "auc"):
            assert figures[figure] == pytest.approx((1, 1, 1)), figure
        assert is_better(result)
        assert {word.figures["pointing"].mean for word in result.by_word} == {1}
    assert headline(report) == (
        "The maps of this model are better than all controls on fonts and compositions."
    )


def test_a_map_that_owes_nothing_to_the_model_is_not_better(task, glyphs, planted):
    class Prior(type(planted)):
        def __call__(self, model, batch):
            return super().__call__(self.model, batch)

    method = Prior(glyphs, task.model)
    report = attention_report(task, glyphs, [method], limit=14, perturbed=0)
    assert [result.line("planted").figures["pointing"].mean for result in report.sets] == [1, 1]
    assert not any(is_better(result) for result in report.sets)
    assert "not surely above randomised weights" in headline(report)


def test_random_weights_are_not_better(random_report):
    assert "NOT better than the controls" in headline(random_report)
    assert not any(is_better(result) for result in random_report.sets)


def test_controls_have_what_they_must(random_report):
    for result in random_report.sets:
        uniform = result.line("uniform").figures
        assert uniform["pointing"].mean == result.chance
        assert uniform["pointing_near"].mean == result.near_chance
        assert uniform["energy"].mean == pytest.approx(result.chance)
        assert uniform["iou"].mean == pytest.approx(result.chance)
        assert uniform["auc"] == (0.5, 0.5, 0.5)
        assert uniform["leave_one_out"] == (0, 0, 0)
        assert list(result.above) == [
            "uniform",
            "centred Gaussian",
            "randomised weights",
            "shuffled caption",
        ]
        assert result.perturbed >= 2
        assert list(result.uniform.lost) == [0, 1, None]
        assert result.uniform.tokens > result.words
    assert random_report.cascade[-1][0] == "patch embedding"


def test_a_report_is_the_same_each_time_and_leaves_the_model_alone(task, glyphs, random_report):
    task.train()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    state = torch.get_rng_state()
    again = attention_report(task, glyphs, [RAW], limit=20, perturbed=2)
    assert task.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert again == random_report


@dataclass(frozen=True)
class Titled(RawAttention):
    name: str = ""

    @property
    def title(self) -> str:
        return self.name


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_files_of_a_report(task, glyphs, tmp_path):
    title = "<script>alert(1)</script> | raw"
    method = Titled(name=title)
    report = attention_report(task, glyphs, [method], limit=10, perturbed=0)
    paths = write_report(report, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [
        "attention_report.json",
        "attention_report.md",
        "attention_report.html",
    ]
    flat = json.loads(paths[0].read_text("utf-8"))
    assert flat[f"fonts/{title}/pointing"] == report.figures()[f"fonts/{title}/pointing"]

    markdown = paths[1].read_text("utf-8")
    assert markdown.startswith(headline(report))
    rows = [line for line in markdown.splitlines() if line.startswith("| ") and "raw" in line]
    assert rows
    assert all(" \\| raw | " in row for row in rows)

    html = paths[2].read_text("utf-8")
    assert html == page(report)
    assert not re.search("https?:|<script|url\\(|@import", html)
    reader = Reader()
    reader.feed(html)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"script", "img", "link", "iframe"})
    assert not any({"src", "href", "onclick"} & set(attrs) for _, attrs in reader.tags)
    assert any(title in text for text in reader.text)


def test_the_controls_of_a_model_are_those_of_the_chosen_method(planted):
    lines = lines_of([RAW, planted], planted, seed=7)
    assert [line.control for line in lines] == [False, False, False, True, True, True, True]
    assert lines[2].title == "another image's caption, same place"
    drawn, shuffled = lines[-2].methods, lines[-1].methods
    assert [control.seed for control in drawn] == [7, 8, 9]  # pyright: ignore
    assert {control.method for control in (*drawn, *shuffled)} == {planted}  # pyright: ignore


def test_methods_need_titles_of_their_own(task, glyphs):
    with pytest.raises(ConfigError, match="two methods are called 'uniform'"):
        attention_report(task, glyphs, [Uniform(), RAW, Uniform()])
    with pytest.raises(ConfigError, match="no method"):
        attention_report(task, glyphs, [])


@pytest.mark.parametrize(
    ("limit", "perturbed", "said"),
    [(0, 0, "limit=0: .* or None for all"), (-3, 0, "limit=-3"), (4, -1, "perturbed=-1: .* 0 for")],
)
def test_counts_that_are_none_are_refused(task, glyphs, limit, perturbed, said):
    with pytest.raises(ConfigError, match=said):
        attention_report(task, glyphs, [RAW], limit=limit, perturbed=perturbed)


def test_captions_that_are_cut_before_their_words_are_refused(task, glyphs, monkeypatch):
    monkeypatch.setattr(glyphs, "max_length", 3)  # as with data.truncate=true: two tokens are left
    said = "fonts: 5 captions name .* none of those words is within the 3 tokens .* data.max_length"
    with pytest.raises(DataError, match=said):
        attention_report(task, glyphs, [RAW], limit=5, perturbed=0)


class Plain:
    """The same images, without regions."""

    def __init__(self, dataset):
        self.key, self.captions, self.image = dataset.key, dataset.captions, dataset.image
        self.length = len(dataset)

    def __len__(self):
        return self.length


def test_data_without_regions_are_refused(task, glyphs, monkeypatch):
    tests = {name: Plain(dataset) for name, dataset in glyphs.splits.test.items()}
    splits: Splits = replace(glyphs.splits, test=tests)
    monkeypatch.setattr(glyphs, "_splits", splits)
    with pytest.raises(DataError, match=r"no test set knows regions \(fonts, compositions\)"):
        attention_report(task, glyphs, [RAW])


def test_without_a_region_in_sight_there_is_nothing_to_measure():
    with pytest.raises(DataError, match="the regions of all 7 words lie wholly outside"):
        check_seen({"fonts": GroundedImages({}, 3), "compositions": GroundedImages({}, 4)})


def test_of_cropped_pictures_what_is_seen_is_measured(task, glyphs, monkeypatch):
    """The network sees the middle 16 x 16 of 32 x 32 pixels, drawn large."""
    whole = attention_report(task, glyphs, [RAW], limit=40, perturbed=0).sets[0]
    crop = [v2.CenterCrop(16), v2.Resize([32, 32]), glyphs.eval_transform]
    monkeypatch.setattr(glyphs, "eval_transform", v2.Compose(crop))
    report = attention_report(task, glyphs, [RAW], limit=40, perturbed=0)
    result = report.sets[0]
    assert whole.unseen == 0
    assert result.unseen > 0
    assert report.figures()[f"{result.name}/unseen"] == result.unseen
    assert result.line("uniform").figures["pointing"].mean == result.chance
    assert f"{result.unseen} more word" in page(report)


def test_without_regions_to_choose_by_the_first_method_is_taken(task, glyphs, planted, monkeypatch):
    splits = replace(glyphs.splits, val=Plain(glyphs.splits.val))
    monkeypatch.setattr(glyphs, "_splits", splits)
    report = attention_report(task, glyphs, [RAW, planted], limit=4, perturbed=0)
    assert (report.method, report.candidates) == (RAW.title, 1)


def test_cached_features_are_measured_without_perturbations(task, glyphs, monkeypatch):
    monkeypatch.setattr(glyphs, "cached", True)
    with pytest.raises(ConfigError, match="perturbed=0"):
        attention_report(task, glyphs, [RAW])
