"""Batches move, and are put into page-locked memory, as wholes."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from mmattn.batch import CaptionBatch, LabelBatch

NUMBERS = torch.arange(12).view(2, 2, 3)
ROW = NUMBERS[0, :1]
CAPTIONS = CaptionBatch(
    ("a", "b"), torch.rand(2, 3, 4, 4), NUMBERS, NUMBERS + 1, NUMBERS > 4, (("x",), ("y",))
)
LABELS = LabelBatch(
    keys=("a", "b"),
    images=torch.rand(1, 3, 4, 4),
    image_rows=torch.zeros(2, 1, dtype=torch.long),
    image_valid=torch.ones(2, 1, dtype=torch.bool),
    tokens=NUMBERS[0],
    valid=NUMBERS[0] > 1,
    targets={"answer": torch.tensor([1, 0]), "tags": torch.rand(2, 5)},
    word_starts=torch.ones(2, 2, dtype=torch.long),
)
TEXTS = LabelBatch(("a",), None, ROW[:, :1], None, ROW, ROW > 1, {})
BATCHES = {"captions": CAPTIONS, "labels": LABELS, "texts": TEXTS}


def tensors(batch) -> dict[str, Tensor]:
    """Every tensor of a batch, whatever fields it has, by name."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    values |= values.get("targets", {})
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


@pytest.fixture(params=BATCHES)
def batch(request):
    return BATCHES[request.param]


def test_torch_pins_every_tensor_and_keeps_the_rest(batch, monkeypatch):
    pinned = []

    def pin(tensor):
        pinned.append(tensor.clone())
        return pinned[-1]

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    found = pin_memory(batch)  # what torch's loader calls
    assert type(found) is type(batch)
    before, after = tensors(batch), tensors(found)
    assert before.keys() == after.keys()
    assert len(pinned) == len(before)
    for name, tensor in after.items():
        assert any(tensor is each for each in pinned), name
        assert torch.equal(tensor, before[name]), name
    assert found.keys == batch.keys
    assert found.cached == batch.cached


@pytest.mark.parametrize(
    ("device", "waits"), [("cuda:0", False), (torch.device("cuda", 1), False), ("cpu", True)]
)
def test_only_copies_to_a_gpu_are_not_waited_for(batch, device, waits, monkeypatch):
    """A GPU's kernels come after its copies; a processor would read what is not there yet."""
    moves = []

    def to(tensor, *where, non_blocking=False):
        moves.append((*where, non_blocking))
        return tensor

    monkeypatch.setattr(Tensor, "to", to)
    batch.to(device)
    assert moves == [(device, not waits)] * len(tensors(batch))
