"""Loggers that raise and loggers that hang, in a training whose weights they must not touch."""

import threading

import pytest
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment

from mmattn.training.checkpoints.resume_point import ResumePoint
from mmattn.training.loggers.logger_guard import METHODS, LoggerGuard
from mmattn.training.loggers.metrics_file import MetricsFile

pytestmark = pytest.mark.fault("F23")


class Service(Logger):
    """Stands for a service: hears what is logged, and does what a test wants at a call."""

    name = version = "service"

    def __init__(self, at_call=lambda number, method: None):
        super().__init__()
        self.heard, self.at_call, self.number = [], at_call, 0

    def _hear(self, method, *what):
        self.number += 1
        self.at_call(self.number, method)
        self.heard.append((method, *what))

    @property
    @rank_zero_experiment
    def experiment(self):
        self._hear("experiment")
        return object()

    def log_hyperparams(self, params):
        self._hear("log_hyperparams", params)

    def log_metrics(self, metrics, step=None):
        self._hear("log_metrics", metrics, step)

    def save(self):
        self._hear("save")

    def after_save_checkpoint(self, checkpoint_callback):
        self._hear("after_save_checkpoint")

    def finalize(self, status):
        self._hear("finalize", status)


def raising(error, when):
    def at_call(number, method):
        if when(number, method):
            raise error

    return at_call


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.name.startswith("mmattn.training.logger")]


def test_a_logger_hears_all_in_its_order_and_stays_what_it_is(trained):
    other, service = Service(), Service()
    weights, rows, plain = trained(service, other)
    assert weights == plain
    assert isinstance(service, Service)
    assert service.heard == other.heard
    kinds = [method for method, *_ in service.heard]
    assert kinds[:2] == ["experiment", "log_hyperparams"]
    assert kinds[-1] == "finalize"
    steps = [call[2] for call in service.heard if call[0] == "log_metrics"]
    assert steps == sorted(steps)
    assert rows


@pytest.mark.parametrize("n", [1, 2, 5])
def test_whatever_a_logger_raises_at_call_n_is_said_once(trained, caplog, n):
    error = RuntimeError("the service\nis away")
    service = Service(raising(error, lambda number, method: number >= n))
    weights, rows, plain = trained(service)
    assert weights == plain
    (line,) = said(caplog)
    assert line.startswith("Service could not")
    assert "(RuntimeError: the service is away)" in line
    assert "metrics.csv" in line
    assert rows


@pytest.mark.parametrize(
    ("kind", "method"),
    [(CSVLogger, "save"), (CSVLogger, "log_metrics"), (TensorBoardLogger, "log_metrics")],
)
def test_files_that_cannot_be_written_are_said_once(
    trained, caplog, monkeypatch, tmp_path, kind, method
):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kind, method, full)
    weights, _, plain = trained(kind(tmp_path, name="", version=""))
    assert weights == plain
    (line,) = said(caplog)
    assert line.startswith(f"{kind.__name__} could not log (OSError: [Errno 28] No space left")


def test_a_run_whose_only_logger_cannot_begin_trains_on(trained, caplog, tmp_path):
    """Also with a callback of Lightning's that refuses to run without a logger."""
    (tmp_path / "file").touch()
    logger = MetricsFile(tmp_path / "file" / "folder", name="", version="")
    weights, rows, plain = trained(logger, LearningRateMonitor("step"), ResumePoint())
    assert weights == plain
    (line,) = said(caplog)
    assert line.startswith("MetricsFile could not begin (")
    assert not rows


def test_a_logger_that_fails_goes_on_when_its_service_is_back(trained, caplog):
    service = Service(raising(OSError("away"), lambda number, method: number in (4, 5)))
    trained(service)
    assert len(said(caplog)) == 1
    assert service.heard[-1][0] == "finalize"


def test_training_does_not_wait_for_a_logger_that_hangs(trained, caplog):
    """The service answers nothing until training is over, and yet training gets there."""
    free = threading.Event()

    def hang(number, method):
        if method == "log_metrics":
            free.wait()

    service = Service(hang)
    weights, rows, plain = trained(service, end=0.1)
    assert not free.is_set()
    free.set()
    assert weights == plain
    assert said(caplog) == [
        "Service did not answer in 0.1 s; training goes on, its figures are in metrics.csv, and "
        "this is said once"
    ]
    assert rows


def test_a_logger_that_hangs_at_its_start_is_left_out(trained, caplog):
    free = threading.Event()
    service = Service(lambda number, method: free.wait())
    weights, rows, plain = trained(service, timeout=0.1)
    free.set()
    assert weights == plain
    assert len(said(caplog)) == 1
    assert rows


def test_what_there_is_no_room_for_is_left_out_and_said_once(caplog):
    free = threading.Event()
    guard = LoggerGuard(Service(lambda number, method: free.wait()), 60.0)
    for step in range(600):  # 500 may wait
        guard.logger.log_metrics({"x": 1.0}, step)
    assert len(said(caplog)) == 1
    assert "is slower than training" in said(caplog)[0]
    free.set()


def test_training_waits_while_a_checkpoint_is_copied():
    """Else it might remove the file in the middle."""
    service, seen = Service(), []
    guard = LoggerGuard(service, 60.0)
    service.at_call = lambda number, method: seen.append(threading.current_thread().name)
    guard.logger.after_save_checkpoint(None)
    assert service.heard == [("after_save_checkpoint",)]
    assert seen == ["mmattn-logger"]


def test_the_methods_of_lightnings_own_loggers_are_known():
    """A method that Lightning adds must be guarded, too."""
    from lightning.pytorch import loggers

    asking = {"name", "version", "experiment", "save_dir", "root_dir", "log_dir", "group_separator"}
    asking |= {"use_artifact", "download_artifact", "watch", "sub_dir"}
    for kind in (loggers.CSVLogger, loggers.TensorBoardLogger, loggers.WandbLogger):
        public = {name for name in dir(kind) if not name.startswith("_") and name.islower()}
        assert public - asking <= set(METHODS)
