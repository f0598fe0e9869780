"""Which checkpoints a run keeps, in a real run of a few steps: six in an epoch."""

import errno
import os
import shutil
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from mmattn.data.loader import StatefulLoader
from mmattn.errors import CheckpointError, ConfigError, DiskError
from mmattn.training.averaged_weights import AveragedWeights
from mmattn.training.checkpoints import durable
from mmattn.training.checkpoints.callback import Checkpoints
from mmattn.training.checkpoints.content import read_checkpoint
from mmattn.training.checkpoints.files import checkpoints_in
from mmattn.training.checkpoints.finding import best_checkpoint, find_checkpoint, newest_whole
from mmattn.training.checkpoints.manifest import verify
from mmattn.training.checkpoints.resume_point import ResumePoint
from mmattn.training.step_seed import StepSeed


class Scores(L.Callback):
    """Gives each validation a score of its own, as if it had been measured."""

    def __init__(self, *scores):
        self.left = list(scores)

    def on_validation_epoch_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            pl_module.log("score", self.left.pop(0))


class Stop(L.Callback):
    """Ends the run without any clean-up of its own, after a step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            raise InterruptedError


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


class Keys:
    """Twelve samples, each of which is its key."""

    def __len__(self):
        return 12

    def __getitems__(self, items):
        return items


class Toy(L.LightningModule):
    """Dropout and Adam on a few numbers that are made from the keys."""

    def __init__(self):
        super().__init__()
        self.layer, self.dropout = torch.nn.Linear(2, 3), torch.nn.Dropout(0.5)
        for parameter in self.parameters():
            torch.nn.init.constant_(parameter, 0.3)

    def training_step(self, batch, batch_idx):
        return self.dropout(self.layer(batch / 10)).square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def loader():
    collate = partial(torch.tensor, dtype=torch.float32)
    return StatefulLoader(
        Keys(), batch_size=2, seed=0, shuffle=True, drop_last=True, collate_fn=collate
    )


@pytest.fixture
def fit(make_trainer, folder):
    """Train and validate; return the trainer. `keep` are options of the checkpoints."""

    def run(*callbacks, go_on_from=None, place=folder, keep=None, **options):
        checkpoints = Checkpoints(place, **(keep or {}))
        trainer = make_trainer(
            StepSeed(0), *callbacks, checkpoints, enable_checkpointing=True, **options
        )
        trainer.fit(Toy(), loader(), loader(), ckpt_path=go_on_from, weights_only=True)
        return trainer

    return run


def kept(folder):
    """Names of checkpoints, the newest first, after checking that manifests are just theirs."""
    found = [path.name for path in checkpoints_in(folder)]
    assert {path.name for path in folder.glob("*.json")} == {f"{name}.json" for name in found}
    assert not list(folder.glob(".*"))
    return found


def steps(folder):
    return [verify(path).step for path in checkpoints_in(folder)]


def weights(trainer):
    return trainer.lightning_module.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("asynchronous", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_newest_are_kept_besides_the_best(fit, folder, asynchronous):
    scores = Scores(0.1, 0.9, 0.5, 0.4)
    keep = {"monitor": "score", "mode": "max", "every_n_train_steps": 4}
    fit(scores, max_epochs=4, keep=keep | {"asynchronous": asynchronous})
    # 4, 6 (0.1), 8, 12 (0.9), 16, 18 (0.5), 20, 24 (0.4)
    assert steps(folder) == [24, 20, 12]
    assert kept(folder) == ["epoch_003.ckpt", "step_00000020.ckpt", "epoch_001.ckpt"]
    assert (folder / "last.ckpt").readlink() == Path("epoch_003.ckpt")
    assert best_checkpoint(folder).name == "epoch_001.ckpt"


@pytest.mark.slow
def test_several_of_the_best_and_of_the_newest(fit, folder):
    scores = Scores(0.7, float("nan"), 0.5, 0.9, 0.8, 0.8)
    keep = {"monitor": "score", "mode": "min", "save_top_k": 2, "keep_last": 3}
    trainer = fit(scores, max_epochs=6, keep=keep)
    assert steps(folder) == [36, 30, 24, 18, 6]
    assert Path(trainer.checkpoint_callback.best_model_path).name == "epoch_002.ckpt"
    assert float(trainer.checkpoint_callback.best_model_score) == 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keep", "found"),
    [
        ({"save_top_k": -1}, [18, 16, 12, 8, 6, 4]),
        ({"save_top_k": -1, "monitor": "score"}, [18, 16, 12, 6]),
        ({"save_top_k": 0, "monitor": "score", "keep_last": 1}, [18]),
        ({"keep_last": 1}, [18]),
    ],
    ids=str,
)
def test_all_none_or_without_a_metric(fit, folder, keep, found):
    trainer = fit(
        Scores(0.1, 0.2, 0.3), max_epochs=3, keep=keep | {"mode": "max", "every_n_train_steps": 4}
    )
    assert steps(folder) == found
    best = trainer.checkpoint_callback.best_model_path
    assert bool(best) == (keep["save_top_k"] != 0 if "save_top_k" in keep else True)


@pytest.mark.fault("F1")
def test_the_first_checkpoint_does_not_wait_for_a_metric(fit, folder):
    keep = {"monitor": "score", "mode": "max", "every_n_train_steps": 2, "save_top_k": 1}
    with pytest.raises(InterruptedError):
        fit(Scores(), Stop(5), max_epochs=9, check_val_every_n_epoch=9, keep=keep)
    assert steps(folder) == [4, 2]
    assert verify(folder / "last.ckpt").step == 4


@pytest.mark.fault("F1")
@pytest.mark.slow
@pytest.mark.parametrize("cut", [4, 7, 12, 15])
def test_a_run_that_is_cut_goes_on_with_the_same_bits_and_the_same_best(fit, folder, cut):
    scores = (0.2, 0.9, 0.4)
    keep = {"monitor": "score", "mode": "max", "every_n_train_steps": 4, "save_top_k": 2}
    options = {"max_epochs": 3, "keep": keep}
    whole = fit(Scores(*scores), place=folder.parent / "whole", **options)
    with pytest.raises(InterruptedError):
        fit(Scores(*scores), Stop(cut), **options)
    found = find_checkpoint("auto", folder.parent, folder / "no others")
    done = verify(found).step
    assert done == {4: 4, 7: 6, 12: 12, 15: 12}[cut]
    resumed = fit(Scores(*scores[done // 6 :]), go_on_from=found, **options)
    assert same(weights(whole), weights(resumed))
    assert kept(folder) == kept(folder.parent / "whole")
    callbacks = [of.checkpoint_callback for of in (whole, resumed)]
    assert len({Path(of.best_model_path).name for of in callbacks}) == 1
    a, b = (read_checkpoint(Path(of.best_model_path))["state_dict"] for of in callbacks)
    assert same(a, b)


@pytest.mark.slow
def test_a_run_of_an_older_version_goes_on(fit, folder, make_trainer):
    """Its checkpoints were written by Lightning's own callback: last.ckpt and the best."""
    settings = {"monitor": "score", "mode": "max"}
    theirs = ModelCheckpoint(folder, "old_{epoch}", save_last=True, **settings)
    trainer = make_trainer(StepSeed(0), Scores(0.5), theirs, enable_checkpointing=True)
    trainer.fit(Toy(), loader(), loader())
    found = find_checkpoint("auto", folder.parent, folder)
    assert found.name == "last.ckpt"
    resumed = fit(Scores(0.4), go_on_from=found, max_epochs=2, keep=settings)
    assert Path(resumed.checkpoint_callback.best_model_path).name == "old_epoch=0.ckpt"
    assert (folder / "last.ckpt").readlink() == Path("epoch_001.ckpt")
    fit(Scores(0.6), go_on_from=newest_whole(folder), max_epochs=3, keep=settings)
    assert kept(folder) == ["epoch_002.ckpt", "epoch_001.ckpt"]


@pytest.mark.slow
def test_a_run_goes_on_in_a_folder_that_was_moved(fit, folder):
    keep = {"monitor": "score", "mode": "max"}
    fit(Scores(0.9, 0.4), max_epochs=2, keep=keep)
    there = folder.parent / "moved"
    folder.rename(there)
    trainer = fit(
        Scores(0.5, 0.6), max_epochs=4, keep=keep, place=there, go_on_from=newest_whole(there)
    )
    assert Path(trainer.checkpoint_callback.best_model_path) == there / "epoch_000.ckpt"
    assert kept(there) == ["epoch_003.ckpt", "epoch_002.ckpt", "epoch_000.ckpt"]


def test_between_accumulated_batches_nothing_is_written(fit, folder):
    keep = {"every_n_train_steps": 1, "save_top_k": -1}
    fit(max_epochs=1, accumulate_grad_batches=4, limit_val_batches=0, keep=keep)
    assert steps(folder) == [2, 1]  # four batches, and the two that are left
    found = [read_checkpoint(path)["loops"]["fit_loop"] for path in checkpoints_in(folder)]
    progress = [of["epoch_loop.batch_progress"]["current"]["ready"] for of in found]
    assert progress == [6, 4]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"max_steps": 4, "max_epochs": -1}, [4]),
        ({"max_epochs": 2}, [12]),
        ({"max_epochs": 3, "check_val_every_n_epoch": 2}, [18, 12]),
        ({"max_epochs": 2, "limit_val_batches": 0, "val_check_interval": 1.0}, [12]),
        ({"max_epochs": 1, "val_check_interval": 3}, [6, 3]),
        ({"fast_dev_run": 2}, []),
    ],
    ids=str,
)
def test_the_end_of_a_run_is_kept_however_it_ends(fit, folder, options, found):
    keep = {"keep_last": 1} if options.get("limit_val_batches") == 0 or found == [12] else {}
    fit(keep=keep, **options)
    assert steps(folder) == found


@pytest.mark.slow
def test_every_so_many_epochs(fit, folder):
    keep = {"every_n_epochs": 2, "save_top_k": -1}
    fit(max_epochs=5, check_val_every_n_epoch=3, keep=keep)
    assert steps(folder) == [30, 24, 18, 12]


def test_two_validations_of_one_epoch_do_not_share_a_name(fit, folder):
    fit(
        Scores(0.9, 0.3, 0.2),
        max_epochs=1,
        val_check_interval=2,
        keep={"monitor": "score", "mode": "max"},
    )
    assert kept(folder) == ["epoch_000-v2.ckpt", "epoch_000-v1.ckpt", "epoch_000.ckpt"]
    assert steps(folder) == [6, 4, 2]


def test_names_may_have_metrics(fit, folder):
    keep = {"filename": "{step}-{score:.2f}", "monitor": "score", "auto_insert_metric_name": True}
    fit(Scores(0.25), keep=keep, max_epochs=1)
    assert kept(folder) == ["step=6-score=0.25.ckpt"]


def test_without_the_monitored_metric_it_says_what_there_is(fit):
    with pytest.raises(ConfigError, match=r"monitor=nothing: could not find .* is epoch, score"):
        fit(Scores(0.1), max_epochs=1, keep={"monitor": "nothing"})


@pytest.mark.parametrize("name", ["keep_last", "every_n_train_steps", "max_failures"])
def test_counts_that_make_no_sense(tmp_path, name):
    with pytest.raises(ConfigError, match=rf"callbacks\.checkpoint\.{name}=0: it is 1 or more"):
        Checkpoints(tmp_path, **{name: 0})


def test_another_plugin_for_checkpoints_is_refused(fit, make_trainer):
    with pytest.raises(ConfigError, match=r"trainer\.plugins has a AsyncCheckpointIO"):
        fit(plugins=[AsyncCheckpointIO()])


# A disk that refuses.


class Disk(L.Callback):
    """Refuses to give checkpoints their names while the run is between two steps."""

    def __init__(self, monkeypatch, full):
        self.full, self.step, rename = full, 0, os.replace

        def replace(source, target):
            if self.step in self.full and str(target).endswith(".ckpt"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rename(source, target)

        monkeypatch.setattr(durable.os, "replace", replace)

    def on_train_batch_start(self, trainer, *_):
        # Before the next step begins, the one before must be on the disk.
        trainer.strategy.checkpoint_io.wait()
        self.step = trainer.global_step + 1


@pytest.mark.fault("F6")
@pytest.mark.parametrize("asynchronous", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_best_checkpoint_that_was_not_written_is_no_best(fit, folder, monkeypatch, asynchronous):
    keep = {"monitor": "score", "mode": "max", "keep_last": 1, "asynchronous": asynchronous}
    trainer = fit(Disk(monkeypatch, full={12}), Scores(0.3, 0.9, 0.2, 0.5), max_epochs=4, keep=keep)
    assert steps(folder) == [24]
    best = trainer.checkpoint_callback
    assert (Path(best.best_model_path).name, float(best.best_model_score)) == (
        "epoch_003.ckpt",
        0.5,
    )
    with_third = fit(
        Disk(monkeypatch, full={12}),
        Scores(0.3, 0.9, 0.2),
        max_epochs=3,
        keep=keep,
        place=folder.parent / "three",
    )
    assert kept(folder.parent / "three") == ["epoch_002.ckpt", "epoch_000.ckpt"]
    assert Path(with_third.checkpoint_callback.best_model_path).name == "epoch_000.ckpt"


@pytest.mark.fault("F6")
@pytest.mark.parametrize("asynchronous", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_too_many_in_a_row_end_the_run_and_the_last_good_one_is_gone_on_from(
    fit, folder, monkeypatch, asynchronous
):
    keep = {"every_n_train_steps": 1, "max_failures": 3, "asynchronous": asynchronous}
    options = {"max_epochs": 2, "limit_val_batches": 0}
    full = {2, 3, 5, 6, 7, 8}
    with pytest.raises(DiskError, match=r"step_00000007\.ckpt could not be written"):
        fit(Disk(monkeypatch, full), keep=keep, **options)
    assert steps(folder) == [4, 1]
    full.clear()
    found = find_checkpoint("auto", folder.parent, folder / "no others")
    assert verify(found).step == 4
    resumed = fit(Disk(monkeypatch, full), keep=keep, go_on_from=found, **options)
    whole = fit(keep=keep, place=folder.parent / "whole", **options)
    assert same(weights(whole), weights(resumed))


@pytest.mark.fault("F6")
def test_what_a_full_disk_refuses_from_the_first_is_no_path(fit, folder, monkeypatch):
    class Ask(L.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step in (2, 4):
                found.append(trainer.checkpoint_callback.save_now(trainer))

    found = []
    fit(Disk(monkeypatch, full={2}), Ask(), max_epochs=1)
    assert found == [None, str(folder / "step_00000004.ckpt")]


class Cut(L.Callback):
    """Writes a checkpoint at the end of the last step, before the validation that follows it."""

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == trainer.max_steps:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / "cut.ckpt")


@pytest.mark.fault("F6")
@pytest.mark.parametrize("full", [False, True])
def test_a_validation_that_was_all_there_was_to_do_leaves_what_can_be_read(
    fit, folder, tmp_path, monkeypatch, full
):
    options = {"max_steps": 6, "max_epochs": -1, "keep": {"monitor": "score", "mode": "max"}}
    fit(ResumePoint(), Cut(), Scores(0.5), **options)
    shutil.rmtree(folder)
    disk = Disk(monkeypatch, full={0} if full else {})  # no step comes
    trainer = fit(ResumePoint(), disk, Scores(0.5), go_on_from=tmp_path / "cut.ckpt", **options)
    best = trainer.checkpoint_callback.best_model_path
    assert best == ("" if full else str(folder / "epoch_000.ckpt"))
    assert steps(folder) == ([] if full else [6])


@pytest.mark.slow
@pytest.mark.fault("F1")
def test_at_no_moment_is_there_no_whole_checkpoint(fit, folder, monkeypatch):
    """Looked at before each change of a name in the folder, and after."""
    moments = []

    def watched(change):
        def call(*args, **options):
            had = any(moments)
            change(*args, **options)
            found = folder.is_dir() and newest_whole(folder) is not None
            moments.append(found)
            assert found or not had
            last = folder / "last.ckpt"
            assert not last.is_symlink() or verify(last) is not None

        return call

    monkeypatch.setattr(durable.os, "replace", watched(os.replace))
    monkeypatch.setattr(Path, "unlink", watched(Path.unlink))
    keep = {"monitor": "score", "every_n_train_steps": 2, "keep_last": 1, "asynchronous": False}
    fit(Scores(0.5, 0.9, 0.4), max_epochs=3, keep=keep)
    assert len(moments) > 40


def test_an_error_elsewhere_waits_for_the_checkpoint_and_stays_the_error(fit, folder, monkeypatch):
    class Fail(L.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 2:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(Fail(), max_epochs=1, keep={"every_n_train_steps": 2})
    assert steps(folder) == [2]


def test_what_others_ask_for_is_on_the_disk_at_once_and_once(fit, folder):
    class Ask(L.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step in (3, 4):
                trainer.checkpoint_callback.save_now(trainer)
                found.append(steps(folder))
                trainer.checkpoint_callback.save_now(trainer)

    found = []
    fit(Ask(), max_epochs=1, keep={"every_n_train_steps": 2})
    assert found == [[3, 2], [4, 3]]


@pytest.mark.slow
def test_a_killed_run_s_leftovers_are_gone_when_it_goes_on(fit, folder):
    fit(max_epochs=1)
    for name in (".epoch_000.ckpt.99-0123abcd.tmp", ".epoch_000.ckpt.json.99-0123abcd.tmp"):
        (folder / name).touch()
    (folder / "step_00000002.ckpt.json").write_text("{}")
    (folder / ".mine.tmp").touch()
    fit(max_epochs=2, go_on_from=newest_whole(folder))
    (folder / ".mine.tmp").unlink()  # is left alone
    assert kept(folder) == ["epoch_001.ckpt", "epoch_000.ckpt"]


@pytest.mark.slow
@pytest.mark.fault("F26")
def test_averages_are_not_taken_for_the_weights(fit, folder):
    fit(AveragedWeights(decay=0.9), max_epochs=1)
    found = newest_whole(folder)
    said = r"averages of the weights \(EMA\).*current_model_state.*callbacks=\[…,ema\]"
    with (
        pytest.raises(CheckpointError, match=said),
        pytest.warns(UserWarning, match="callbacks used to create the checkpoint"),
    ):
        fit(max_epochs=2, go_on_from=found)
    fit(AveragedWeights(decay=0.9), max_epochs=2, go_on_from=found)
    assert steps(folder) == [12, 6]
