"""The name of the running module, whatever happens while it runs."""

from contextlib import suppress

import pytest
import torch
from torch import nn

from mmattn.interop.running_modules import RunningModules


class Raises(nn.Module):
    def forward(self, x):
        raise RuntimeError("no")


class Tries(nn.Module):
    """Calls `first`, which may raise, and goes on with `second`."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x):
        with suppress(RuntimeError):
            self.first(x)
        return self.second(x)


class Asks(nn.Module):
    """Notes who is running."""

    def __init__(self, seen: list[list[str]]):
        super().__init__()
        self.seen, self.modules_ = seen, []

    def forward(self, x):
        self.seen.append([one.name for one in self.modules_[0].running])
        return x


def follow(model: nn.Module, asks: Asks) -> list[str]:
    """Run the model; return the names of the forward passes in the order of their ends."""
    ended: list[str] = []
    with RunningModules(model, lambda one: ended.append(one.name)) as modules:
        asks.modules_[:] = [modules]
        model(torch.zeros(1))
        assert modules.running == []
    return ended


def test_names_are_the_models_own_and_the_model_goes_by_its_class():
    asks = Asks([])
    ended = follow(nn.Sequential(nn.Identity(), nn.Sequential(asks)), asks)
    assert asks.seen == [["Sequential", "1", "1.0"]]
    assert ended == ["0", "1.0", "1", "Sequential"]


def test_a_module_that_raised_is_not_running_any_more():
    asks = Asks([])
    ended = follow(Tries(nn.Sequential(Raises()), asks), asks)
    assert asks.seen == [["Tries", "second"]]
    assert ended == ["first.0", "first", "second", "Tries"]


def test_a_module_that_never_began_does_not_end_others():
    """A hook of somebody else raises before ours, on every module, is called."""
    asks, refused = Asks([]), nn.Identity()
    model = Tries(refused, asks)

    def refuse(module, _):
        if module is refused:
            raise RuntimeError("no")

    handle = nn.modules.module.register_module_forward_pre_hook(refuse)
    try:
        assert follow(model, asks) == ["second", "Tries"]
    finally:
        handle.remove()
    assert asks.seen == [["Tries", "second"]]


def test_a_module_inside_itself_is_running_twice():
    class Nests(nn.Module):
        def forward(self, x, depth=2):
            return self(x, depth - 1) if depth else x

    nests = Nests()
    assert follow(nests, Asks([])) == ["Nests"] * 3


def test_the_wrapper_of_a_compiled_module_is_not_part_of_the_name():
    asks = Asks([])
    model = nn.Sequential(torch.compile(nn.Sequential(asks)))
    with torch.compiler.set_stance("force_eager"):
        follow(model, asks)
        follow(torch.compile(model), asks)
    for names in asks.seen:
        assert list(dict.fromkeys(names)) == ["Sequential", "0", "0.0"]


@pytest.mark.filterwarnings("ignore:.torch.jit.")
def test_torchscript_is_refused_and_leaves_no_hook():
    model = nn.Sequential(nn.Linear(1, 1), torch.jit.script(nn.Linear(1, 1)))
    with pytest.raises(ValueError, match=r"^1 is TorchScript, .* the Python module it was made"):
        RunningModules(model, print).__enter__()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in (model, model[0]))
