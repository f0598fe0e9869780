"""When a checkpoint is written."""

import lightning as L


def is_trial(trainer: L.Trainer) -> bool:
    """Whether this is a run of a few batches of which nothing is kept."""
    return bool(getattr(trainer, "fast_dev_run"))  # noqa: B009 (set without being declared)


def due(trainer: L.Trainer, every_steps: int | None, every_epochs: int | None) -> bool:
    """Whether a checkpoint is wanted after this step, besides those of validations."""
    step, epochs = trainer.global_step, trainer.current_epoch + 1
    if trainer.should_stop or step == trainer.max_steps:
        return True
    if every_steps is not None and step % every_steps == 0:
        return True
    if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
        return False
    return epochs == trainer.max_epochs or (every_epochs is not None and epochs % every_epochs == 0)


def validation_follows(trainer: L.Trainer) -> bool:
    """Whether a validation comes before the next batch: Lightning asks itself the same, later."""
    loop = trainer.fit_loop
    return loop._data_fetcher is not None and loop.epoch_loop._should_check_val_fx(
        loop._data_fetcher
    )
