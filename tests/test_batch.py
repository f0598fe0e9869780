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


def test_drawn_captions_are_the_images_own(batch_of_captions):
    """A caption's rows stay together, empty ones come last, what is known of an image stays."""
    torch.manual_seed(3)
    seen = set()
    for _ in range(40):
        few = batch_of_captions.draw_captions(2)
        assert few.tokens.shape == few.labels.shape == few.valid.shape == (2, 2, 3)
        for b in range(2):
            numbers = few.tokens[b, :, 0].tolist()
            assert len(set(numbers)) == 2
            for row, n in enumerate(numbers):
                assert few.labels[b, row].tolist() == [n + 1] * 3
                assert few.valid[b, row].tolist() == [n < 11] * 3  # 11 and 12 are empty rows
            real = [n for n in numbers if n < 11]
            assert few.references[b] == tuple(f"caption {n}" for n in real)
            seen.add((b, *numbers))
        assert few.known == batch_of_captions.references
    assert {each for each in seen if each[0]} == {(1, 10, 11), (1, 10, 12)}
    assert len({each for each in seen if not each[0]}) == 6


def test_as_many_captions_as_there_are_can_be_drawn(batch_of_captions):
    assert batch_of_captions.draw_captions(9).tokens.shape == (2, 3, 3)


@pytest.fixture
def batch_of_captions():
    """Two images with three rows each, of which the second has one caption."""
    tokens = torch.tensor([[0, 1, 2], [10, 11, 12]])[..., None].expand(2, 3, 3)
    texts = tuple(f"caption {n}" for n in range(3)), ("caption 10",)
    return CaptionBatch(("a", "b"), torch.rand(2, 3, 4, 4), tokens, tokens + 1, tokens < 11, texts)
