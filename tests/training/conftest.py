"""A run in small: coloured squares with captions, and a model of a few thousand parameters."""

from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.data.dataset import Splits
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.transforms import ToNormalised
from mmattn.patches import LinearPatches
from mmattn.tasks.captioning import CaptioningTask
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

    def make(data, *, dropout=0.0, patches=None, depth=1):
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
        )

    return make


@pytest.fixture
def make_trainer(tmp_path):
    """Make a trainer that does what it is told to and nothing besides."""

    def make(*callbacks, **options):
        quiet = {
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "max_epochs": 1,
            "default_root_dir": tmp_path,
        }
        return L.Trainer(**(quiet | options), callbacks=list(callbacks))

    return make
