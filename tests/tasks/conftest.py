"""What tests of captioning tasks share: pictures of one shade with captions of a few words."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.data.dataset import Splits
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.transforms import ToNormalised
from mmattn.patches import LinearPatches
from mmattn.tasks.captioning import CaptioningTask
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

WORDS = ["red", "green", "blue", "large", "small", "round"]


class Shades:
    """Picture i is of one shade and has 1 + i % 3 captions."""

    def __init__(self, name, length=7):
        self.name, self.length = name, length

    def __len__(self):
        return self.length

    def key(self, index):
        return f"{self.name}-{index}"

    def captions(self, index):
        words = WORDS[index % 6], WORDS[(index + 2) % 6], WORDS[(index * 3) % 6]
        return tuple(" ".join(words[: n + 1]) for n in range(1 + index % 3))

    def image(self, index):
        return torch.full((3, 8, 8), 30 * index, dtype=torch.uint8)


@pytest.fixture
def make_data():
    """Make a data module of seven images a split, with test sets of these names."""

    def make(tests=("",), **loader):
        splits = Splits(Shades("train"), Shades("val"), {name: Shades("test") for name in tests})
        return CaptionDataModule(
            source=SimpleNamespace(splits=lambda: splits),
            image_size=(8, 8),
            train_transform=ToNormalised([0.5] * 3, [0.5] * 3),
            eval_transform=ToNormalised([0.5] * 3, [0.5] * 3),
            tokenizer=TokenizerOptions(path=None, vocab_size=300),
            loader=LoaderOptions(**({"batch_size": 4, "eval_batch_size": 3} | loader)),
            max_length=10,
            seed=0,
        )

    return make


@pytest.fixture
def make_task():
    """Make a task of a small captioner; the same weights each time."""

    def make(data, *, dim=16, dropout=0.0, optimizer=None, scheduler=None, **options):
        torch.manual_seed(0)
        block = BlockOptions(heads=2, dropout=dropout)
        vision = VisionTransformer((8, 8), LinearPatches(4, dim), 1, block)
        text = TextTransformer(
            data.tokenizer.vocab_size, dim, 1, block, max_length=10, context_dim=dim
        )
        return CaptioningTask(
            Captioner(vision, text),
            data.tokenizer,
            optimizer or partial(torch.optim.AdamW, lr=1e-2),
            scheduler,
            max_length=10,
            test_names=data.test_names,
            **options,
        )

    return make
