"""A model of which every rank holds a part: FSDP2 (Zhao et al. 2023) around our blocks.

While it trains, a block's weights are gathered when it is their turn and dropped behind it.
Everywhere else, in validation, while maps are drawn, in tests, ranks do different things: captions
of different lengths take different numbers of steps, and one rank draws alone. There every rank has
the whole weights, so that nothing waits for anybody.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from mmattn.blocks import Block
from mmattn.errors import ConfigError

STEP = "mmattn_step"  # the name under which a sharded model has `call`


def shard(model: nn.Module, mesh: DeviceMesh | None) -> None:
    """Leave each rank of a one-dimensional mesh its part of every parameter; of all ranks if None.

    A block is gathered as one piece; so is what projects the keys and values of its
    cross-attention, which runs before the block does. All else is one more piece, gathered for the
    whole of a training step (see `step`).

    Raises:
        ConfigError: for a model with a parameter that is a single number, which has no parts.
    """
    single = [name for name, p in model.named_parameters() if p.dim() == 0]
    if single:
        raise ConfigError(
            f"trainer=fsdp cannot divide {', '.join(single)}, a single number: use trainer=ddp"
        )
    # A block returns its keys and values, too, as views; nothing changes them in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    for block in blocks:
        if block.cross_attention is not None:
            across = block.cross_attention
            for part in (across.context_norm, across.to_kv, across.k_norm):
                if next(part.parameters(), None) is not None:
                    fully_shard(part, mesh=mesh)
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    setattr(model, STEP, MethodType(call, model))
    register_fsdp_forward_method(model, STEP)


def call(model: nn.Module, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that uses the model in whatever ways."""
    return function(*arguments)


def step(model: nn.Module, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function for which the sharded model's parameters outside of blocks are whole.

    A task uses a model by many methods, not by `forward` alone, so it is the whole step that FSDP
    takes for the model's forward pass.
    """
    return getattr(model, STEP)(function, *arguments)


class Divided:
    """A task's model in parts, and a whole one in its place where that is wanted.

    The whole one is a model of its own: passes of one rank alone through the parts would leave FSDP
    there in another state than on the other ranks, and later ones would wait for each other.

    Args:
        task: whose `model` is divided.
        mesh: see `shard`, which also says what is raised.
    """

    def __init__(self, task: nn.Module, mesh: DeviceMesh | None):
        self.task, self.parts = task, task.get_submodule("model")
        self._empty = skeleton(self.parts)
        shard(self.parts, mesh)

    def gather(self) -> nn.Module:
        """Let every rank have a model with the whole weights, and return it. All ranks call it."""
        made = restored(self._empty, self.parts)
        self.task.add_module("model", made)
        return made

    def divide(self) -> None:
        """Undo `gather`."""
        self.task.add_module("model", self.parts)
        forget_weights(self._empty)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Let every rank have the whole weights in this block, which all ranks enter."""
        self.gather()
        try:
            yield
        finally:
            self.divide()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the parts be the task's model in this block, also where a whole one is."""
        present = self.task.get_submodule("model")
        self.task.add_module("model", self.parts)
        try:
            yield
        finally:
            self.task.add_module("model", present)


def skeleton(model: nn.Module) -> nn.Module:
    """Return the model without its weights: `restored` fills them in again."""
    made = deepcopy(model)
    forget_weights(made)
    return made


def forget_weights(model: nn.Module) -> None:
    """Leave of the parameters their names, shapes and whether they learn."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            empty = torch.empty_like(parameter, device="meta")
            setattr(module, name, nn.Parameter(empty, requires_grad=parameter.requires_grad))


def restored(empty: nn.Module, model: nn.Module) -> nn.Module:
    """Fill the skeleton of a divided model with its weights, on every rank, and return it."""
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    empty.load_state_dict(weights, assign=True)
    for name, module in model.named_modules():
        empty.get_submodule(name).training = module.training
    return empty.to(next(model.parameters()).device)  # buffers that no checkpoint holds
