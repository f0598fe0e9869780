"""Users can prove it on a configuration of their own."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mmattn.cli import verify_resume
from mmattn.cli.resume_trial import Cut, Trial, curve_difference, overrides_to_keep, table
from mmattn.errors import ConfigError


def test_cuts_are_where_it_is_hard():
    assert verify_resume.default_cuts(8, 5) == [1, 3, 5, 6, 8]
    assert verify_resume.default_cuts(2, 5) == [1, 2]
    assert verify_resume.steps("5,1,5") == [1, 5]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((1, 5, [1], []), "at least 2 steps"),
        ((4, 5, [5], []), "each is one of the steps 1 to 4"),
        ((4, 5, [1], ["-m", "seed=1,2"]), "not of a sweep"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, said):
    with pytest.raises(ConfigError, match=said):
        verify_resume.check(*arguments)


def test_what_the_trial_decides_is_left_out():
    typed = ["model.text.depth=2", "logger=wandb", "logger.wandb.project=x", "test=true", "+a.b=1"]
    typed += ["~callbacks.ema", "hydra.run.dir=here", "ckpt_path=auto", "test_x=1"]
    assert overrides_to_keep(typed) == [
        "model.text.depth=2",
        "+a.b=1",
        "~callbacks.ema",
        "test_x=1",
    ]


def curve(folder, *rows):
    folder.mkdir()
    lines = ["step,train/loss,seconds", *(",".join(map(str, row)) for row in rows)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(0, 0.5, 9), (1, 0.25, 9)], None),  # the time it took is another one
        ([(0, 0.5, 1), (1, 0.3, 1)], "row 2 of metrics.csv: train/loss is 0.3, not 0.25"),
        ([(0, 0.5, 1), (0, 0.5, 1), (1, 0.25, 1)], "row 2 of metrics.csv: step is 0, not 1"),
        ([(0, 0.5, 1)], "metrics.csv has 1 rows, not 2"),
    ],
)
def test_a_curve_has_no_gap_and_nothing_twice(tmp_path, rows, said):
    whole = curve(tmp_path / "a", (0, 0.5, 1), (1, 0.25, 1))
    assert curve_difference(whole, curve(tmp_path / "b", *rows)) == said


def test_it_is_exact_where_nothing_differs_and_something_might_have():
    same, other = Cut(2, 0.0, None), Cut(3, 0.5, "w at step 4")
    assert Trial(0, 1, "32-true", 0.1, [same]).exact
    assert not Trial(0, 1, "32-true", 0.1, [same, other]).exact
    assert not Trial(0, 1, "32-true", 0.0, [same]).exact
    shown = table([Trial(2, 1, "32-true", 0.1, [same, other])])
    assert "| 2 | 2 | 1 | 32-true | 0 | none |" in shown
    assert "| 3 | 2 | 1 | 32-true | 0.5 | w at step 4 |" in shown
    assert "nothing was learned" in table([Trial(0, 1, "32-true", 0.0)])


@pytest.mark.slow
@pytest.mark.fault("F2")
@pytest.mark.parametrize(
    "method",
    [
        ["data.num_workers=2"],
        # The second epoch, in which the run is cut, is of reinforcement.
        ["method=[self_critical]", "task.self_critical.start_epoch=1", "trainer.max_epochs=2"],
    ],
)
def test_the_command_proves_a_configuration_and_leaves_nothing(
    small_run, tmp_path, monkeypatch, capsys, method
):
    monkeypatch.chdir(tmp_path)
    short = TemporaryDirectory()  # names of sockets are of 108 characters at most
    monkeypatch.setenv("TMPDIR", short.name)
    monkeypatch.setattr("tempfile.tempdir", None)
    quick = ["trainer.accelerator=cpu", "callbacks=[checkpoint,step_seed,curve]"]
    quick += ["data.loader.batch_size=8", "logger=wandb", *method]
    options = ["mmattn verify-resume", "--steps", "4", "--batches", "2", "--cuts", "3"]
    monkeypatch.setattr("sys.argv", [*options, *small_run, *quick])
    with pytest.raises(SystemExit) as ended:
        verify_resume.main()
    shown = capsys.readouterr().out
    assert ended.value.code == 0, shown
    workers = 2 if "data.num_workers=2" in method else 0
    assert f"| 3 | {workers} | 1 | 32-true | 0 | none |" in shown
    assert "must differ" in shown
    assert not list(tmp_path.iterdir())
    with short as folder:
        assert not list(Path(folder).iterdir())
