"""How other libraries keep what makes queries, keys and values, and how our `Attention` does.

Letters: D is the width of the queries, C that of what they attend to.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmattn.interop.named_weights import NamedWeights


def projections(new: str, part: str, q: Tensor, k: Tensor, v: Tensor) -> dict[str, Tensor]:
    """Return the `part`, "weight" or "bias", of three maps as that of the attention `new`."""
    return {f"{new}.to_q.{part}": q, f"{new}.to_kv.{part}": torch.cat([k, v])}


def take_separate(
    weights: NamedWeights, names: Sequence[str], new: str, D: int, C: int, *, bias: bool = True
) -> dict[str, Tensor]:
    """Take three maps by the `names` of those to queries, keys and values."""
    shapes = [(D, D), (D, C), (D, C)]
    found = [
        weights.take(f"{name}.weight", *shape) for name, shape in zip(names, shapes, strict=True)
    ]
    ours = projections(new, "weight", *found)
    if bias:
        ours |= projections(new, "bias", *(weights.take(f"{name}.bias", D) for name in names))
    return ours


def take_joint(
    weights: NamedWeights, new: str, D: int, *, weight: str, bias: str
) -> dict[str, Tensor]:
    """Take one map to queries, keys and values, in this order, by the names of its parts."""
    return {
        **projections(new, "weight", *weights.take(weight, 3 * D, D).chunk(3)),
        **projections(new, "bias", *weights.take(bias, 3 * D).chunk(3)),
    }
