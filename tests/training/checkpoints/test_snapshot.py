"""What a checkpoint may hold, and that a copy of it stays as it was."""

import io
from collections import Counter, OrderedDict, defaultdict
from datetime import timedelta

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from mmattn.errors import CheckpointError
from mmattn.training.checkpoints.snapshot import snapshot

VALUES = [None, True, 3, 2**70, 1.5, 1 + 2j, "s", b"\xff", torch.bfloat16, torch.device("cpu")]
VALUES += [
    torch.Size([2]),
    (1, (2,)),
    [1, [2]],
    {1: {"a": 2}},
    {1, 2},
    OrderedDict(a=1),
    Counter("aab"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("copied", [False, True])
def test_what_is_let_through_can_be_read_again(value, copied):
    file = io.BytesIO()
    torch.save(snapshot({"x": value}, copied=copied), file)
    file.seek(0)
    found = torch.load(file, weights_only=True)["x"]
    assert found == value
    assert type(found) is type(value)


class Name(str):
    """Looks like a text."""


FOREIGN = [np.float64(1.0), np.zeros(2), timedelta(1), OmegaConf.create({"a": 1}), Name("a")]
FOREIGN += [defaultdict(int), print, frozenset({1}), object()]


@pytest.mark.fault("F21")
@pytest.mark.parametrize("value", FOREIGN, ids=lambda value: type(value).__name__)
def test_what_could_not_be_read_again_is_refused_where_it_stands(value):
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    with pytest.raises(
        CheckpointError, match=r"checkpoint\['callbacks'\]\['Mine'\]\[1\] is a " + kind
    ):
        snapshot({"callbacks": {"Mine": [0, value]}}, copied=False)


def test_a_key_is_a_value_too():
    with pytest.raises(CheckpointError, match=r"a key of checkpoint\['a'\] is a .*Name"):
        snapshot({"a": {Name("b"): 1}}, copied=True)


def test_tensors_of_every_kind_are_copied_once_and_stay():
    weight = torch.arange(12.0).view(3, 4)
    tensors = {
        "a": weight,
        "same": weight.detach(),
        "part": weight[1:],
        "turned": weight.T,
        "parameter": torch.nn.Parameter(weight.clone()),
        "half": weight.bfloat16(),
        "sparse": weight.to_sparse(),
        "scalar": torch.tensor(3),
        "empty": torch.empty(0),
    }
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    found = snapshot(tensors, copied=True)
    weight.zero_()
    tensors["parameter"].data.zero_()
    for name, tensor in before.items():
        assert torch.equal(found[name].to_dense(), tensor.to_dense()), name
        assert found[name].dtype == tensor.dtype
        assert not found[name].requires_grad
    assert found["a"] is found["same"]
    assert found["a"].data_ptr() != weight.data_ptr()


def test_the_versions_of_a_state_dict_come_along():
    state = torch.nn.BatchNorm1d(2).state_dict()
    assert snapshot(state, copied=True)._metadata == state._metadata
