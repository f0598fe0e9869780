"""Which module of a model is running, by the name that the model knows it by."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

COMPILED = "_orig_mod"  # where torch.compile's wrapper keeps the module


@dataclass(eq=False)
class ForwardPass:
    """One forward pass of one module, while it lasts.

    name: the module's dotted name; the model itself goes by its class. softmax, attended: whether a
    softmax of three dimensions or more, an attention call, was seen in it or in modules that it
    calls.
    """

    name: str
    module: nn.Module
    softmax: bool = False
    attended: bool = False


class RunningModules:
    """Follows the forward passes of a model's modules inside `with`: `running`, innermost last.

    It hangs hooks on the modules and takes them off on the way out, also after an exception. What
    is compiled is known by the name of the module it was compiled from.

    Args:
        model: the model to follow.
        ended: called with each forward pass that comes to its end.

    Raises:
        ValueError: for TorchScript, which no hook sees into, naming the module.
    """

    def __init__(self, model: nn.Module, ended: Callable[[ForwardPass], None]):
        self.model, self.running = model, list[ForwardPass]()
        self._ended, self._hooks = ended, ExitStack()

    def __enter__(self) -> "RunningModules":
        with ExitStack() as hooks:
            for name, module in self.model.named_modules():
                parts = [part for part in name.split(".") if part not in ("", COMPILED)]
                root = getattr(self.model, COMPILED, self.model)
                self._hang(hooks, ".".join(parts) or type(root).__name__, module)
            self._hooks = hooks.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._hooks.close()

    def _hang(self, hooks: ExitStack, name: str, module: nn.Module) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"{name} is TorchScript, which does not show its calls: use the Python module it "
                "was made from"
            )
        begin = partial(self._begin, name)
        hooks.callback(module.register_forward_pre_hook(begin).remove)
        hooks.callback(module.register_forward_hook(self._end, always_call=True).remove)

    def _begin(self, name: str, module: nn.Module, _: Any) -> None:
        self.running.append(ForwardPass(name, module))

    def _end(self, module: nn.Module, *_: Any) -> None:
        """End the module's latest forward pass, and whatever an exception left running inside."""
        places = [i for i, one in enumerate(self.running) if one.module is module]
        while places and len(self.running) > places[-1]:
            self._ended(self.running.pop())
