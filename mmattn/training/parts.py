"""The task and the data of a trainer, as what they are: Lightning only knows their base classes."""

import lightning as L

from mmattn.data.module import CaptionDataModule
from mmattn.tasks.captioning import CaptioningTask


def captioning_task(module: L.LightningModule) -> CaptioningTask:
    """Return the task. Raises TypeError where a callback meets another one."""
    if not isinstance(module, CaptioningTask):
        raise TypeError(f"this callback works with a CaptioningTask, not a {type(module).__name__}")
    return module


def caption_data(trainer: L.Trainer) -> CaptionDataModule:
    """Return the trainer's data. Raises TypeError where it has other data or none."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, CaptionDataModule):
        raise TypeError(f"this callback works with a CaptionDataModule, not {type(data).__name__}")
    return data
