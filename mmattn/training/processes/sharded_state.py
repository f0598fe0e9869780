"""The state of an optimiser over parts of weights, as that of an optimiser over whole ones.

torch numbers an optimiser's state by the order of the parameters in its groups; what gathers parts
from all ranks has the parameters' names instead. A checkpoint holds numbers, so that it does not
matter how many processes, with parts or whole weights, wrote it or go on from it.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

WHOLE = StateDictOptions(full_state_dict=True)
WHOLE_ON_RANK_0 = StateDictOptions(full_state_dict=True, cpu_offload=True)


def optimizer_state(module: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Return the whole state by numbers on rank 0, nothing on the others; all ranks call it."""
    state = get_optimizer_state_dict(module, optimizer, options=WHOLE_ON_RANK_0)
    return numbered(state) if state else state


def set_optimizer_state(module: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Give every rank its part of a whole state by numbers, which each of them has read."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    order = [names[p] for group in optimizer.param_groups for p in group["params"]]
    set_optimizer_state_dict(module, optimizer, named(state, order), options=WHOLE)


def set_weights(module: nn.Module, weights: Mapping[str, Any], *, strict: bool) -> None:
    """Give every rank its part of whole weights, which each of them has read."""
    options = StateDictOptions(full_state_dict=True, strict=strict)
    set_model_state_dict(module, dict(weights), options=options)


def numbered(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state by names as one by numbers."""
    order = [name for group in state["param_groups"] for name in group["params"]]
    return renamed(state, {name: number for number, name in enumerate(order)})


def named(state: Mapping[str, Any], order: list[str]) -> dict[str, Any]:
    """Return a state by numbers as one by names; `order` has the names of the groups' parameters.

    Raises ValueError for a state of another number of parameters.
    """
    held = [number for group in state["param_groups"] for number in group["params"]]
    return renamed(state, dict(zip(held, order, strict=True)))


def renamed(state: Mapping[str, Any], new: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a state with other keys for its parameters."""
    groups = [
        {**group, "params": [new[key] for key in group["params"]]}
        for group in state["param_groups"]
    ]
    return {"state": {new[key]: own for key, own in state["state"].items()}, "param_groups": groups}
