"""The temperatures of a trained classifier: how sure it may be, fitted to its validation set."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from lightning.pytorch.utilities import move_data_to_device
from torch import Tensor

from mmattn.batch import LabelBatch
from mmattn.data.order import stable_hash
from mmattn.errors import DataError
from mmattn.metrics.calibration import confidences, expected_calibration_error
from mmattn.metrics.label_metric import LabelMetric
from mmattn.metrics.label_scores import label_scores
from mmattn.metrics.temperature import fit_temperature
from mmattn.tasks.classification import ClassificationTask

log = logging.getLogger(__name__)


class Calibrated(NamedTuple):
    """A head's temperature, and the calibration error that is left with it."""

    temperature: float
    error: float


def fit_temperatures(
    task: ClassificationTask, batches: Iterable[LabelBatch], device: torch.device | str
) -> dict[str, Calibrated]:
    """Fit a temperature to every head that gives an example one class (Guo et al. 2017).

    A head of which the set has no label, or the model no finite scores, is left out with a warning.
    One that is right about all of them keeps 1: nothing there says how often it will be wrong, and
    the fit would make it sure of everything.

    Args:
        task: with the weights that are to be used.
        batches: of validation examples; in each of several processes its share.
        device: where the model computes.
    """
    kept = {}
    for head, rows in validation_rows(task, batches, device).items():
        logits, targets = rows["logits"], rows["targets"]
        right = bool((logits.argmax(-1) == targets).all())
        named = bool((targets >= 0).any())  # no temperature makes another label probable
        temperature = fit_temperature(logits, targets) if named and not right else 1.0
        sure, correct = confidences(logits / temperature, targets)
        kept[head] = Calibrated(temperature, expected_calibration_error(sure, correct))
    return kept


@torch.no_grad()
def validation_rows(
    task: ClassificationTask, batches: Iterable[LabelBatch], device: torch.device | str
) -> dict[str, dict[str, Tensor]]:
    """Return logits [N, C] and targets [N] of every single-label head that has labels.

    Every example counts once, and every process gets them all.
    """
    single = {head: each for head, each in task.classes.items() if each.kind == "single"}
    scores = {head: label_scores(each.kind, each.names) for head, each in single.items()}
    before, training = next(task.model.parameters()).device, task.model.training
    task.model.to(device).eval()
    try:
        for batch in batches:
            add(scores, task, move_data_to_device(batch, torch.device(device)))
    finally:
        task.model.to(before).train(training)
    found = {}
    for head, metric in scores.items():
        try:
            found[head] = metric.examples()
        except DataError as error:  # in all processes alike, for they have the same examples
            log.warning("the head %r has no temperature: %s", head, error)
    return found


def add(scores: dict[str, LabelMetric], task: ClassificationTask, batch: LabelBatch) -> None:
    """Add a batch's scores to those of each head."""
    if batch.images is not None:  # the weights may be of half precision
        dtype = next(task.model.parameters()).dtype
        batch = replace(batch, images=batch.images.to(dtype))
    found = task.model(batch)
    keys = torch.tensor([stable_hash(key) for key in batch.keys])
    for head, metric in scores.items():
        metric.to(found[head].device)
        metric.update(keys, found[head].float(), batch.targets[head])


def temperature_figure(head: str, heads: Sequence[str]) -> str:
    """Return what a run's results call the temperature of one of its heads."""
    return "model/temperature" if len(heads) == 1 else f"model/{head}/temperature"


def error_figure(head: str, heads: Sequence[str]) -> str:
    """Return what a run's results call the calibration error that is left with it."""
    return "val/ece_calibrated" if len(heads) == 1 else f"val/{head}/ece_calibrated"
