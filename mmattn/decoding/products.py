"""x·Wᵀ + b for a few rows x: nearly all that decoding computes, and bound by reading W.

torch's own product of a few float32 rows takes 2 to 4 times as long on a CPU as reading the weights
does. What comes closer to that bound: for all but small weights, oneDNN with a copy of W in its own
order, whose calls cost more; for a few rows and weights of moderate size, other ways of asking
torch for the same product. `benchmarks/decode.py` measures what comes of it.
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
LEAST = 1 << 18  # numbers in a weight that is worth packing
MODERATE = 3 << 18  # numbers below which the product `of_few_rows` is the faster one
FEW = 4  # rows


def packs(weight: Tensor) -> bool:
    """Return whether `packed` is faster: large weights on a CPU with oneDNN."""
    return (
        weight.numel() >= LEAST
        and on_cpu(weight, torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def on_cpu(tensor: Tensor, *dtypes: torch.dtype) -> bool:
    """Return whether a tensor of one of these types is computed with on a CPU, as it is."""
    autocast = torch.is_autocast_enabled(tensor.device.type)
    return tensor.device.type == "cpu" and tensor.dtype in dtypes and not autocast


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


def of_few_rows(
    weight: Float[Tensor, "O I"], bias: Float[Tensor, "O"], of_many: Product
) -> Product:
    """Return the product that is faster than `of_many` for up to four rows, and that for more.

    One row by torch's product is the work of one thread: as two halves it is that of two. Of two to
    four rows, W·xᵀ takes two thirds of the time of x·Wᵀ (2 cores, width 192, weights not in cache).
    """
    weight, bias = weight.detach(), bias.detach()
    outputs, inputs = weight.shape
    halves, biases = weight.view(2, -1, inputs).transpose(1, 2), bias.view(2, 1, -1)
    column = bias[:, None]

    def multiply(x: Tensor) -> Tensor:
        rows = len(x)
        if rows == 1:
            return torch.baddbmm(biases, x.expand(2, 1, inputs), halves).view(1, outputs)
        if rows <= FEW:
            return torch.addmm(column, weight, x.t()).t().contiguous()
        return of_many(x)

    return multiply


def product(weight: Float[Tensor, "O I"], bias: Float[Tensor, "O"] | None) -> Product:
    """Return the fastest of them."""
    of_many = packed(weight, bias) if packs(weight) else plain(weight, bias)
    moderate = weight.numel() < MODERATE and on_cpu(weight, torch.float32)
    if bias is None or not moderate or len(weight) % 2:
        return of_many
    return of_few_rows(weight, bias, of_many)
