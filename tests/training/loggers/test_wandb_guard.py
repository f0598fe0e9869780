"""W&B with everything that can happen to it, in trainings whose weights it must not touch.

The service is W&B's own; its server is a stub in this process, or nobody.
"""

import gc
import json
import os
import shlex
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import wandb
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger

from mmattn.training.checkpoints.resume_point import ResumePoint
from mmattn.training.loggers.continued_logs import run_ids
from mmattn.training.loggers.wandb_guard import (
    SERVICE,
    WandbGuard,
    children,
    service_process,
    tear_down,
    with_limits,
)

pytestmark = [
    pytest.mark.fault("F23"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
KEY = "0123456789" * 4
RUN = {"id": "x", "project": {"name": "test", "entity": {"name": "me"}}}


class Server(ThreadingHTTPServer):
    """Knows no more of W&B's protocol than that a run may begin, until it is `away`."""

    def __init__(self, status):
        super().__init__(("127.0.0.1", 0), Answer)
        self.status, self.away = status, threading.Event()


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = self.rfile.read(int(self.headers.get("content-length", 0)))
        # A file could only be taken by a server that knows more; its service tries again.
        away = self.server.away.is_set() or b"createRunFiles" in asked
        body = {"data": {}}
        if b"upsertBucket" in asked:
            run = RUN | {"name": json.loads(asked)["variables"]["name"]}
            body["data"] = {"upsertBucket": {"bucket": run, "inserted": True}}
        if self.server.status == 401:
            body = {"errors": [{"message": "user is not logged in"}]}
        self.send_response(503 if away else self.server.status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self):
        self.do_POST()

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def _anew():
    """W&B reads the environment once, so each test begins anew and leaves nothing."""
    tear_down()
    yield
    tear_down()
    gc.collect()  # what it might leave is complained of here


@pytest.fixture
def server():
    """Start a stub server that answers with this status; return it."""
    started = []

    def start(status=200):
        stub = Server(status)
        threading.Thread(target=stub.serve_forever, daemon=True).start()
        started.append(stub)
        return stub

    yield start
    for stub in started:
        stub.shutdown()
        stub.server_close()


@pytest.fixture
def online(monkeypatch, tmp_path):
    """Make a logger for the server at this port."""

    def make(port, **options):
        for name, value in {
            "WANDB_MODE": "online",
            "WANDB_API_KEY": KEY,
            "WANDB_BASE_URL": f"http://127.0.0.1:{port}",
            "WANDB_ERROR_REPORTING": "false",
        }.items():
            monkeypatch.setenv(name, value)
        return WandbLogger(project="test", save_dir=str(tmp_path), **options)

    return make


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """A logger that stays offline."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    return WandbLogger(project="test", save_dir=str(tmp_path), offline=True)


class At(Callback):
    """Does something once, before the batch of this step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            self.act()


def to_service(what):
    """Send our own W&B service a signal."""

    def send():
        (pid,) = children(SERVICE)
        os.kill(pid, what)

    return send


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.name.startswith("mmattn.training.")]


def uploads(printed):
    """The folders that the line for the upload names; each must hold a run's file."""
    (line,) = [line for line in printed.splitlines() if line.startswith("upload ")]
    command = shlex.split(line.removeprefix("upload"))
    assert command[:2] == ["wandb", "sync"]
    folders = [Path(name) for name in command[2:]]
    assert all(len(list(folder.glob("*.wandb"))) == 1 for folder in folders)
    return folders


def test_a_server_that_cannot_be_reached_makes_the_run_an_offline_one(
    trained, online, caplog, capsys
):
    logger = online(9, log_model=True)
    weights, rows, plain = trained(logger, timeout=2.0)
    assert weights == plain
    (line,) = said(caplog)
    assert line.startswith("W&B cannot be used online (CommError: ")
    assert line.endswith("this run is recorded offline")
    assert KEY not in caplog.text
    (folder,) = uploads(capsys.readouterr().out)
    assert folder.name.startswith("offline-run-")
    assert logger._log_model is False
    assert os.environ["WANDB_MODE"] == "online"  # for the next run of a sweep
    assert wandb.run is None
    assert rows


@pytest.mark.slow
def test_a_key_that_is_refused_makes_the_run_an_offline_one(
    trained, online, server, caplog, capsys
):
    weights, _, plain = trained(online(server(401).server_port))
    assert weights == plain
    (line,) = said(caplog)
    assert "user is not logged in" in line
    assert KEY not in caplog.text
    assert len(uploads(capsys.readouterr().out)) == 1


@pytest.mark.slow
def test_a_server_that_is_lost_midway_costs_no_more_than_the_limit_at_the_end(
    trained, online, server, caplog, capsys
):
    stub = server()
    logger = online(stub.server_port, settings={"init_timeout": 60.0})
    weights, rows, plain = trained(logger, At(2, stub.away.set), timeout=2.0)
    assert weights == plain
    assert [line.partition(" (")[0] for line in said(caplog)] == ["WandbLogger could not finish"]
    (folder,) = uploads(capsys.readouterr().out)
    assert folder.name.startswith("run-")
    assert wandb.run is None
    assert rows


def test_a_service_that_is_killed_is_replaced_by_an_offline_run_of_the_same_id(
    trained, offline, caplog, capsys
):
    ids = []
    note = At(1, lambda: ids.append(offline.version))

    def kill():
        to_service(signal.SIGKILL)()
        while not said(caplog):  # the first calls may not notice, and the run is short
            offline.log_metrics({"x": 1.0}, 0)
            time.sleep(0.01)

    weights, rows, plain = trained(offline, note, At(2, kill))
    assert weights == plain
    (line,) = said(caplog)
    assert line.startswith("W&B's service has died (")
    folders = uploads(capsys.readouterr().out)
    assert len(set(folders)) == 2
    assert all(ids[0] in folder.name for folder in folders)  # of one second: with -1 behind it
    assert wandb.run is None
    assert rows


def test_the_run_that_replaces_another_goes_on_with_its_steps(offline):
    guard = WandbGuard(offline, 60.0)
    assert guard.start({})

    def log():
        offline.log_metrics({"x": 1.0}, 0)
        guard._wait(lambda: None, 60.0)

    try:
        for _ in range(3):
            log()
        to_service(signal.SIGKILL)()
        while len(guard.folders) == 1:  # the first calls may not notice
            log()
        log()
        assert offline.experiment.step == run_ids([offline])["wandb_step"] >= 5
    finally:
        guard.end(failed=False)


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP], ids=lambda s: s.name)
def test_a_checkpoint_does_not_ask_a_service_that_is_gone_or_hangs(
    trained, offline, tmp_path, what
):
    path = tmp_path / "its.ckpt"

    class Save(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 3:
                begun = time.monotonic()
                trainer.save_checkpoint(path)
                took.append(time.monotonic() - begun)

    took, end = [], 2.5 if what == signal.SIGSTOP else None
    weights, _, plain = trained(offline, ResumePoint(), At(2, to_service(what)), Save(), end=end)
    assert weights == plain
    assert took[0] < 20  # W&B would wait 30 s
    saved = torch.load(path, weights_only=True)["callbacks"]["ResumePoint"]
    assert saved["wandb"] == offline.version
    assert saved["wandb_step"] == 2  # the third is logged after the batch


def test_a_service_that_hangs_is_ended_when_the_limit_is_over(trained, offline, caplog, capsys):
    """It is stopped before the first step and never goes on, and yet the run comes to its end."""
    found = []

    def stop():
        found.append(service_process())
        to_service(signal.SIGSTOP)()

    weights, rows, plain = trained(offline, At(1, stop), end=2.5)
    assert weights == plain
    assert found[0].returncode == -signal.SIGKILL  # it was waited for, too
    assert said(caplog) == [
        "WandbLogger did not answer in 2.5 s; training goes on, its figures are in metrics.csv, "
        "and this is said once"
    ]
    assert children(SERVICE) == []
    assert len(uploads(capsys.readouterr().out)) == 1
    assert rows


@pytest.mark.slow
def test_a_disk_that_is_full_for_wandb_is_full_for_wandb_only(trained, offline, caplog, capsys):
    """The service may write nothing more, as on a full disk; training may."""
    import resource

    def fill():
        (pid,) = children(SERVICE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))

    weights, rows, plain = trained(offline, At(1, fill), end=10.0)
    assert weights == plain
    assert len(said(caplog)) <= 2
    uploads(capsys.readouterr().out)
    assert rows


def test_a_folder_that_cannot_be_made_leaves_wandb_out(trained, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("WANDB_MODE", "offline")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wandb, "init", full)
    logger = WandbLogger(project="test", save_dir=str(tmp_path), offline=True)
    weights, rows, plain = trained(logger)
    assert weights == plain
    (line,) = said(caplog)
    assert line.startswith("WandbLogger could not begin (OSError: [Errno 28] No space left")
    assert rows


@pytest.mark.slow
def test_a_run_that_is_disabled_has_nothing_to_upload(trained, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    trained(WandbLogger(project="test", save_dir=str(tmp_path)))
    assert "wandb sync" not in capsys.readouterr().out


def test_limits_are_ours_unless_somebody_set_others(monkeypatch):
    for name in ("WANDB_INIT_TIMEOUT", "WANDB_FINISH_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    raises = {"finish_timeout_raises": True}
    assert with_limits(None, 9.0) == {"init_timeout": 9.0, "finish_timeout": 9.0, **raises}
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "5")
    assert with_limits({"finish_timeout": 3}, 9.0) == {"finish_timeout": 3, **raises}
    settings = wandb.Settings(init_timeout=4)
    assert with_limits(settings, 9.0) is settings
