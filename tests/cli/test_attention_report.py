"""What the command asks for and where it writes; the measurement itself is stood in for."""

import json
import sys

import pytest
import torch

from mmattn.cli import attention_report as command
from mmattn.errors import ConfigError
from mmattn.reports.results import Estimate, LineResult, Report, SetResult, UniformResult


def report(pointing: float) -> Report:
    figures = {
        figure: Estimate(pointing, pointing, pointing)
        for figure in ("pointing", "pointing_near", "energy", "log_prob", "accuracy")
    }
    result = SetResult(
        name="fonts",
        images=400,
        words=500,
        perturbed=0,
        chance=0.03,
        near_chance=0.1,
        lines=(LineResult("raw", False, None, None, figures),),
        by_word=(),
        above={"uniform": figures},
        uniform=UniformResult(999, figures, {None: figures}),
    )
    return Report("raw", 1, (result,), (), 0)


@pytest.fixture
def runs(tmp_path):
    """Three folders that look like runs, two of one name."""
    folders = [tmp_path / "sweep" / "0", tmp_path / "sweep" / "1", tmp_path / "again" / "0"]
    for folder in folders:
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.yaml").write_text("")
        torch.save({"state_dict": {}}, folder / "checkpoints" / "last.ckpt")
    return folders


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the command; returns the exit code and what it printed. Every run scores 0.6 and up."""
    asked = []

    def measure(model, arguments):
        asked.append((model, arguments.limit, arguments.perturbed))
        return report(0.5 + len(asked) / 10)

    def called(*arguments):
        asked.clear()
        monkeypatch.setattr(sys, "argv", ["mmattn attention-report", *map(str, arguments)])
        try:
            command.main()
            code = 0
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    called.asked = asked
    monkeypatch.setattr(command, "measure", measure)
    return called


def models(*runs):
    return [part for run in runs for part in ("--model", run)]


def test_one_run_has_its_report_in_its_folder(call, runs):
    code, out, err = call(*models(runs[0]))
    assert (code, err) == (0, "")
    assert call.asked == [(str(runs[0]), 400, 16)]
    folder = runs[0] / "attention-report"
    assert out.splitlines()[:3] == [
        str(folder / f"attention_report.{kind}") for kind in ("json", "md", "html")
    ]
    assert json.loads((folder / "attention_report.json").read_text())["fonts/raw/pointing"] == 0.6
    assert "The maps of this model are better" in out
    assert "over runs" not in out.lower()


def test_one_run_has_its_report_where_it_is_asked_for(call, runs, tmp_path):
    assert call(*models(runs[0]), "--out", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "attention_report.html").is_file()
    assert not (runs[0] / "attention-report").exists()


def test_three_runs_have_intervals_over_them(call, runs, tmp_path):
    code, out, _ = call(*models(*runs), "--out", tmp_path / "out", "--limit", "7")
    assert code == 0
    assert call.asked == [(str(run), 7, 16) for run in runs]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"sweep-0", "sweep-1", "again-0", "over_runs.json", "over_runs.md"}
    for name in ("sweep-0", "sweep-1", "again-0"):
        assert (tmp_path / "out" / name / "attention_report.md").is_file()
    figures = json.loads((tmp_path / "out" / "over_runs.json").read_text())
    assert figures["runs"] == 3
    assert figures["fonts/raw/pointing"] == pytest.approx(0.7)
    assert "Over 3 runs the maps are better than all controls on fonts." in out
    assert out.count("The maps of this model") == 3


def test_of_two_runs_there_are_two_reports_and_a_note(call, runs):
    code, out, _ = call(*models(*runs[:2]))
    assert code == 0
    assert all((run / "attention-report" / "attention_report.md").is_file() for run in runs[:2])
    assert out.endswith(
        "No interval over runs: it needs at least 3 of them, and these are 2; train one more with "
        "another seed.\n"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--limit", "-1"], "--limit=-1: give a number of images, or 0 for all"),
        (["--perturbed", "-2"], "--perturbed=-2: give a number of images, or 0 for none"),
        (["--seed", "-3"], "--seed=-3: give a number of 0 or more"),
    ],
)
def test_a_number_below_zero_is_one_line(call, runs, options, said):
    assert call(*models(runs[0]), *options) == (2, "", f"error: {said}\n")
    assert call.asked == []


def test_nothing_is_measured_where_a_run_is_wrong(call, runs, tmp_path):
    absent = tmp_path / "absent"
    for wrong, said in [
        (models(*runs), "--out is missing: it takes the figures over these 3 runs"),
        (models(runs[0], absent), f"{absent} does not exist"),
        (models(runs[0], runs[0] / "checkpoints" / "last.ckpt"), f"{runs[0]} is given twice"),
    ]:
        code, out, err = call(*wrong)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"error: {said}")
    assert call.asked == []


def test_nothing_is_measured_where_the_report_cannot_be_written(call, runs, tmp_path):
    file = tmp_path / "report.html"
    file.write_text("mine")
    line = "error: {} is no folder: give another folder with --out\n"
    assert call(*models(runs[0]), "--out", file) == (2, "", line.format(file))
    code, out, err = call(*models(*runs), "--out", file)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {file / 'sweep-0'} cannot be written (not a directory): give")
    (runs[0] / "attention-report").write_text("mine")
    assert call(*models(runs[0]))[2] == line.format(runs[0] / "attention-report")
    assert call.asked == []
    assert file.read_text() == "mine"


def test_help_says_where_things_go(call):
    code, out, _ = call("--help")
    assert code == 0
    text = " ".join(out.split())
    assert "needed for three runs and more" in text
    assert "over_runs.json" in text


def test_runs_of_one_name_are_told_apart(runs, tmp_path):
    assert command.run_names(runs[:2]) == ["0", "1"]
    assert command.run_names(runs) == ["sweep-0", "sweep-1", "again-0"]
    assert list(command.report_folders([str(run) for run in runs], tmp_path)) == [
        "sweep-0", "sweep-1", "again-0",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="given twice"):
        command.report_folders([str(runs[0]), f"{runs[0]}/../0"], None)
