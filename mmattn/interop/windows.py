"""Where on the image the windows of a shifted-window transformer lie (Swin, Liu et al. 2021).

Swin rolls its grid of tokens up and to the left by `shift`, cuts it into windows, row by row, and
attends within each. The maps of such a call are per window, [B·W, H, M, M]. Here they go back to
where their queries and keys are on the image.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def window_positions(
    grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int] = (0, 0)
) -> Int[Tensor, "W M"]:
    """Return the position on the grid of each of the M tokens of each of the W windows.

    A position is row·columns + column. Tokens that only fill a window up, where the window does not
    divide the grid, are -1.

    Args:
        grid: (rows, columns) of the tokens that the block works on.
        window: (rows, columns) of a window.
        shift: by how many (rows, columns) the grid is rolled.

    The numbers of a block of timm's are `block.input_resolution`, `block.window_size` and
    `block.shift_size`. A block whose window covers the grid is not shifted there.
    """
    rows, columns = grid
    positions = torch.arange(rows * columns).view(rows, columns)
    positions = positions.roll((-shift[0], -shift[1]), (0, 1))
    positions = F.pad(positions, (0, -columns % window[1], 0, -rows % window[0]), value=-1)
    windows = positions.unflatten(1, (-1, window[1])).unflatten(0, (-1, window[0]))
    return windows.transpose(1, 2).reshape(-1, window[0] * window[1])


def windows_to_grid(
    maps: Float[Tensor, "BW H queries keys"],
    positions: Int[Tensor, "W M"],
    rows: Iterable[int] | None = None,
) -> Float[Tensor, "B H R S"]:
    """Return windowed maps as maps over the S positions of the grid.

    Args:
        maps: [B·W, H, M, M], all rows of all windows, as recorded: image by image, then window
            by window.
        positions: what each window's tokens stand for, from `window_positions`.
        rows: positions of the R queries to return; all S if None, which takes W times the memory
            of `maps`.

    A key outside of the query's window has weight zero. Weight on tokens that fill a window up is
    on no position, so that such rows sum to less than 1.

    Raises:
        ValueError: where the maps are not those of these windows, or a row is not on the grid.
    """
    windows, tokens = positions.shape
    if len(maps) % windows or maps.shape[2:] != (tokens, tokens):
        raise ValueError(
            f"maps of shape {tuple(maps.shape)} are not those of {windows} windows of {tokens} "
            "tokens: record all rows, and take grid, window and shift of the block that made them"
        )
    positions = positions.to(maps.device)
    size = int(positions.max()) + 1
    queries = torch.arange(size) if rows is None else torch.tensor(list(rows))
    if ((queries < 0) | (queries >= size)).any():
        raise ValueError(f"rows are positions from 0 to {size - 1}, not {queries.tolist()}")
    order = positions.flatten().argsort()[-size:]  # where each position is; those of -1 come first
    found = order[queries.to(order.device)]
    window, token = found // tokens, found % tokens
    within = maps.unflatten(0, (-1, windows))[:, window, :, token]  # [R, B, H, M]
    keys = positions[window].where(positions[window] >= 0, size)  # one place more, for no position
    out = within.new_zeros(*within.shape[:-1], size + 1)
    out.scatter_(-1, keys[:, None, None].expand_as(within), within)
    return out[..., :size].permute(1, 2, 0, 3)
