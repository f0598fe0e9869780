"""The last thing that training does: the run's best weights become a model folder."""

import logging
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from torch import Tensor

from mmattn.bundle import Bundle, ClassifierBundle
from mmattn.cli.model_of_run import trained_on
from mmattn.cli.plain_command import file_trouble
from mmattn.data.label_module import LabelDataModule
from mmattn.data.module import CaptionDataModule
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.split_module import SplitDataModule
from mmattn.errors import ConfigError, UserError
from mmattn.model_folder.format import write_folder
from mmattn.model_folder.recognise import RUN_MODEL
from mmattn.tasks.captioning import CaptioningTask
from mmattn.tasks.classification import ClassificationTask
from mmattn.tasks.task import Task
from mmattn.training.checkpoints.finding import load_weights

log = logging.getLogger(__name__)


def save_model(
    task: Task,
    data: SplitDataModule,
    folder: Path,
    *,
    best: Path | None = None,
    results: Mapping[str, float | Tensor] | None = None,
) -> None:
    """Write the model folder of a run directory; what hinders it is warned of and stops nothing.

    Args:
        task: whose model it is.
        data: what it was trained on.
        folder: the run directory.
        best: the checkpoint of the best weights, where the task does not have them yet.
        results: what was measured of these weights.
    """
    place = folder / RUN_MODEL
    try:
        if best is not None:
            load_weights(task, best)
        measured = {name: float(value) for name, value in (results or {}).items()}
        write_folder(bundle_of(task, data), place, results=measured)
    except (UserError, OSError) as error:
        reason = file_trouble(error) if isinstance(error, OSError) else error
        log.warning(
            "%s was not written: %s. The checkpoints hold the model all the same; where that is "
            "mended, `mmattn import %s DEST` writes it",
            *(place, reason, quote(str(folder))),
        )
    else:
        log.info("the model is in %s", place)


def bundle_of(task: Task, data: SplitDataModule) -> Bundle | ClassifierBundle:
    """Return a task's model with its tokenizer and preprocessing, a classifier with its classes.

    Raises:
        ConfigError: where the evaluation transform is more than plain values can say, and for a
            model of another kind.
    """
    if isinstance(task, CaptioningTask) and isinstance(data, CaptionDataModule):
        return Bundle(
            model=task.model,
            tokenizer=task.tokenizer,
            preprocessing=preprocessing_of(data),
            max_length=data.max_length,
            source=trained_on(type(data.source).__name__),
        )
    if isinstance(task, ClassificationTask) and isinstance(data, LabelDataModule):
        return ClassifierBundle(
            model=task.model,
            tokenizer=None if task.model.text is None else task.tokenizer,
            preprocessing=None if task.model.vision is None else preprocessing_of(data),
            max_length=data.max_length,
            classes=task.classes,
            temperature=task.temperature,
            source=trained_on(type(data.source).__name__),
        )
    raise ConfigError("a model folder holds a captioner, a classifier or a joint model")


def preprocessing_of(data: SplitDataModule) -> Preprocessing:
    """Return what an evaluation does to pictures. Raises ConfigError where values cannot say it."""
    return Preprocessing.of_transform(data.eval_transform, data.image_size)
