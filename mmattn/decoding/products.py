"""x·Wᵀ + b for a few rows x: nearly all that decoding computes, and bound by reading W.

torch's own product of a few float32 rows takes 2 to 4 times as long on a CPU as reading the weights
does. oneDNN comes close to that bound where W lies in memory in its own order, so W is copied into
this order once; `benchmarks/decode.py` measures what comes of it.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Product = Callable[[Float[Tensor, "R I"]], Float[Tensor, "R O"]]
# The rows for which the order is chosen; it serves from 4 to 64 rows about as well as their own.
# Fewer are filled up with zeros: 1 row takes 1.3 times as long as 4 (2 cores, GPT-2 base).
ROWS = 4
LEAST = 1 << 18  # numbers in a weight: below, a call of oneDNN costs more than it saves


def packs(weight: Tensor) -> bool:
    """Return whether `packed` is faster: large weights on a CPU with oneDNN, without autocast."""
    return (
        weight.numel() >= LEAST
        and weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and not torch.is_autocast_enabled("cpu")
    )


def plain(weight: Float[Tensor, "O I"], bias: Float[Tensor, "O"] | None) -> Product:
    """Return the product as torch computes it."""
    flipped = weight.detach().t()
    if bias is None:
        return lambda x: torch.mm(x, flipped)
    added = bias.detach()
    return lambda x: torch.addmm(added, x, flipped)


def packed(weight: Float[Tensor, "O I"], bias: Float[Tensor, "O"] | None) -> Product:
    """Return the product with a copy of the weight in oneDNN's order."""
    copy = torch.ops.mkldnn._reorder_linear_weight.default(weight.detach(), ROWS)
    compute = torch.ops.mkldnn._linear_pointwise.default
    added = None if bias is None else bias.detach()

    def multiply(x: Tensor) -> Tensor:
        rows = len(x)
        if rows < ROWS:
            x = F.pad(x, (0, 0, 0, ROWS - rows))
        return compute(x, copy, added, "none", [], "")[:rows]

    return multiply


def product(weight: Float[Tensor, "O I"], bias: Float[Tensor, "O"] | None) -> Product:
    """Return the faster of both."""
    return packed(weight, bias) if packs(weight) else plain(weight, bias)
