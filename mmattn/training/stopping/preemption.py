"""A run that is asked to stop saves where it is and ends, and can be gone on from exactly."""

import logging
import signal
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mmattn.training.checkpoints.callback import Checkpoints
from mmattn.training.checkpoints.io import wait_for
from mmattn.training.checkpoints.moments import is_trial
from mmattn.training.checkpoints.resume_point import begin_validation_again, pass_over_validation
from mmattn.training.parts import callbacks_of
from mmattn.training.stopping.stop_agreement import StopAgreement
from mmattn.training.stopping.stop_request import REQUEST, Stopped, StopRequest

log = logging.getLogger(__name__)


class Preemption(L.Callback):
    """Ends training at the next step after a signal, with a checkpoint that resumes it exactly.

    `StopRequest` says which signals; with several ranks any of them may get one, and all stop at
    the same step. A validation is given up, and done again as a whole by the run that goes on.
    Stands before all callbacks that measure or draw, as they would half a validation.

    Args:
        dirpath: the folder of checkpoints, where `last.ckpt` is written.
        requeue: after SIGUSR1 in a SLURM job, have the job put back into the queue when all that
            is to be ended has ended (`requeued_at_end`).
        request: what this process was asked; None for the process's own.
    """

    def __init__(self, dirpath: str, *, requeue: bool = False, request: StopRequest | None = None):
        self.path = Path(dirpath) / "last.ckpt"
        self.requeue = requeue
        self.request = request or REQUEST
        self._agreement: StopAgreement | None = None
        self._between = False  # an iteration ends, and its step can be gone on from
        self._validating = self._validated = self._swapped = self._saving = False

    @property
    def agreement(self) -> StopAgreement:
        """How the ranks agree to stop; there from the start of training."""
        assert self._agreement is not None
        return self._agreement

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Take Lightning's own handling of signals out of the way."""
        setattr(trainer, "_signal_connector", _Signals(trainer, self))  # noqa: B010
        # A broadcast and a wait for it in every step, to hear of a signal to rank 0.
        setattr(trainer.fit_loop.epoch_loop, "_broadcast_sigterm_tensor", _nothing)  # noqa: B010

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here on a signal is seen to at the next step."""
        timeout = getattr(trainer.strategy, "_timeout", None)  # of those with several ranks
        self._agreement = StopAgreement(self.request, trainer.world_size, timeout)
        self.request.deferred = True
        if trainer.world_size == 1:
            self.request.check()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Leave the place between two steps."""
        self._between = self._validated = False

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Ask the other ranks, and let Lightning end the iteration and log it before a stop.

        Gradients that are being accumulated are in no checkpoint, so it must be the end of a step.
        The last batch of an epoch is left to the next epoch's first, or to the end of training.
        """
        last = trainer.is_last_batch
        stepped = last or (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped:
            self.agreement.after_step()
        self._between = stepped and not last

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Do not begin a validation that would be given up."""
        if self._fits(trainer):
            self._validating = True
            if self.agreement.known:
                raise Stopped(self._signal())

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note that averaged weights take the place of the model's own after this."""
        self._swapped = self._fits(trainer)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object, **more: object
    ) -> None:
        """Give up the validation where any rank was asked to stop, as far as this one knows.

        Lightning then goes on to the end of the validation, as the other ranks do: there they meet.
        """
        if self._fits(trainer) and self.agreement.rumoured():
            raise StopIteration

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop, all ranks together, before anything is made of half a validation."""
        if self._fits(trainer):
            if self.agreement.at_once():
                raise Stopped(self._signal())
            self._swapped = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Training goes on."""
        self._validating, self._validated = False, True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop where the signal came with the last step; else signals end the program again."""
        if self.agreement.at_once():
            raise Stopped(self._signal())
        self.request.deferred = self._between = False
        self.request.check()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Save where training stopped because of a signal."""
        if not self.request.deferred or not isinstance(exception, SIGTERMException | Stopped):
            self.request.deferred = False
            return
        path = self._save(trainer, pl_module)
        exception.code = self._exit_code(trainer)
        if trainer.is_global_zero:
            log.warning(
                "stopped by %s after step %d%s",
                *(
                    Stopped(self._signal()),
                    trainer.global_step,
                    f": ckpt_path=auto in this run directory goes on from {path}" if path else "",
                ),
            )
            warned = self._signal() == getattr(signal, "SIGUSR1", None)
            self.request.requeues = self.requeue and warned

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the run that goes on find its place, also where Lightning would miss it."""
        if not self._saving:
            return
        if self._validating:
            begin_validation_again(checkpoint)
        elif self._between and self._validated:
            pass_over_validation(checkpoint)

    def stops_here(self) -> bool:
        """Whether Lightning is to end `fit` at the end of this iteration."""
        return self._between and self.agreement.known

    def _fits(self, trainer: L.Trainer) -> bool:
        """Whether this is a validation of training: not one by itself, nor a first check."""
        return self._agreement is not None and self.request.deferred and not trainer.sanity_checking

    def _signal(self) -> int:
        assert self.request.signal is not None
        return self.request.signal

    def _save(self, trainer: L.Trainer, pl_module: L.LightningModule) -> str | Path | None:
        """Write a checkpoint, whole, before the program ends; return its path. None of a trial."""
        if is_trial(trainer):
            return None
        for callback in callbacks_of(trainer):
            if self._swapped and isinstance(callback, WeightAveraging):
                callback.on_validation_epoch_end(trainer, pl_module)  # gives the weights back
            if isinstance(callback, ModelCheckpoint) and callback.save_last:
                callback.last_model_path = str(self.path)  # else it would take another name
        self._saving = True
        for callback in callbacks_of(trainer):
            if isinstance(callback, Checkpoints):  # keeps an account of what it writes
                return callback.save_now(trainer)
        trainer.save_checkpoint(self.path, False)  # not the weights alone
        wait_for(trainer)
        return self.path

    def _exit_code(self, trainer: L.Trainer) -> int:
        """Return the exit code; 0 for a process that Lightning started beside this program's own.

        Lightning kills all processes when one of those ends with anything else, and rank 0, whose
        exit code counts, may not have ended yet.
        """
        environment = getattr(trainer.strategy, "cluster_environment", None)
        started = isinstance(environment, LightningEnvironment) and trainer.local_rank > 0
        return 0 if started else 128 + self._signal()


class _Signals:
    """Stands where Lightning's own signal handlers would be: those take part in collectives."""

    def __init__(self, trainer: L.Trainer, preemption: Preemption):
        self._trainer, self._preemption = trainer, preemption

    @property
    def received_sigterm(self) -> bool:
        """Lightning asks at the end of each iteration, and in validation after each batch."""
        return not self._trainer.validating and self._preemption.stops_here()

    def register_signal_handlers(self) -> None:
        """Do nothing: `StopRequest` has the signals."""

    def teardown(self) -> None:
        """Do nothing."""


def _nothing() -> None:
    """Do nothing."""
