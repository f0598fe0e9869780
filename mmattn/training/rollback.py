"""Back to the weights of the last checkpoint, while the data goes on."""

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging

from mmattn.errors import TrainingError
from mmattn.training.checkpoints.callback import Checkpoints
from mmattn.training.checkpoints.files import written
from mmattn.training.parts import callbacks_of


def last_checkpoint(trainer: L.Trainer) -> Path | None:
    """Return the newest checkpoint that this run wrote or began with; None where there is none.

    Every rank calls it, and gets what rank 0 found, once that is whole.
    """
    paths = [trainer.ckpt_path] if trainer.ckpt_path else []
    for callback in callbacks_of(trainer):
        if isinstance(callback, Checkpoints):
            callback.settle(trainer)  # also forgets one that could not be written
            paths += callback.newest[-1:]
        elif isinstance(callback, ModelCheckpoint):
            paths += [callback.last_model_path, callback.best_model_path]
    found = [path for path in map(Path, paths) if path.is_file()]
    return trainer.strategy.broadcast(max(found, key=written, default=None))


def roll_back(trainer: L.Trainer, path: Path) -> None:
    """Give weights, averaged weights and optimiser the state of a checkpoint.

    The step count, the learning rate and the place in the data stay where they are: the batches
    since the checkpoint, the bad one among them, are not seen again. Every rank calls it.

    Raises:
        TrainingError: where the checkpoint holds weights alone.
    """
    strategy, module = trainer.strategy, trainer.lightning_module
    checkpoint = strategy.load_checkpoint(path, weights_only=True)
    if not isinstance(checkpoint.get("optimizer_states"), list):
        raise TrainingError(
            f"{path} holds no optimiser state: callbacks.finite.policy=skip instead"
        )
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers]
    strategy.load_model_state_dict(checkpoint, strict=True)
    strategy.load_optimizer_state_dict(checkpoint)
    for optimizer, own in zip(trainer.optimizers, rates, strict=True):
        for group, rate in zip(optimizer.param_groups, own, strict=True):
            group["lr"] = rate
    for callback in callbacks_of(trainer):
        if isinstance(callback, WeightAveraging):
            callback.on_load_checkpoint(trainer, module, checkpoint)
