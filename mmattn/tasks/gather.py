"""The rows of all ranks, with gradients back to the rank that they came from."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed
from torch.autograd import Function
from torch.nn import functional as F


class Gathered(NamedTuple):
    """The rows of all ranks in the order of the ranks, and the number of ranks."""

    rows: Shaped[Tensor, "M K"]
    ranks: int


def gather_rows(rows: Shaped[Tensor, "R K"], fill: int = 0) -> Gathered:
    """Return the rows of all ranks, which may have different numbers of rows and columns.

    Without distributed training these are the rows that are given. A row's gradient is the sum of
    those that all ranks have for it. Every rank must call it, and go backwards through it or not,
    as the others do.

    Args:
        rows: of this rank.
        fill: what stands in the columns that other ranks have more.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return Gathered(rows, 1)
    ranks = distributed.get_world_size()
    own = torch.tensor(rows.shape, device=rows.device)
    shapes = [torch.empty_like(own) for _ in range(ranks)]
    distributed.all_gather(shapes, own)
    sizes = torch.stack(shapes).tolist()
    columns = max(width for _, width in sizes)
    widened = F.pad(rows, (0, columns - rows.shape[1]), value=fill)
    return Gathered(_Gather.apply(widened, [size for size, _ in sizes]), ranks)


class _Gather(Function):
    """Rows are padded to as many on every rank, for collectives want equal shapes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        longest = max(sizes)
        padded = F.pad(rows, (0, 0, 0, longest - len(rows))).contiguous()
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total.split(ctx.sizes)[distributed.get_rank()], None
