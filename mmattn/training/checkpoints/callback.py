"""Which checkpoints a run writes and which it keeps: the newest, to go on from, and the best."""

import logging
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any
from weakref import proxy

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from mmattn.errors import ConfigError
from mmattn.training.checkpoints.files import clean_folder
from mmattn.training.checkpoints.io import CheckpointFiles, files_of, finished
from mmattn.training.checkpoints.moments import due, is_trial, validation_follows
from mmattn.training.checkpoints.resumed_state import check_averages, moved

log = logging.getLogger(__name__)
STEP_NAME = "step_{step:08d}"


class Checkpoints(ModelCheckpoint):
    """Writes a checkpoint after each validation, every so many steps, and at the run's last step.

    Those of validations compete by the monitored metric; every one, also those that never had a
    metric, is something to go on from. The newest `keep_last` and the best `save_top_k` are kept,
    and an older one goes only when the next is safe on the disk: see `CheckpointFiles`, which this
    callback gives to the trainer. `last.ckpt` is a link to the newest.

    A step on which a validation follows is written after it: Lightning would leave the validation
    out of a run that goes on from before.

    Args:
        dirpath: the folder, which nothing else writes to.
        filename: of checkpoints of validations; {epoch}, {step} and {<metric>} are filled in. All
            others are called step_<step>.
        monitor: the metric that says which is the best; None: the newest is.
        mode: whether the best is the greatest ("max") or the smallest ("min").
        save_top_k: how many of the best to keep; -1 for all, also without a metric.
        keep_last: how many of the newest to keep, at least 1; of two, one may be damaged.
        save_last: have the link `last.ckpt`.
        every_n_train_steps: also write one every so many optimiser steps.
        every_n_epochs: also write one at the end of every so many epochs.
        save_weights_only: leave out all but the weights: nothing can go on from these.
        auto_insert_metric_name: write names of metrics into `filename`.
        asynchronous: write in the background.
        max_failures: so many in a row may fail to be written before training stops.
    """

    def __init__(
        self,
        dirpath: str | Path,
        filename: str = "epoch_{epoch:03d}",
        *,
        monitor: str | None = None,
        mode: str = "min",
        save_top_k: int = 1,
        keep_last: int = 2,
        save_last: bool = True,
        every_n_train_steps: int | None = None,
        every_n_epochs: int | None = None,
        save_weights_only: bool = False,
        auto_insert_metric_name: bool = False,
        asynchronous: bool = True,
        max_failures: int = 3,
    ):
        counts = {"keep_last": keep_last, "max_failures": max_failures}
        often = {"every_n_train_steps": every_n_train_steps, "every_n_epochs": every_n_epochs}
        counts |= {name: n for name, n in often.items() if n is not None}
        for name, count in counts.items():
            if count < 1:
                raise ConfigError(f"callbacks.checkpoint.{name}={count}: it is 1 or more")
        super().__init__(
            dirpath,
            filename,
            monitor,
            save_last=save_last,
            save_top_k=save_top_k,
            save_weights_only=save_weights_only,
            mode=mode,
            auto_insert_metric_name=auto_insert_metric_name,
            save_on_train_epoch_end=False,
        )
        self.keep_last = keep_last
        self.every_steps, self.every_epochs = every_n_train_steps, every_n_epochs
        self.asynchronous, self.max_failures = asynchronous, max_failures
        self.newest: list[str] = []  # paths, the oldest first
        self.steps: dict[str, int] = {}  # of every path that is kept
        self._files: CheckpointFiles | None = None
        self._step = 0  # of the batch before
        self._before: dict[str, Any] | None = None  # the state without the save in progress

    @property
    def state_key(self) -> str:
        """What this callback's state is called in a checkpoint: as Lightning's own was, before."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    # What Lightning calls.

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Take over reading and writing; remove what a killed process left unfinished."""
        self.dirpath = trainer.strategy.broadcast(self.dirpath)
        self._files = files_of(trainer, self.asynchronous, self.max_failures)
        if stage == "fit" and trainer.is_global_zero:
            try:
                clean_folder(Path(str(self.dirpath)))
            except OSError as error:
                log.warning("%s: leftovers stay there: %s", self.dirpath, error)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note where the run begins, or goes on."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Write a checkpoint where one is due; between accumulated batches none is."""
        stepped = trainer.global_step != self._step
        self._step = trainer.global_step
        if not stepped or is_trial(trainer) or validation_follows(trainer):
            return
        if due(trainer, self.every_steps, self.every_epochs):
            self._save(trainer, STEP_NAME)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write a checkpoint that competes with the best."""
        idle = trainer.sanity_checking or is_trial(trainer)
        if trainer.state.fn == TrainerFn.FITTING and not idle:
            self._save(trainer, str(self.filename), scored=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Do nothing: Lightning cannot resume exactly from here when max_steps is set."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait for what is being written: after this it is read."""
        self.settle(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait, too, where nothing was left to learn but a last validation: see `ResumePoint`."""
        self.settle(trainer)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Let what is being written be finished, without hiding what went wrong."""
        try:
            if self._files is not None:
                self._files.wait()
        except Exception as error:
            if error is not exception:
                log.warning("while the run ended: %s", error)

    def state_dict(self) -> dict[str, Any]:
        """Return what a run that goes on needs to know: plain values and 0-d tensors."""
        return {**super().state_dict(), "newest": self.newest, "steps": self.steps}

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a run go on in a folder that was moved: its checkpoints are where this one is.

        Raises:
            CheckpointError: where the averages of weights (EMA) would be taken for the weights.
        """
        check_averages(trainer, checkpoint)
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        folder = Path(str(self.dirpath))
        if state and trainer.ckpt_path and Path(trainer.ckpt_path).resolve().parent == folder:
            checkpoint["callbacks"][self.state_key] = moved(state, folder)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state; of one from another folder only the best checkpoint's path."""
        super().load_state_dict(state_dict)
        if state_dict.get("dirpath") == self.dirpath:
            self.newest = list(state_dict.get("newest", []))
            # Older versions did not say of which steps their best checkpoints were.
            unknown = dict.fromkeys(self.best_k_models, -1)
            self.steps = unknown | state_dict.get("steps", {})

    # What others may call.

    def save_now(self, trainer: L.Trainer) -> str | None:
        """Write a checkpoint unless this optimiser step has one; return the newest's path.

        Once it is safe: where the disk refuses it that is the one before, or None if there is none.
        All ranks call this together, after a batch that made a step.

        Raises:
            DiskError: where too many in a row could not be written.
        """
        self.settle(trainer)
        if trainer.global_step not in self.steps.values():
            self._save(trainer, STEP_NAME)
        self.settle(trainer)
        return self.newest[-1] if self.newest else None

    def settle(self, trainer: L.Trainer) -> None:
        """Wait for the checkpoint that is being written; if it failed, be as if it never was.

        All ranks call this together, for they must agree on what there is.

        Raises:
            DiskError: where too many in a row could not be written.
        """
        assert self._files is not None
        outcome = finished(self._files) if trainer.is_global_zero else (False, None)
        failed, error = trainer.strategy.broadcast(outcome)
        before, self._before = self._before, None
        if before is not None and failed:
            vars(self).update(before)
        if error is not None:
            raise error
        if before is not None and not failed and trainer.is_global_zero:
            for logger in trainer.loggers:  # which may read it
                logger.after_save_checkpoint(proxy(self))

    # How it is done.

    def _save(self, trainer: L.Trainer, name: str, *, scored: bool = False) -> None:
        """Write a checkpoint of this moment, and remove those that are no longer wanted."""
        self.settle(trainer)
        self._before = self._kept()
        had = set(self.steps)
        metrics = metrics_of(trainer)
        path = self._free_path(name, metrics)
        if scored and self.monitor is not None:
            self._compete(trainer, path, metrics)
        self._enter(path, trainer.global_step)
        trainer.save_checkpoint(path, self.save_weights_only)
        if self.save_last and trainer.is_global_zero:
            assert self._files is not None
            self._files.link_checkpoint(path, self.last_model_path)
        for old in sorted(had - set(self.steps)):
            trainer.strategy.remove_checkpoint(old)
        if not self.asynchronous:
            self.settle(trainer)

    def _kept(self) -> dict[str, Any]:
        """Return the attributes that a save changes, to come back to."""
        names = ["newest", "steps", "best_k_models", "best_model_path", "best_model_score"]
        names += ["current_score", "kth_best_model_path", "kth_value", "last_model_path"]
        return {name: copy(getattr(self, name)) for name in names}

    def _free_path(self, name: str, metrics: dict[str, Tensor]) -> str:
        """Return a path that no other checkpoint of the run has."""
        step, version = int(metrics["step"]), 0
        path = self.format_checkpoint_name(metrics, name)
        while self.steps.get(path, step) != step:
            version += 1
            path = self.format_checkpoint_name(metrics, name, ver=version)
        return path

    def _compete(self, trainer: L.Trainer, path: str, metrics: Mapping[str, Tensor]) -> None:
        """Enter a checkpoint among the best if it is one of them.

        Raises:
            ConfigError: where validation does not log the monitored metric.
        """
        score = metrics.get(str(self.monitor))
        if score is None:
            raise ConfigError(
                f"callbacks.checkpoint.monitor={self.monitor}: could not find the monitored key; "
                f"what is logged is {', '.join(sorted(metrics))}"
            )
        worst = torch.tensor(float("-inf" if self.mode == "max" else "inf"))
        self.current_score = score = worst if score.isnan() else score.detach().cpu().clone()
        if self.save_top_k == 0 or not self.check_monitor_top_k(trainer, score):
            return
        self.best_k_models[path] = score
        order = sorted(
            self.best_k_models,
            key=lambda of: float(self.best_k_models[of]),
            reverse=self.mode == "max",
        )
        kept = order if self.save_top_k == -1 else order[: self.save_top_k]
        self.best_k_models = {of: self.best_k_models[of] for of in kept}
        self.best_model_path, self.kth_best_model_path = kept[0], kept[-1]
        self.best_model_score = self.best_k_models[kept[0]]
        self.kth_value = self.best_k_models[kept[-1]]

    def _enter(self, path: str, step: int) -> None:
        """Enter a checkpoint as the newest; forget those that are neither new nor good enough."""
        newest = [*(of for of in self.newest if of != path), path]
        everything = self.monitor is None and self.save_top_k == -1
        self.newest = newest if everything else newest[-self.keep_last :]
        if self.monitor is None:
            self.best_model_path = path
        if self.save_last:
            self.last_model_path = str(Path(str(self.dirpath)) / "last.ckpt")
        kept = {*self.newest, *self.best_k_models}
        self.steps = {of: s for of, s in {**self.steps, path: step}.items() if of in kept}


def metrics_of(trainer: L.Trainer) -> dict[str, Tensor]:
    """Return the metrics that may stand in a name, `epoch` and `step` among them."""
    place = {"epoch": trainer.current_epoch, "step": trainer.global_step}
    return {**trainer.callback_metrics, **{name: torch.tensor(n) for name, n in place.items()}}
