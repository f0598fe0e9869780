"""A copy of what a checkpoint is to hold, taken while training stands still: plain values only.

What `torch.load(weights_only=True)` would refuse to read is refused here, when it is saved: a
checkpoint that nobody can load is worse than none, for it takes the place of one.
"""

from collections import Counter, OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from mmattn.errors import CheckpointError

PLAIN = (type(None), bool, int, float, complex, str, bytes)
TORCH = (torch.dtype, torch.device, torch.Size)
TENSORS = (Tensor, nn.Parameter)


def snapshot(content: Any, *, copied: bool) -> Any:
    """Return nested containers like those of `content`, with all tensors on the CPU.

    Args:
        content: dicts, lists, tuples and sets of tensors and plain values.
        copied: give every tensor memory of its own, so that it stays as it is while training goes
            on; tensors that are the same one (tied weights) stay so. Without it only those are
            copied that were not on the CPU.

    Raises:
        CheckpointError: naming the place of what is no plain value.
    """
    return _Snapshot(copied).of(content, "checkpoint")


class _Snapshot:
    """Goes through a checkpoint, and remembers which tensors it has seen."""

    def __init__(self, copied: bool):
        self.copied = copied
        self._seen: dict[tuple[Any, ...], Tensor] = {}

    def of(self, value: Any, place: str) -> Any:
        """Return the copy of a value that stands at `place`."""
        kind = type(value)
        if kind in TENSORS:
            return self.of_tensor(value)
        if kind in (dict, OrderedDict, Counter):
            return self.of_dict(value, place)
        if kind in (list, tuple, set):
            return kind(self.of(item, f"{place}[{i}]") for i, item in enumerate(value))
        if kind in PLAIN or kind in TORCH:
            return value
        raise CheckpointError(
            f"{place} is a {kind.__module__}.{kind.__qualname__}: a checkpoint holds tensors and "
            "plain values only, since reading anything else could run code. Let the callback, data "
            "module or task that keeps it in its state turn it into plain values"
        )

    def of_dict(self, value: dict[Any, Any], place: str) -> dict[Any, Any]:
        """Return the copy of a dict; a module's state dict has its versions as an attribute."""
        copy = type(value)()
        for key, item in value.items():
            copy[self.of(key, f"a key of {place}")] = self.of(item, f"{place}[{key!r}]")
        versions = getattr(value, "_metadata", None)
        if versions is not None:
            setattr(copy, "_metadata", self.of(versions, f"{place}._metadata"))  # noqa: B010
        return copy

    def of_tensor(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the CPU, in memory of its own where that is wanted."""
        tensor = tensor.detach()
        if not self.copied:
            return tensor.cpu()
        if tensor.layout != torch.strided:  # has no single memory that could be shared
            return tensor.to("cpu", copy=True)
        memory = (tensor.device, tensor.untyped_storage().data_ptr(), tensor.storage_offset())
        known = (*memory, tensor.dtype, tensor.shape, tensor.stride())
        if known not in self._seen:
            self._seen[known] = tensor.to("cpu", copy=True)
        return self._seen[known]
