"""Two processes on the CPU show what one does: every example once, and rank 0 alone writes."""

import csv
from pathlib import Path

import pytest

from mmattn.maps.decision_archive import load_decision
from mmattn.training.pictures.decision_logger import DecisionLogger
from mmattn.training.pictures.label_pictures import LabelPictures
from mmattn.training.pictures.probes import Probes


def callbacks(folder):
    decisions = DecisionLogger(str(folder / "decisions"), probes=Probes(size=1), mistakes=3)
    return [LabelPictures(str(folder / "pictures")), decisions]


def test_sets(folder, data, task, make_trainer, **options):
    """Validate and test a task that is not trained; return what was logged."""
    trainer, logged = make_trainer(*callbacks(folder), **options), {}
    for what in ("validate", "test"):
        getattr(trainer, what)(task, datamodule=data, verbose=False)
        logged |= {key: float(value) for key, value in trainer.callback_metrics.items()}
    return logged


test_sets.__test__ = False


def one_of_two(rank, argument):
    """Do it as one of two processes; each has a folder of its own to write to."""
    folder, make_data, make_task, make_trainer = argument
    data, own = make_data(), folder / f"rank-{rank}"
    return test_sets(own, data, make_task(data), make_trainer, strategy="ddp", devices=2)


def written(folder):
    """The files below a folder, by their place in it."""
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def rows(path: Path):
    with path.open(newline="") as stream:
        found = list(csv.reader(stream))
    return [
        [pytest.approx(float(x), abs=1e-5) if x[:1].isdecimal() else x for x in row]
        for row in found
    ]


def test_two_processes_show_what_one_does(
    in_two_processes, make_label_data, make_label_task, make_trainer, tmp_path
):
    """Of an odd number of examples, one of which the sampler repeats."""
    argument = (tmp_path, make_label_data, make_label_task, make_trainer)
    first, second = in_two_processes(one_of_two, [argument] * 2, timeout=120)
    assert first == second
    assert not (tmp_path / "rank-1").exists()
    data = make_label_data()
    logged = test_sets(tmp_path / "alone", data, make_label_task(data), make_trainer)
    names = ["val/aurc", "test/a/aurc", "test/b/risk_at_coverage_80", "val/accuracy"]
    for name in [*names, "val/loss", "test/a/loss", "test/b/loss"]:
        assert first[name] == pytest.approx(logged[name], abs=1e-5)
    two, one = written(tmp_path / "rank-0"), written(tmp_path / "alone")
    assert two.keys() == one.keys()
    for place, path in one.items():
        if place.endswith(".csv"):
            with two[place].open(newline="") as stream:
                found = list(csv.reader(stream))
            plain = [[float(x) if x[:1].isdecimal() else x for x in row] for row in found]
            assert plain == rows(path), place
        if place.endswith(".npz"):
            a, b = load_decision(path), load_decision(two[place])
            assert (a.key, a.truth, a.wrong) == (b.key, b.truth, b.wrong)
            assert a.classes[0].probability == pytest.approx(b.classes[0].probability, 1e-4)
