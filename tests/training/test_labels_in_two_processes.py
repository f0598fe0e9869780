"""Two processes on the CPU show what one does: every example once, and rank 0 alone writes."""

import csv
import json
import multiprocessing
import warnings
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed

from mmattn.maps.decision_archive import load_decision
from mmattn.training.decision_logger import DecisionLogger
from mmattn.training.label_pictures import LabelPictures
from mmattn.training.probes import Probes

LIMIT = timedelta(seconds=60)


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


def one_of_two(rank, folder, make_data, make_task, make_trainer):
    """Do it as one of two processes; each has a folder of its own to write to."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "rendezvous"), 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=LIMIT)
    data = make_data()
    own = folder / f"rank-{rank}"
    logged = test_sets(own, data, make_task(data), make_trainer, strategy="ddp", devices=2)
    (folder / f"{rank}.json").write_text(json.dumps(logged))
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture
def in_two_processes(make_label_data, make_label_task, make_trainer, tmp_path, monkeypatch):
    """Return what each of two processes logged."""
    # Forked, since importing torch anew takes longer than all of it.
    context = multiprocessing.get_context("fork")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("NODE_RANK", "0")
    processes = []
    for rank in range(2):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        arguments = (rank, tmp_path, make_label_data, make_label_task, make_trainer)
        processes.append(context.Process(target=one_of_two, args=arguments))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This process .* is multi-thr", DeprecationWarning)
            processes[-1].start()
    for process in processes:
        process.join(timeout=120)
        process.kill()
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.delenv("NODE_RANK")
    return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]


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
    first, second = in_two_processes
    assert first == second
    assert not (tmp_path / "rank-1").exists()
    data = make_label_data()
    logged = test_sets(tmp_path / "alone", data, make_label_task(data), make_trainer)
    for name in ("val/aurc", "test/a/aurc", "test/b/risk_at_coverage_80", "val/accuracy"):
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
