"""A captioner built by hand, whose attention is known: the report says about it what is true.

Three coloured squares stand on black, and the caption names one of them. The query that writes
"square" stands at the colour, and looks for just that colour; every other query looks nowhere in
particular. So the map of "square" is right by construction, and only for this word.
"""

from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch

from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.data.dataset import Splits
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.transforms import ToNormalised
from mmattn.maps.gradient_methods import AttentionGradient
from mmattn.maps.methods import MapMethod, RawAttention
from mmattn.maps.quality.ablation import uniform_attention
from mmattn.patches import LinearPatches
from mmattn.reports.attention import attention_report
from mmattn.reports.results import Report
from mmattn.reports.verdict import is_better
from mmattn.tasks.captioning import CaptioningTask
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

SIDE, PATCH, DIM = 16, 4, 16
COLOURS = ("red", "green", "blue")
ORDERS = list(permutations(range(16), 3))
GAIN = 4.0  # of the scores: the wanted square gets 0.999 of the attention


class Squares:
    """Image i has one square of each colour, on three of its patches; its caption names one."""

    def __init__(self, name, length):
        self.name, self.length = name, length

    def __len__(self):
        return self.length

    def key(self, index):
        return f"{self.name}/{index}"

    def captions(self, index):
        return (f"{COLOURS[index % 3]} square",)

    def mask(self, index, channel):
        row, column = divmod(ORDERS[(index * 97) % len(ORDERS)][channel], SIDE // PATCH)
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        mask[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] = True
        return mask

    def regions(self, index):
        return {"square": self.mask(index, index % 3)}

    def image(self, index):
        return torch.from_numpy(np.stack([self.mask(index, c) for c in range(3)]) * np.uint8(255))


class Source:
    def splits(self):
        return Splits(Squares("train", 30), Squares("val", 12), {"test": Squares("test", 60)})


@pytest.fixture(scope="module")
def data() -> CaptionDataModule:
    plain = ToNormalised([0.0] * 3, [1.0] * 3)
    data = CaptionDataModule(
        source=Source(),
        image_size=(SIDE, SIDE),
        train_transform=plain,
        eval_transform=plain,
        tokenizer=TokenizerOptions(path=None, vocab_size=300),
        loader=LoaderOptions(batch_size=8, eval_batch_size=8),
        max_length=12,
        seed=0,
    )
    data.read()
    return data


@torch.no_grad()
def looking_for_colours(data: CaptionDataModule) -> Captioner:
    """A patch is its mean colour, a colour's last token is that colour, and alike attends."""
    torch.manual_seed(0)
    block = BlockOptions(heads=1)
    vision = VisionTransformer((SIDE, SIDE), LinearPatches(PATCH, DIM), 0, block)
    size = data.tokenizer.vocab_size
    text = TextTransformer(size, DIM, 1, block, max_length=12, context_dim=DIM)
    model = Captioner(vision, text).eval()
    values = model.text.blocks[0].cross_attention.to_kv.weight[DIM:].clone()
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
    attention = model.text.blocks[0].cross_attention
    attention.to_q.weight.copy_(GAIN * torch.eye(DIM))
    attention.to_kv.weight.copy_(torch.cat([torch.eye(DIM), values]))
    attention.to_out.weight.copy_(torch.eye(DIM))
    for channel, colour in enumerate(COLOURS):
        model.vision.patches.project.weight[channel, channel] = 1 / PATCH**2
        whole = data.tokenizer.encode(f"{colour} square")
        *_, last = whole[: whole.index(square(data))]
        model.text.embedding.weight[last, channel] = 1.0
    return model


def square(data: CaptionDataModule) -> int:
    """The token of "square": one, as the word is in every caption."""
    token = data.tokenizer.encode("red square")[-1]
    assert data.tokenizer.decode([token]).strip() == "square"
    return token


def reported(model: Captioner, data: CaptionDataModule, *methods: MapMethod) -> Report:
    task = CaptioningTask(
        model,
        data.tokenizer,
        partial(torch.optim.AdamW, lr=1e-3),
        None,
        max_length=12,
        test_names=data.test_names,
    )
    return attention_report(task, data, list(methods) or [RawAttention()], limit=None, perturbed=0)


def test_attention_on_the_region_is_found_and_far_above_every_control(data):
    report = reported(looking_for_colours(data), data)
    (result,) = report.sets
    own = result.line(report.method).figures
    assert (result.words, result.chance) == (60, 1 / 16)
    assert own["pointing"] == (1, 1, 1)
    assert own["energy"].mean > 0.99  # at least twice the region's share of the picture
    assert own["iou"].mean == own["auc"].mean == 1
    assert is_better(result)
    assert result.above["uniform"]["pointing"].mean == 1 - 1 / 16
    assert result.above["randomised weights"]["pointing"].mean >= 0.5
    shuffled = result.line("shuffled caption").figures
    assert shuffled["pointing"].mean <= result.chance + 0.1


def test_of_raw_and_gradient_weighted_attention_one_points(data):
    report = reported(looking_for_colours(data), data, AttentionGradient(), RawAttention())
    assert report.candidates == 2
    assert report.sets[0].line(report.method).figures["pointing"].mean >= 0.8


def test_uniform_attention_points_by_chance_and_is_not_better(data):
    report = reported(uniform_attention(looking_for_colours(data)), data)
    (result,) = report.sets
    own = result.line(report.method).figures
    assert own["pointing"].mean == result.chance
    assert own["energy"].mean == pytest.approx(result.chance)
    assert own["auc"].mean == 0.5
    assert not is_better(result)


def test_attention_on_another_square_is_worse_than_chance(data):
    model = looking_for_colours(data)
    with torch.no_grad():  # red looks for green, green for blue, blue for red
        q = model.text.blocks[0].cross_attention.to_q.weight
        q[:3] = q[[2, 0, 1]]
    (result,) = reported(model, data).sets
    own = result.line(RawAttention().title).figures
    assert own["pointing"] == (0, 0, 0)
    assert own["energy"].mean < 0.01
    assert not is_better(result)
