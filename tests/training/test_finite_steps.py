"""Numbers that are not finite, put where they hurt: what is left out, when training stops."""

import re
import threading
from functools import partial
from unittest.mock import Mock

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from mmattn.errors import ConfigError, TrainingError
from mmattn.training import finite_steps
from mmattn.training.averaged_weights import AveragedWeights
from mmattn.training.checkpoints import io
from mmattn.training.checkpoints.callback import Checkpoints
from mmattn.training.checkpoints.finding import read_checkpoint
from mmattn.training.finite_steps import FiniteSteps, Pending
from mmattn.training.processes.strategies import DDP, FSDP
from mmattn.training.processes.whole_tensor import whole_tensor
from mmattn.training.rollback import last_checkpoint
from mmattn.training.running_statistics import RunningStatistics

pytestmark = [
    pytest.mark.fault("F9"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists:UserWarning"),
]


class Breaks(L.Callback):
    """Lets the pictures of some training batches be no numbers."""

    def __init__(self, *batches, value=torch.nan):
        self.batches, self.value, self.seen = batches, value, []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        number = trainer.current_epoch * trainer.num_training_batches + batch_idx
        if number in self.batches:
            batch.images.fill_(self.value)
            self.seen += batch.keys


class GradientBreaks(L.Callback):
    """Lets one gradient be infinite, while the losses are not."""

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == 1:
            next(pl_module.parameters()).grad.view(-1)[0] = torch.inf


@pytest.fixture
def train(make_data, make_task, make_trainer):
    """Train an epoch of six batches with these callbacks; return the trainer."""

    def run(*callbacks, ckpt_path=None, optimizer=None, **options):
        data = make_data()
        task = make_task(data)
        if optimizer is not None:
            task.make_optimizer = optimizer
        trainer = make_trainer(*callbacks, gradient_clip_val=1.0, **options)
        trainer.fit(task, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        return trainer

    return run


def weights(trainer):
    parameters = trainer.lightning_module.parameters()
    return torch.cat([whole_tensor(p.detach()).flatten() for p in parameters])


class Kept(L.Callback):
    """Keeps the weights and the optimiser's state after every batch."""

    def __init__(self):
        self.after = []

    def on_train_batch_end(self, trainer, *args):
        moments = trainer.optimizers[0].state.values()
        state = [value.clone() for entry in moments for value in entry.values()]
        self.after.append([weights(trainer), *state])


OPTIMIZERS = {
    "fused AdamW": partial(torch.optim.AdamW, lr=1e-2, fused=True),
    "AdamW": partial(torch.optim.AdamW, lr=1e-2, fused=False, foreach=True),
    "SGD with momentum": partial(torch.optim.SGD, lr=1e-2, momentum=0.9),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_step_that_is_not_finite_changes_nothing(train, name, precision, caplog):
    breaks, kept, finite = Breaks(2), Kept(), FiniteSteps()
    options = {"optimizer": OPTIMIZERS[name], "precision": precision, "max_steps": 4}
    trainer = train(finite, breaks, kept, **options)
    assert all(map(torch.equal, kept.after[1], kept.after[2]))
    for before, after in ((0, 1), (2, 3)):
        assert not torch.equal(kept.after[before][0], kept.after[after][0])
    assert weights(trainer).isfinite().all()
    assert (trainer.global_step, finite.state_dict()) == (4, {"found": 1, "row": 0})
    said = f"step 3 of epoch 0: the loss is not finite; the examples were {', '.join(breaks.seen)}"
    assert f"{said}. The step is left out (1 of 3 in a row, 1 of 20 in all)" in caplog.text


def test_gradients_alone_are_enough_and_name_all_that_the_step_saw(train, caplog):
    train(FiniteSteps(), GradientBreaks(), accumulate_grad_batches=2)
    (said,) = re.findall(
        r"gradients are not finite; the examples were (.*)\. The step", caplog.text
    )
    assert len(said.split(", ")) == 2 * 4


def test_one_bad_batch_of_several_leaves_out_their_step_and_is_the_one_named(train, caplog):
    breaks, kept = Breaks(2), Kept()
    trainer = train(FiniteSteps(), breaks, kept, accumulate_grad_batches=2)
    assert torch.equal(kept.after[1][0], kept.after[3][0])
    assert not torch.equal(kept.after[3][0], kept.after[5][0])
    assert trainer.global_step == 3
    assert "step 2 of epoch 0: the loss is not finite" in caplog.text
    assert ", ".join(breaks.seen) in caplog.text


def test_it_costs_nothing_where_all_is_finite(train):
    plain, guarded = train(), train(FiniteSteps())
    assert torch.equal(weights(plain), weights(guarded))


def test_stop_ends_at_the_first_and_says_how_to_go_on(train):
    said = (
        r"step 3 of epoch 0: the loss is not finite; the examples were train/.*policy=skip leaves"
    )
    with pytest.raises(TrainingError, match=said):
        train(FiniteSteps("stop"), Breaks(2, value=torch.inf))


@pytest.mark.parametrize(
    ("limits", "bad", "step", "counts"),
    [
        ({"in_a_row": 2}, (0, 2, 3, 4), 5, "3 in a row and 4 in all"),
        ({"in_all": 2}, (0, 2, 4), 5, "1 in a row and 3 in all"),
    ],
)
def test_too_many_stop_training(train, limits, bad, step, counts):
    with pytest.raises(TrainingError, match=f"step {step} .*{counts}, more than callbacks.finite"):
        train(FiniteSteps(**limits), Breaks(*bad))


def test_a_run_that_goes_on_goes_on_counting(train, tmp_path):
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3)
    with pytest.raises(TrainingError, match="3 in all"):
        train(FiniteSteps(in_all=2), Breaks(1, 2, 4), keep, enable_checkpointing=True)
    path = tmp_path / "step=3.ckpt"
    content = read_checkpoint(path)
    assert content["callbacks"]["FiniteSteps"] == {"found": 2, "row": 2}
    assert all(value.isfinite().all() for value in content["state_dict"].values())
    with pytest.raises(TrainingError, match="3 in all"):
        train(FiniteSteps(in_all=2), Breaks(4), keep, enable_checkpointing=True, ckpt_path=path)


def test_rolling_back_goes_on_from_the_last_checkpoint_with_the_next_batches(train, tmp_path):
    def run(*callbacks):
        keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
        kept = Kept()
        averages = AveragedWeights(decay=0.5)
        own = (*callbacks, kept, averages, keep)
        trainer = train(*own, enable_checkpointing=True, enable_model_summary=False)
        return kept.after, trainer

    after, trainer = run(FiniteSteps("rollback"), Breaks(3))
    assert not torch.equal(after[2][0], after[1][0])
    assert all(map(torch.equal, after[3], after[1]))  # step=2.ckpt was the last one
    assert not torch.equal(after[4][0], after[3][0])
    assert trainer.global_step == 6
    saved = read_checkpoint(tmp_path / "step=4.ckpt")
    assert torch.equal(
        torch.cat([saved["current_model_state"][n].flatten() for n, _ in named(trainer)]),
        after[1][0],
    )
    assert weights(trainer).isfinite().all()


@pytest.fixture
def one_step_late(monkeypatch):
    """Let an optimiser of the CPU do what one of a GPU does: its own way, heard of a step later."""

    def begin():
        arrived = Mock(spec=torch.cuda.Event)
        monkeypatch.setattr(finite_steps, "decides_itself", lambda optimizer, bad: True)
        monkeypatch.setattr(
            finite_steps, "on_its_way", lambda window, bad: Pending(window, bad.clone(), arrived)
        )

    return begin


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_an_optimiser_that_decides_itself_leads_to_the_same_weights(
    train, tmp_path, one_step_late, policy, caplog
):
    def run(folder):
        keep = Checkpoints(tmp_path / folder, every_n_train_steps=2)
        kept, finite, breaks = Kept(), FiniteSteps(policy), Breaks(3)
        options = {"optimizer": OPTIMIZERS["fused AdamW"], "enable_checkpointing": True}
        train(finite, breaks, kept, keep, **options)
        assert finite.state_dict() == {"found": 1, "row": 0}
        assert caplog.text.count("step 4 of epoch 0: the loss is not finite") == 1
        caplog.clear()
        return [each[0] for each in kept.after]

    plain = run("plain")
    one_step_late()
    late = run("late")
    assert all(map(torch.equal, plain, late))
    assert torch.equal(plain[3], plain[1] if policy == "rollback" else plain[2])
    assert not torch.equal(plain[4], plain[3])


def test_rolling_back_is_to_the_newest_and_not_to_the_best(train, tmp_path):
    # By the step, the first validation is the best for ever.
    keep = Checkpoints(tmp_path, monitor="step", mode="min", save_last=False, keep_last=1)
    kept = Kept()
    options = {"enable_checkpointing": True, "val_check_interval": 2, "limit_val_batches": 1}
    train(FiniteSteps("rollback"), Breaks(4), kept, keep, **options)
    assert all(map(torch.equal, kept.after[4], kept.after[3]))
    assert not torch.equal(kept.after[3][0], kept.after[1][0])


def test_rolling_back_waits_for_what_is_being_written(train, tmp_path, monkeypatch):
    waited, copy, write = threading.Event(), io.snapshot, io.write_checkpoint
    wait = io.CheckpointFiles.wait

    def copies(content, *, copied):
        waited.clear()
        return copy(content, copied=copied)

    def writes(content, path):
        assert waited.wait(60)  # a checkpoint is not there before somebody waits for it
        write(content, path)

    def waits(files):
        waited.set()
        wait(files)

    keep, kept = Checkpoints(tmp_path, every_n_train_steps=2), Kept()
    monkeypatch.setattr(io, "snapshot", copies)
    monkeypatch.setattr(io, "write_checkpoint", writes)
    monkeypatch.setattr(io.CheckpointFiles, "wait", waits)
    train(FiniteSteps("rollback"), Breaks(4), kept, keep, enable_checkpointing=True)
    assert all(map(torch.equal, kept.after[4], kept.after[3]))


def named(trainer):
    return trainer.lightning_module.named_parameters()


def test_there_is_nothing_to_roll_back_to_before_the_first_checkpoint(train, caplog):
    trainer = train(FiniteSteps("rollback"), Breaks(0))
    assert last_checkpoint(trainer) is None
    assert "1 of 3 in a row, 1 of 20 in all)\n" in caplog.text


def test_weights_that_are_not_finite_are_not_saved(train, tmp_path, make_trainer):
    trainer = train(FiniteSteps())
    with torch.no_grad():
        trainer.lightning_module.model.text.embedding.weight[0, 0] = torch.nan
    with pytest.raises(
        TrainingError, match=r"weights model\.text\.embedding\.weight are not finite"
    ):
        trainer.save_checkpoint(tmp_path / "broken.ckpt")
    assert not (tmp_path / "broken.ckpt").exists()


def test_running_statistics_that_a_batch_broke_are_given_back():
    norm = nn.BatchNorm1d(3)
    statistics = RunningStatistics(nn.Sequential(norm, nn.Linear(3, 3)).modules())
    assert len(statistics.buffers) == 2
    norm(torch.randn(5, 3))
    kept = [buffer.clone() for buffer in statistics.buffers]
    statistics.keep()
    norm(torch.full((5, 3), torch.nan))
    assert norm.running_mean.isnan().all()
    statistics.give_back(torch.tensor(True))
    assert all(map(torch.equal, kept, statistics.buffers))
    norm(torch.randn(5, 3))
    statistics.give_back(torch.tensor(False))
    assert not any(map(torch.equal, kept, statistics.buffers))


@pytest.mark.parametrize(
    ("options", "said"),
    [({"policy": "skp"}, "policy='skp'"), ({"in_all": 0}, "in_all=0"), ({"in_a_row": 0}, "=0")],
)
def test_wrong_settings_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        FiniteSteps(**options)


def break_one(rank, argument):
    """Train as one of two processes, of which the second has a batch that is no numbers."""
    make_data, make_task, make_trainer, folder, precision = argument
    data, kept = make_data(batch_size=2), Kept()
    breaks = [Breaks(2)] if rank == 1 else []
    keep = ModelCheckpoint(folder, "last", every_n_train_steps=1)
    options = {"strategy": "ddp", "devices": 2, "precision": precision}
    finite = FiniteSteps()
    trainer = make_trainer(finite, *breaks, kept, keep, enable_checkpointing=True, **options)
    said = []
    finite_steps.log = type("Log", (), {"warning": lambda *args: said.append(args[1] % args[2:])})()
    trainer.fit(make_task(data), datamodule=data)
    total = weights(trainer).double().sum()
    still = [torch.equal(kept.after[i][0], kept.after[i + 1][0]) for i in range(5)]
    keys = breaks[0].seen if breaks else []
    return {
        "sum": float(total).hex(),
        "still": still,
        "said": said,
        "keys": keys,
    } | finite.state_dict()


@pytest.mark.slow
def test_two_ranks_agree_on_a_number_that_only_one_of_them_saw(
    in_two_processes, make_data, make_task, make_trainer, tmp_path
):
    argument = (make_data, make_task, make_trainer, tmp_path / "run", "bf16-mixed")
    first, second = in_two_processes(break_one, [argument] * 2)
    (line,), silent = first.pop("said"), second.pop("said")
    keys = second.pop("keys")
    first.pop("keys")
    assert "step 3 of epoch 0: the loss is not finite on rank 1; the examples were " in line
    assert ", ".join(keys) in line
    assert len(keys) == 2
    assert silent == []
    assert first == second
    assert first["still"] == [False, True, False, False, False]
    assert (first["found"], first["row"]) == (1, 0)
    saved = read_checkpoint(tmp_path / "run" / "last.ckpt")["state_dict"]
    assert all(value.isfinite().all() for value in saved.values())


POLICIES = [(policy, kind) for policy in ("skip", "stop", "rollback") for kind in (DDP, FSDP)]


def under_each_policy(rank, argument):
    """Train as one of two processes, of which the second has a batch that is no numbers."""
    make_data, make_task, make_trainer, folder, begin = argument
    begin()
    found = {}
    for policy, kind in POLICIES:
        name = f"{policy} {kind.__name__}"
        data, kept = make_data(batch_size=2), Kept()
        breaks = [Breaks(3)] if rank == 1 else []
        keep = Checkpoints(folder / name, every_n_train_steps=2)
        options = {"strategy": kind(60), "devices": 2, "enable_checkpointing": True}
        trainer = make_trainer(FiniteSteps(policy), *breaks, kept, keep, **options)
        task, error = make_task(data), ""
        task.make_optimizer = OPTIMIZERS["fused AdamW"]
        try:
            trainer.fit(task, datamodule=data)
        except TrainingError as stopped:
            error = str(stopped)
        sums = [float(after[0].double().sum()).hex() for after in kept.after]
        found[name] = {"error": error, "sums": sums}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_two_ranks_do_the_same_under_each_policy_in_copies_and_in_parts(
    in_two_processes, make_data, make_task, make_trainer, tmp_path, one_step_late, late
):
    begin = one_step_late if late else dict
    argument = (make_data, make_task, make_trainer, tmp_path / "runs", begin)
    first, second = in_two_processes(under_each_policy, [argument] * 2, timeout=200)
    assert first == second
    for policy, kind in POLICIES:
        ran = first[f"{policy} {kind.__name__}"]
        sums = ran["sums"]
        assert len(set(sums[:3])) == 3
        if policy == "stop":
            assert len(sums) == 3 + late
            assert len({*sums[2:]}) == 1
            assert "step 4 of epoch 0: the loss is not finite on rank 1" in ran["error"]
        else:
            assert ran["error"] == ""
            assert sums[3] == sums[1 if policy == "rollback" else 2]
            assert len({*sums[3:]}) == 3
