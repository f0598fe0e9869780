"""Writes schema_<n>.pt: what a run of this version saves in the middle of an epoch, very small.

    PYTHONPATH=. python tests/training/checkpoints/make_schema_fixture.py

Run once for each released schema, with the version that writes it, and never again: the file shows
that today's code still reads what that version wrote. The model is a classifier of pictures of
8 x 8 pixels with one layer of width 4, after two of three steps of AdamW.
"""

from functools import partial
from pathlib import Path

import lightning as L
import torch

from mmattn.blocks import BlockOptions
from mmattn.classifier import Classifier
from mmattn.data.label_module import LabelDataModule
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.module import LoaderOptions, TokenizerOptions
from mmattn.data.transforms import ToNormalised
from mmattn.patches import LinearPatches
from mmattn.tasks.classification import ClassificationTask
from mmattn.tasks.losses import LossOptions
from mmattn.tasks.migrations import SCHEMA
from mmattn.training.step_seed import StepSeed
from mmattn.vision import VisionTransformer

SIZE, STEPS, SAVED = (8, 8), 3, 2
NAMES = ("dark", "light")


class Shades:
    """Pictures of one colour: "dark/3" and "light/3"."""

    def image(self, name):
        shade, number = name.split("/")
        value = 150 * (shade == "light") + 10 * int(number)
        return torch.full((3, *SIZE), value, dtype=torch.uint8)

    def splits(self):
        names = [f"{shade}/{i}" for i in range(3) for shade in NAMES]
        examples = [Example(name, {"shade": name.split("/")[0]}, (name,), None) for name in names]
        sets = [LabelledSet(examples, self) for _ in range(2)]
        return LabelledSplits(*sets, {}, {"shade": HeadSpec("single")})


def make_data():
    """Return the data: three batches of two pictures."""
    normalised = ToNormalised([0.5] * 3, [0.5] * 3)
    data = LabelDataModule(
        Shades(),
        SIZE,
        normalised,
        normalised,
        TokenizerOptions(None, 280),
        LoaderOptions(2, 2),
        max_length=8,
        seed=0,
    )
    data.read()
    return data


def make_task(data):
    """Return the task, with the weights of seed 0."""
    torch.manual_seed(0)
    vision = VisionTransformer(SIZE, LinearPatches(4, 4), 1, BlockOptions(heads=1))
    return ClassificationTask(
        Classifier(data.model_settings()["heads"], vision=vision),
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        scheduler=None,
        loss=LossOptions(),
        **data.task_settings(),
    )


def make_trainer(*callbacks, **options):
    """Return a trainer of one epoch that writes nothing."""
    return L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=[StepSeed(0), *callbacks],
        **options,
    )


def scores(task, data):
    """Return the scores of all pictures, [6, 2]."""
    batch = data.evaluation_batch(data.splits.val, range(6))
    with torch.no_grad():
        return task.eval().model(batch)["shade"]


class Save(L.Callback):
    """Writes the file after two steps, with the scores of that moment as a further entry."""

    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.global_step == SAVED:
            content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            content["scores"] = scores(pl_module, trainer.datamodule)
            pl_module.train()
            torch.save(content, Path(__file__).with_name(f"schema_{SCHEMA}.pt"))


if __name__ == "__main__":
    data = make_data()
    make_trainer(Save()).fit(make_task(data), datamodule=data)
