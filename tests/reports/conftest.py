"""Capital Latin letters of two fonts, and a captioner of a few thousand random weights."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch

from mmattn.batch import CaptionBatch
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.data.glyphs import Glyphs
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.transforms import ToNormalised
from mmattn.maps.methods import RawAttention
from mmattn.maps.quality.grounding import hit_patches
from mmattn.maps.words import group_words
from mmattn.patches import LinearPatches
from mmattn.reports.attention import attention_report
from mmattn.reports.results import Report
from mmattn.tasks.captioning import CaptioningTask
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

SIZE, GRID = 32, (8, 8)


@pytest.fixture(scope="session")
def glyphs() -> CaptionDataModule:
    white = ToNormalised([1.0] * 3, [1.0] * 3)
    data = CaptionDataModule(
        source=Glyphs(
            size=SIZE,
            fonts=["DejaVuSans", "DejaVuSans-Bold"],
            held_out_fonts=["DejaVuSerif"],
            scripts=["LATIN"],
            categories=["Lu"],
        ),
        image_size=(SIZE, SIZE),
        train_transform=white,
        eval_transform=white,
        tokenizer=TokenizerOptions(path=None, vocab_size=400),
        loader=LoaderOptions(batch_size=8, eval_batch_size=8),
        max_length=40,
        seed=0,
    )
    data.read()
    return data


@pytest.fixture
def task(glyphs) -> CaptioningTask:
    return untrained(glyphs)


def untrained(glyphs: CaptionDataModule) -> CaptioningTask:
    """Return the same task each time."""
    torch.manual_seed(0)
    block = BlockOptions(heads=2)
    vision = VisionTransformer((SIZE, SIZE), LinearPatches(4, 16), 1, block, registers=1)
    text = TextTransformer(glyphs.tokenizer.vocab_size, 16, 2, block, max_length=40, context_dim=16)
    return CaptioningTask(
        Captioner(vision, text),
        glyphs.tokenizer,
        partial(torch.optim.AdamW, lr=1e-3),
        None,
        max_length=40,
        test_names=glyphs.test_names,
    )


@pytest.fixture(scope="session")
def random_report(glyphs) -> Report:
    """The report on the untrained task."""
    return attention_report(untrained(glyphs), glyphs, [RawAttention()], limit=20, perturbed=2)


@dataclass(frozen=True)
class Planted:
    """A method that was told the regions, and only tells them of the model it is for."""

    data: CaptionDataModule
    model: Captioner
    title = "planted"
    signed = False

    def __call__(self, model: Captioner, batch: CaptionBatch) -> torch.Tensor:
        maps = torch.zeros(*batch.tokens.shape, *GRID)
        if model is not self.model:
            return maps
        sets = [self.data.splits.val, *self.data.splits.test.values()]
        regions = {d.key(i): (d, i) for d in sets for i in range(len(d))}
        for b, key in enumerate(batch.keys):
            dataset, index = regions[key]
            masks = dataset.regions(index)  # pyright: ignore[reportAttributeAccessIssue]
            tokenizer = self.data.tokenizer
            ids = tokenizer.until_end(batch.labels[b, 0, batch.valid[b, 0]].tolist())
            for word in group_words(tokenizer.decode(ids), tokenizer.offsets(ids)):
                if word.text in masks:
                    hits = hit_patches(np.asarray(masks[word.text]), GRID)
                    maps[b, 0, list(word.tokens)] = torch.from_numpy(hits).float()
        return maps


@pytest.fixture
def planted(glyphs, task) -> Planted:
    return Planted(glyphs, task.model)
