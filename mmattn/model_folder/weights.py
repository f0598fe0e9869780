"""model.safetensors: every tensor of a model once, of one floating type, all numbers finite."""

import torch
from torch import Tensor, nn

from mmattn.errors import CheckpointError, ConfigError
from mmattn.weights import load_exactly

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
MIXED = "mixed"  # a model whose parts are of different types


def tied_parameters(model: nn.Module) -> dict[str, str]:
    """Return the names of parameters that are others under a second name -> the first name."""
    first: dict[int, str] = {}
    tied = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            tied[name] = first[id(parameter)]
        else:
            first[id(parameter)] = name
    return tied


def tensors_to_store(model: nn.Module, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Return a model's tensors on the CPU, none sharing memory, tied ones under their first name.

    Args:
        model: whose state dict it is.
        dtype: that floating tensors get; they keep their own if None.

    Raises:
        ConfigError: for a type that is not stored.
        CheckpointError: naming a tensor with a number that is not finite.
    """
    if dtype is not None and dtype not in DTYPES.values():
        raise ConfigError(f"weights are stored as {', '.join(DTYPES)}, not as {dtype}")
    tied, tensors, memory = tied_parameters(model), {}, set()
    for name, tensor in model.state_dict().items():
        if name in tied:
            continue
        wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        stored = tensor.detach().to("cpu", wanted).contiguous()
        check_finite(name, tensor, stored)
        if stored.untyped_storage().data_ptr() in memory:
            stored = stored.clone()
        memory.add(stored.untyped_storage().data_ptr())
        tensors[name] = stored
    return tensors


def check_finite(name: str, tensor: Tensor, stored: Tensor) -> None:
    """Raise CheckpointError where a tensor, or what is stored of it, has no finite numbers."""
    bad = stored.numel() - int(stored.isfinite().sum())
    if not bad:
        return
    if tensor.isfinite().all():
        kind = str(stored.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{name} reaches {tensor.abs().max().item():.3g}, more than {kind} holds: write "
            "bfloat16 or float32"
        )
    raise CheckpointError(
        f"{name}: {bad} of {stored.numel()} weights are not finite; take an earlier checkpoint, "
        "and train with a lower learning rate or with clipped gradients"
    )


def dtype_name(tensors: dict[str, Tensor]) -> str:
    """Return the name of the type of the floating tensors, `MIXED` where they have several."""
    found = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    names = [name for name, dtype in DTYPES.items() if dtype in found]
    return names[0] if len(found) == len(names) == 1 else MIXED


def load_tensors(
    model: nn.Module, tensors: dict[str, Tensor], tied: dict[str, str], source: str
) -> None:
    """Let a model use these tensors in place of its own, and tie what was tied.

    Args:
        model: of the architecture that was stored.
        tensors: what a file holds.
        tied: see `tied_parameters`.
        source: what to call the file in messages.

    Raises:
        CheckpointError: where they are not this model's.
    """
    check_tied(model, tensors, tied, source)
    named = {**tensors, **{second: tensors[first] for second, first in tied.items()}}
    load_exactly(model, named, source, assign=True)
    for second, first in tied.items():
        part, _, name = second.rpartition(".")
        setattr(model.get_submodule(part), name, model.get_parameter(first))


def copied(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Return a copy of a tensor; where it is floating and a type is given, in that type.

    What safetensors reads is the file itself, mapped into memory: it would change with the file,
    and vanish where that is cut off.
    """
    wanted = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    return tensor.to(wanted, copy=True)


def check_tied(
    model: nn.Module, tensors: dict[str, Tensor], tied: dict[str, str], source: str
) -> None:
    """Raise CheckpointError for a tie of what is not stored, or not a parameter of the model."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for second, first in tied.items():
        if not {second, first} <= parameters or first not in tensors or second in tensors:
            raise CheckpointError(f"{source}: {second!r} cannot be tied to {first!r}")
