"""A run in small: coloured squares with captions, and a model of a few thousand parameters."""

from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger
from torchvision.transforms import v2

from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.classifier import Classifier
from mmattn.data.dataset import Splits
from mmattn.data.label_module import LabelDataModule
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.transforms import ToNormalised
from mmattn.fusion import CrossFusion
from mmattn.patches import LinearPatches
from mmattn.tasks.captioning import CaptioningTask
from mmattn.tasks.classification import ClassificationTask
from mmattn.tasks.losses import LossOptions
from mmattn.tasks.optimisation import WarmupCosine
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

SIDE, HALF = 16, 8
COLOURS = ["red", "green", "blue"]
PLACES = ["top left", "top right", "bottom left", "bottom right"]


class Squares:
    """Picture i: one quarter in one colour. The word "square" has that quarter as its region."""

    def __init__(self, name, length):
        self.name, self.length = name, length

    def __len__(self):
        return self.length

    def key(self, index):
        return f"{self.name}/{index}"

    def captions(self, index):
        return (f"{COLOURS[index % 3]} square {PLACES[index % 4]}", "a square")[: 1 + index % 2]

    def regions(self, index):
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        top, left = divmod(index % 4, 2)
        mask[top * HALF : (top + 1) * HALF, left * HALF : (left + 1) * HALF] = True
        return {"square": mask} if index % 5 else {}

    def image(self, index):
        image = torch.full((3, SIDE, SIDE), 30, dtype=torch.uint8)
        top, left = divmod(index % 4, 2)
        part = image[index % 3, top * HALF : (top + 1) * HALF, left * HALF : (left + 1) * HALF]
        part += 200
        return image


class Source:
    def __init__(self, tests):
        self.tests = tests

    def splits(self):
        tests = {name: Squares(name or "test", 9) for name in self.tests}
        return Splits(Squares("train", 24), Squares("val", 12), tests)


@pytest.fixture
def make_data():
    """Make a data module; `tests` names its test sets."""

    def make(tests=("a", "b"), seed=0, batch_size=4, transform=None):
        normalised = ToNormalised([0.5] * 3, [0.5] * 3)
        return CaptionDataModule(
            source=Source(tests),
            image_size=(SIDE, SIDE),
            train_transform=v2.Compose([v2.RandomCrop(SIDE, padding=2), normalised]),
            eval_transform=transform or normalised,
            tokenizer=TokenizerOptions(path=None, vocab_size=280),
            loader=LoaderOptions(batch_size=batch_size, eval_batch_size=5),
            max_length=16,
            seed=seed,
        )

    return make


@pytest.fixture
def make_task():
    """Make a task for a data module: the same weights each time."""

    def make(data, *, dropout=0.0, patches=None, depth=1, method=None):
        torch.manual_seed(0)
        block = BlockOptions(heads=2, dropout=dropout, attention_dropout=dropout)
        vision = VisionTransformer((SIDE, SIDE), patches or LinearPatches(4, 16), depth, block)
        text = TextTransformer(
            data.tokenizer.vocab_size, 16, depth, block, max_length=16, context_dim=16
        )
        return CaptioningTask(
            Captioner(vision, text),
            data.tokenizer,
            partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1),
            partial(WarmupCosine, warmup=0.1),
            max_length=16,
            test_names=data.test_names,
            cross_entropy=method,
        )

    return make


KINDS = {"colour": "single", "place": "single", "marks": "multi", "answer": "soft", "tags": "words"}


class Squared:
    """The pictures of `Squares` by name, "val/3", as a store of images."""

    def image(self, name):
        return Squares("", 0).image(int(name.split("/")[1]))


def labelled(name, length, heads, *, images, text, lacking):
    """Two questions to each picture, or one example where there is no text.

    The labels of every fourth example are wrong: a trained model makes mistakes that it is sure of.
    """
    examples = []
    for i in range(length):
        colour, other = COLOURS[(i + (i % 4 == 3)) % 3], COLOURS[(i + 1) % 3]
        words = ("which", "colour", "is", "it?")[: 2 + i % 3]
        labels = {
            "colour": colour,
            "place": PLACES[i % 4],
            "marks": (colour, other) if i % 2 else (),
            "answer": {colour: 1.0, other: 0.3},
            "tags": tuple("BI"[j % 2] for j in range(len(words))),
        }
        named = tuple(f"{name}/{(i + j) % length}" for j in range(images))
        for asked in range(2 if text else 1):
            said = words if "tags" in heads else " ".join(words) + "?" * asked
            examples.append(
                Example(
                    f"{name}/{i}/{asked}",
                    {head: labels[head] for head in heads},
                    () if "image" in lacking and i % 3 == 0 else named,
                    None if not text or ("text" in lacking and i % 3 == 1) else said,
                )
            )
    return LabelledSet(examples, Squared() if images else None)


class LabelledSquares:
    def __init__(self, tests, heads, options):
        self.tests, self.heads, self.options = tests, heads, options

    def splits(self):
        specs = {head: HeadSpec(KINDS[head]) for head in self.heads}
        sets = {
            name: labelled(name, length, self.heads, **self.options)
            for name, length in {"train": 16, "val": 9, **dict.fromkeys(self.tests, 6)}.items()
        }
        return LabelledSplits(sets.pop("train"), sets.pop("val"), sets, specs)


@pytest.fixture
def make_label_data():
    """Make labelled squares; `heads` are some of `KINDS`, `lacking` what some examples lack."""

    def make(heads=("colour",), tests=("a", "b"), *, images=1, text=True, lacking=(), **options):
        normalised = options.pop("transform", None) or ToNormalised([0.5] * 3, [0.5] * 3)
        parts = {"images": images, "text": text, "lacking": lacking}
        data = LabelDataModule(
            LabelledSquares(tests, heads, parts),
            (SIDE, SIDE),
            normalised,
            normalised,
            TokenizerOptions(None, 280),
            LoaderOptions(4, 4),
            max_length=30,
            seed=0,
            **options,
        )
        data.read()
        return data

    return make


@pytest.fixture
def make_label_task():
    """Make a classifier of image and text, or of one of them, as the data have them."""

    def make(data, *, images=1, may_miss=None, lr=1e-2, dropout=0.0):
        torch.manual_seed(0)
        block, settings = BlockOptions(heads=2, dropout=dropout), data.model_settings()
        lacking = {"image", "text"} - {*(may_miss or ())} & {*data.lacking()}
        vocabulary = settings["text.vocab_size"]
        parts = {
            "vision": lambda: VisionTransformer((SIDE, SIDE), LinearPatches(4, 16), 1, block),
            "text": lambda: TextTransformer(vocabulary, 16, 1, block, max_length=30, causal=False),
        }
        made = {
            name: make()
            for name, make in parts.items()
            if {"vision": "image"}.get(name, name) not in lacking
        }
        if len(made) == 2:
            made["fusion"] = CrossFusion(16, 1, block)
        model = Classifier(
            settings["heads"],
            word_heads=settings["word_heads"],
            images=images,
            may_miss=may_miss,
            **made,
        )
        return ClassificationTask(
            model,
            optimizer=partial(torch.optim.AdamW, lr=lr),
            scheduler=None,
            loss=LossOptions(),
            **data.task_settings(),
        )

    return make


@pytest.fixture(scope="session")
def weights_without_loggers():
    """Where `trained` keeps the weights that its training has without any logger."""
    return {}


@pytest.fixture
def trained(make_data, make_task, make_trainer, tmp_path, weights_without_loggers):
    """Train with these loggers, guarded; return the weights, the rows of metrics.csv, and the
    weights of the same training without any logger.

    `timeout` is of the guards; `end` is how long they wait at the end, where that is not as long.
    """
    from mmattn.training.loggers.logger_guard import guarded_loggers

    def weights(loggers, timeout, end, table):
        torch.manual_seed(0)
        data = make_data()
        task = make_task(data)
        trainer = make_trainer(
            *(logger for logger in loggers if isinstance(logger, Callback)),
            logger=[*(logger for logger in loggers if isinstance(logger, Logger)), *table],
            default_root_dir=tmp_path,
            limit_train_batches=3,
            limit_val_batches=1,
            max_epochs=2,
        )
        with guarded_loggers(trainer, {"seed": 0}, timeout) as guards:
            trainer.fit(task, datamodule=data)
            for guard in guards:
                guard._patience = end or guard._patience
        return {name: value.tolist() for name, value in task.state_dict().items()}

    def train(*loggers, timeout=60.0, end=None):
        if not weights_without_loggers:
            weights_without_loggers.update(weights([], timeout, end, []))
        figures = tmp_path / "figures"
        own = any(isinstance(logger, CSVLogger) for logger in loggers)
        csv = [] if own else [CSVLogger(figures, "", "")]
        found = weights(loggers, timeout, end, csv)
        path = figures / "metrics.csv"
        rows = path.read_text().splitlines() if path.exists() else []
        return found, rows, weights_without_loggers

    return train
