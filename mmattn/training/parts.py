"""The parts of a trainer as what they are: Lightning only knows their base classes, if at all."""

from dataclasses import replace

import lightning as L
from torch import nn

from mmattn.batch import CaptionBatch
from mmattn.data.label_module import LabelDataModule
from mmattn.data.module import CaptionDataModule
from mmattn.tasks.captioning import CaptioningTask
from mmattn.tasks.classification import ClassificationTask
from mmattn.tasks.task import Task
from mmattn.training.pictures.probes import Probe


def callbacks_of(trainer: L.Trainer) -> list[L.Callback]:
    """Return the trainer's callbacks: Lightning gives it the attribute without declaring it."""
    return getattr(trainer, "callbacks")  # noqa: B009


def captioning_task(module: L.LightningModule) -> CaptioningTask:
    """Return the task. Raises TypeError where a callback meets another one."""
    if not isinstance(module, CaptioningTask):
        raise TypeError(f"this callback works with a CaptioningTask, not a {type(module).__name__}")
    return module


def classification_task(module: L.LightningModule) -> ClassificationTask:
    """Return the task. Raises TypeError where a callback meets another one."""
    if not isinstance(module, ClassificationTask):
        raise TypeError(
            f"this callback works with a ClassificationTask, not {type(module).__name__}"
        )
    return module


def learning_model(module: L.LightningModule) -> nn.Module:
    """Return the model of any task. Raises TypeError for a module that is none of ours."""
    if not isinstance(module, Task):
        raise TypeError(f"this callback works with a Task, not a {type(module).__name__}")
    return module.model


def caption_data(trainer: L.Trainer) -> CaptionDataModule:
    """Return the trainer's data. Raises TypeError where it has other data or none."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, CaptionDataModule):
        raise TypeError(f"this callback works with a CaptionDataModule, not {type(data).__name__}")
    return data


def label_data(trainer: L.Trainer) -> LabelDataModule:
    """Return the trainer's data. Raises TypeError where it has other data or none."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, LabelDataModule):
        raise TypeError(f"this callback works with a LabelDataModule, not {type(data).__name__}")
    return data


def probe_batch(task: CaptioningTask, data: CaptionDataModule, probe: Probe) -> CaptionBatch:
    """Return a probe's images and captions where the weights are, and in their type.

    `task.device` would not do: Lightning sets it before it moves the weights there.
    """
    weights = next(task.model.parameters())
    batch = data.evaluation_batch(probe.dataset, probe.indices).to(weights.device)
    return replace(batch, images=batch.images.to(weights.dtype))
