"""Names of weights that wrappers have lengthened, and messages about those that do not fit."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mmattn.tasks.weight_names import differences, plain_names


@pytest.fixture
def model():
    return nn.ModuleDict({"model": nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))})


def compiled(model):
    """The names that torch.compile gives, without its seconds of imports."""
    return nn.ModuleDict({"_orig_mod": model})


def compiled_inside(model, compiled=compiled):
    model["model"] = compiled(model["model"])
    return model


WRAPPERS = {
    "not at all": lambda model: model,
    "torch.compile": compiled,
    "torch.compile of a part": compiled_inside,
    "DistributedDataParallel": lambda model: nn.ModuleDict({"module": model}),
    "compiled, then distributed": lambda model: nn.ModuleDict({"module": compiled(model)}),
    "distributed, then compiled": lambda model: compiled(nn.ModuleDict({"module": model})),
    "averaged": AveragedModel,
}


@pytest.mark.slow
@pytest.mark.fault("F26")
@pytest.mark.parametrize(
    "wrap", [torch.compile, partial(compiled_inside, compiled=torch.compile)], ids=["all", "a part"]
)
def test_torch_compile_gives_just_these_names(model, wrap):
    own = list(model.state_dict())
    names = list(wrap(model).state_dict())
    assert names != own
    assert list(plain_names(dict.fromkeys(names))) == own


@pytest.mark.fault("F26")
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_model_has_the_names_of_the_model(model, wrap):
    own = {name: value.clone() for name, value in model.state_dict().items()}
    found = plain_names(wrap(model).state_dict())
    assert list(found) == list(own)
    assert all(torch.equal(found[name], own[name]) for name in own)


def test_a_part_may_be_called_module():
    state = {"module.weight": torch.zeros(1), "other.weight": torch.zeros(1)}
    assert plain_names(state) == state
    assert plain_names({}) == {}


@pytest.mark.fault("F26")
def test_what_does_not_fit_is_named_by_its_part():
    own = {f"model.vision.{i}": torch.zeros(2) for i in range(12)} | {"model.head": torch.zeros(3)}
    saved = {"model.vision.3": torch.zeros(4), "model.text.a": torch.zeros(1)}
    saved |= {f"model.part{i}.x": torch.zeros(1) for i in range(9)}
    saved |= {f"model.part8.{x}": torch.zeros(1) for x in "yz"}
    assert differences(saved, own) == [
        "missing in the checkpoint: model.vision.* (11), model.head",
        "not in the model: model.part8.* (3), model.text.a, model.part0.x, model.part1.x …",
        "of another shape: model.vision.3",
    ]
    assert differences(own, own) == []
