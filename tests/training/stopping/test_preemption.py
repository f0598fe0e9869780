"""Signals in every phase of training, in this process: it stops there, and goes on exactly."""

import os
import signal

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger

from mmattn.training.averaged_weights import AveragedWeights
from mmattn.training.checkpoints.callback import Checkpoints
from mmattn.training.checkpoints.finding import read_checkpoint
from mmattn.training.checkpoints.resume_point import ResumePoint
from mmattn.training.processes.strategies import DDP, FSDP
from mmattn.training.processes.whole_tensor import whole_tensor
from mmattn.training.step_seed import StepSeed
from mmattn.training.stopping import stop_agreement
from mmattn.training.stopping.preemption import Preemption
from mmattn.training.stopping.stop_request import StopRequest

pytestmark = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists:UserWarning"),
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`:UserWarning"),
]
WHOLE = {}  # runs that nobody stops, by their options


class Curves(Logger):
    """Keeps every logged figure in a list."""

    name, version = "curves", 0

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_hyperparams(self, *args, **kwargs):
        pass

    def log_metrics(self, metrics, step=None):
        self.rows += [(step, name, value) for name, value in metrics.items()]


class Signals(L.Callback):
    """Sends this process a signal the n-th time that training comes to a place."""

    def __init__(self, place, at, number=signal.SIGTERM):
        self.at, self.number, self.visits = at, number, 0
        setattr(self, place, self.visit)

    def visit(self, *args, **kwargs):
        self.visits += 1
        if self.visits == self.at:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def run(make_data, make_task, make_trainer, tmp_path):
    """Train two epochs of six batches, until a signal; return what came of it."""

    def train(folder, *callbacks, ckpt_path=None, kind=Checkpoints, requeue=False, **options):
        data, curves, request = make_data(), Curves(), StopRequest()
        task = make_task(data, dropout=0.1)
        folder = tmp_path / folder
        keep = kind(folder, save_last=True, save_top_k=1, monitor="val/loss")
        preemption = Preemption(str(folder), requeue=requeue, request=request)
        own = [ResumePoint(), preemption, StepSeed(0), *callbacks]
        settings = {"max_epochs": 2, "enable_checkpointing": True, "logger": curves} | options
        trainer = make_trainer(*own, AveragedWeights(decay=0.5), keep, **settings)
        code = None
        with request.installed():
            try:
                trainer.fit(task, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
            except SystemExit as stopped:
                code = stopped.code
        return code, trainer, curves.rows, folder / "last.ckpt"

    return train


def same(one, other):
    """Whether two nested containers of tensors and plain values are equal to the last bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def end_state(trainer):
    (ema,) = (c for c in trainer.callbacks if isinstance(c, AveragedWeights))
    state = trainer.optimizers[0].state_dict(), ema._average_model.state_dict()
    return trainer.lightning_module.state_dict(), *state, trainer.global_step


# Two epochs of four steps, with a validation of two batches after every second step.
SHORT = {"limit_train_batches": 4, "val_check_interval": 2, "limit_val_batches": 2}
PLACES = {
    "middle of an epoch": ("on_before_optimizer_step", 5),
    "middle of a validation": ("on_validation_batch_end", 5),
}
MORE = {
    "while saving": ("on_save_checkpoint", 2),
    "first step": ("on_train_batch_start", 1),
    "last step before a validation": ("on_train_batch_end", 2),
    "last step of an epoch": ("on_before_backward", 4),
    "end of an epoch": ("on_train_epoch_end", 1),
    "start of a validation": ("on_validation_start", 2),
    "first batch of a validation": ("on_validation_batch_start", 1),
    "end of a validation": ("on_validation_epoch_end", 3),
    "last step of all": ("on_train_batch_start", 8),
    "last validation of all": ("on_validation_batch_start", 8),
}
LAST = ["last step of all", "last validation of all"]
CASES = [*PLACES.items(), *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE.items())]


@pytest.fixture
def whole(run):
    """The run that nobody stops."""

    def make(**options):
        key = str(options)
        if key not in WHOLE:
            code, trainer, rows, _ = run("whole", **options)
            assert code is None
            WHOLE[key] = end_state(trainer), rows
        return WHOLE[key]

    return make


@pytest.mark.fault("F8")
@pytest.mark.parametrize(("name", "place"), CASES)
def test_a_run_that_a_signal_stopped_goes_on_as_if_nothing_had_been(run, whole, name, place):
    stops_and_goes_on(run, whole, place, SHORT)


@pytest.mark.slow
@pytest.mark.fault("F8")
@pytest.mark.parametrize("name", LAST)
def test_so_does_one_that_ends_at_a_step(run, whole, name):
    stops_and_goes_on(run, whole, MORE[name], SHORT | {"max_steps": 8, "max_epochs": -1})


def stops_and_goes_on(run, whole, place, options):
    """Stop a run at a place, go on, and compare with the run that nobody stops."""
    wanted, curves = whole(**options)
    code, trainer, before, path = run("cut", Signals(*place), **options)
    assert code == 143
    assert read_checkpoint(path)["global_step"] == trainer.global_step
    code, trainer, after, _ = run("cut", ckpt_path=path, **options)
    assert code is None
    assert same(end_state(trainer), wanted)
    assert before + after == curves  # no gap and no duplicate


@pytest.mark.slow
@pytest.mark.fault("F8")
@pytest.mark.parametrize("batch", [1, 2])
def test_it_stops_only_where_no_gradients_are_being_accumulated(run, whole, batch):
    options = SHORT | {"accumulate_grad_batches": 2}
    wanted, curves = whole(**options)
    code, trainer, before, path = run("cut", Signals("on_train_batch_end", batch), **options)
    assert (code, trainer.global_step) == (143, (batch + 1) // 2)
    _, trainer, after, _ = run("cut", ckpt_path=path, **options)
    assert same(end_state(trainer), wanted)
    assert before + after == curves


@pytest.mark.fault("F8")
@pytest.mark.parametrize(
    ("number", "requeue", "wanted"),
    [("SIGINT", True, False), ("SIGUSR1", False, False), ("SIGUSR1", True, True)],
)
def test_the_exit_code_is_that_of_the_signal(run, number, requeue, wanted, monkeypatch, caplog):
    monkeypatch.setenv("PATH", "")  # nobody asks SLURM before all has ended
    stop = Signals("on_train_batch_end", 1, getattr(signal, number))
    options = {"limit_train_batches": 2, "limit_val_batches": 0, "requeue": requeue}
    code, trainer, *_ = run("cut", stop, **options)
    (preemption,) = (each for each in trainer.callbacks if isinstance(each, Preemption))
    assert preemption.request.requeues == wanted
    assert "requeued" not in caplog.text
    assert code == 128 + getattr(signal, number)
    said = {"SIGINT": "Ctrl-C"}.get(number, number)
    assert f"stopped by {said} after step 1: ckpt_path=auto" in caplog.text


@pytest.mark.fault("F8")
@pytest.mark.filterwarnings("ignore:The dirpath has changed from:UserWarning")
def test_lightnings_own_checkpoints_are_served_too(run, whole):
    stops_and_goes_on(run, whole, PLACES["middle of an epoch"], SHORT | {"kind": ModelCheckpoint})


def test_what_is_taken_from_lightning_is_still_there(make_trainer):
    trainer = make_trainer()
    assert trainer.received_sigterm == trainer._signal_connector.received_sigterm
    assert callable(trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor)


@pytest.mark.fault("F8")
def test_before_training_there_is_nothing_to_save(run):
    code, _, _, path = run("cut", Signals("on_fit_start", 1), **SHORT)
    assert code == 143
    assert not path.exists()


RANKS = {
    "in training": ("on_train_batch_start", 2),
    "in validation": ("on_validation_batch_start", 1),
}


def stop_one(rank, argument):
    """Train as one of two processes, of which one gets a signal; then go on from there."""
    make_data, make_task, make_trainer, folder, kind, place, signalled = argument
    stop_agreement.INTERVAL = 0  # ask at every step

    def train(ckpt_path, *callbacks):
        data, request = make_data(batch_size=2), StopRequest()
        own = [Preemption(str(folder), request=request), StepSeed(0), *callbacks]
        options = {"strategy": kind(60), "devices": 2, "max_epochs": 2, "val_check_interval": 3}
        trainer = make_trainer(*own, **options)
        task, code = make_task(data, dropout=0.1), None
        with request.installed():
            try:
                trainer.fit(task, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
            except SystemExit as stopped:
                code = stopped.code
        weights = [whole_tensor(p.detach()).double() for p in task.parameters()]
        return [code, trainer.global_step, sum(float(each.sum()) for each in weights).hex()]

    whole = train(None)
    cut = train(None, *([Signals(*place)] if rank == signalled else []))
    return {"whole": whole, "cut": cut, "resumed": train(folder / "last.ckpt")}


@pytest.mark.slow
@pytest.mark.fault("F8")
@pytest.mark.parametrize("place", RANKS)
@pytest.mark.parametrize(("kind", "signalled"), [(DDP, 0), (DDP, 1), (FSDP, 1)])
def test_a_signal_to_one_rank_stops_both_at_the_same_step(
    in_two_processes, make_data, make_task, make_trainer, tmp_path, kind, place, signalled
):
    made = (make_data, make_task, make_trainer)
    argument = (*made, tmp_path / "run", kind, RANKS[place], signalled)
    first, second = in_two_processes(stop_one, [argument] * 2, timeout=120)
    assert first["whole"] == second["whole"] == first["resumed"] == second["resumed"]
    codes = first["cut"].pop(0), second["cut"].pop(0)
    assert codes == (143, 0)  # of one that Lightning has started itself, 0
    assert first["cut"] == second["cut"]
    assert 3 <= first["cut"][0] < 6
