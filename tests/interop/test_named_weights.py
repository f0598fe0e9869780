"""Every tensor of a state dict is used once, in the shape that was promised, or named."""

import pytest
import torch

from mmattn.errors import CheckpointError
from mmattn.interop.named_weights import NamedWeights


def some_weights() -> NamedWeights:
    state = {
        "a.weight": torch.ones(2, 3, dtype=torch.bfloat16),
        "a.bias": torch.zeros(2),
        "mask": torch.ones(4, dtype=torch.bool),
    }
    return NamedWeights(state, "a/folder")


def test_what_was_taken_is_gone_and_in_float32():
    weights = some_weights()
    module = weights.take_module("a", "ours", 2, 3)
    assert {name: (value.shape, value.dtype) for name, value in module.items()} == {
        "ours.weight": ((2, 3), torch.float32),
        "ours.bias": ((2,), torch.float32),
    }
    assert "a.weight" not in weights
    assert "mask" in weights
    weights.drop("mask", "another that is not there")
    weights.refuse_rest()


def test_all_below_a_name_can_be_dropped():
    weights = some_weights()
    weights.drop_below("a.", "b.")
    assert list(weights.left) == ["mask"]


def test_the_state_dict_itself_is_left_alone():
    state = {"a": torch.ones(1)}
    NamedWeights(state, "a/folder").take("a", 1)
    assert list(state) == ["a"]


@pytest.mark.parametrize(
    ("take", "message"),
    [
        (("b", 2), "a/folder: the weights lack b$"),
        (("a.weight", 3, 2), r"a\.weight is \(2, 3\), but by the configuration it is \(3, 2\)"),
        (("a.bias", 2, 1), r"a\.bias is \(2,\), but by the configuration it is \(2, 1\)"),
        (("mask", 4), r"mask is torch\.bool; quantised weights are not supported"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(take, message):
    with pytest.raises(CheckpointError, match=message):
        some_weights().take(*take)


def test_what_is_left_over_is_named():
    with pytest.raises(
        CheckpointError, match=r"3 of the weights have .*: a\.bias, a\.weight, mask"
    ):
        some_weights().refuse_rest()
    many = NamedWeights({f"x{i}": torch.ones(1) for i in range(6)}, "a/folder")
    with pytest.raises(CheckpointError, match=r"6 of the weights .*: x0, x1, x2, x3 …$"):
        many.refuse_rest()
