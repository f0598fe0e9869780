"""Attention that a module writes out itself, found among the torch functions that it calls."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

PRODUCT = {torch.matmul, torch.Tensor.matmul, torch.bmm, torch.Tensor.bmm}
MAKES_SCORES = PRODUCT | {torch.baddbmm, torch.Tensor.baddbmm, torch.einsum}
SOFTMAX = {torch.softmax, torch.Tensor.softmax, F.softmax}
# What gives weights back as they were, or as dropout or another precision leaves them.
KEEPS_WEIGHTS = {F.dropout, torch.dropout, torch.Tensor.to, torch.Tensor.type, torch.Tensor.type_as}


class Product(NamedTuple):
    """`scores.softmax(-1) @ values`; the scores are [..., T, S]."""

    scores: Tensor
    values: Tensor


class WrittenOut:
    """Follows softmax(q·kᵀ)·v through the torch functions that a model calls.

    Only what leaves no doubt is taken: scores are a matrix product and whatever arithmetic makes of
    it (as many numbers come out as go in), weights are its softmax over the last dimension, and
    these, but for dropout, are the left factor of the next product. So nothing is found where a
    module changes its weights (talking heads, the difference of two softmaxes), or where it takes
    the softmax of something else (linear attention, of the keys alone).
    """

    def __init__(self):
        # By identity and weakly: what the model lets go is not kept.
        self._scores, self._weights = WeakIdKeyDictionary(), WeakIdKeyDictionary()

    def follow(
        self, function: Callable, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> Product | None:
        """Look at one call, which gave `out`. Returns the product with the values, where it is."""
        if not isinstance(out, Tensor):
            return None
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        if function in PRODUCT and (product := self._product(tensors)):
            return product
        if function in SOFTMAX:
            self._follow_softmax(out, *args, **kwargs)
        elif function in KEEPS_WEIGHTS and tensors and tensors[0] in self._weights:
            self._weights[out] = self._weights[tensors[0]]
        elif function in MAKES_SCORES or any(self._continues(tensor, out) for tensor in tensors):
            self._scores[out] = None
        return None

    def _product(self, factors: list[Tensor]) -> Product | None:
        if len(factors) != 2 or factors[0] not in self._weights:
            return None
        weights, values = factors
        if values.dim() != weights.dim():
            return None
        return Product(self._weights.pop(weights), values)

    def _follow_softmax(
        self, out: Tensor, input: Tensor, dim: int | None = None, *_: Any, **__: Any
    ) -> None:
        if out.dim() >= 3 and dim in (-1, out.dim() - 1) and input in self._scores:
            self._weights[out] = input

    def _continues(self, tensor: Tensor, out: Tensor) -> bool:
        return tensor in self._scores and tensor.numel() == out.numel()
