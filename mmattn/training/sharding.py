"""A model of which every rank holds a part: FSDP2 (Zhao et al. 2023) around our blocks.

While it trains, a block's weights are gathered when it is their turn and dropped behind it.
Everywhere else, in validation, while maps are drawn, in tests, ranks do different things: captions
of different lengths take different numbers of steps, and one rank draws alone. There the weights
are whole on every rank, so that nothing waits for anybody.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from types import MethodType
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

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


def pieces(model: nn.Module) -> list[FSDPModule]:
    """Return the parts of a model that are gathered as one piece each; none if it is whole."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def gather(model: nn.Module) -> None:
    """Let every rank have the whole weights from now on. All ranks call it, or none."""
    for piece in pieces(model):
        _keep_whole(piece, True)
        piece.unshard()


def divide(model: nn.Module) -> None:
    """Undo `gather`."""
    for piece in pieces(model):
        piece.reshard()
        _keep_whole(piece, False)


def _keep_whole(piece: FSDPModule, whole: bool) -> None:
    """Let passes of one rank alone, also backward ones for a map, wait for no other rank."""
    piece.set_reshard_after_forward(not whole, recurse=False)
    piece.set_reshard_after_backward(not whole, recurse=False)
    piece.set_requires_gradient_sync(not whole, recurse=False)


@contextmanager
def whole_model(task: L.LightningModule) -> Iterator[None]:
    """Let every rank have the whole weights in this block, which all ranks enter."""
    model = task.get_submodule("model")
    gather(model)
    try:
        yield
    finally:
        divide(model)


def skeleton(model: nn.Module) -> nn.Module:
    """Return the model without its weights: `restored` fills them in again."""
    made = deepcopy(model)
    for module in made.modules():
        for name, parameter in module.named_parameters(recurse=False):
            empty = torch.empty_like(parameter, device="meta")
            setattr(module, name, nn.Parameter(empty, requires_grad=parameter.requires_grad))
    return made


def restored(empty: nn.Module, model: nn.Module) -> nn.Module:
    """Return the skeleton of a sharded model with its weights, whole on every rank."""
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    empty.load_state_dict(weights, assign=True)
    return empty.train(model.training)
