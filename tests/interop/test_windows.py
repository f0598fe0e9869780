"""Swin's windows go back to where they are on the image, against a brute force and timm's block."""

from itertools import product

import pytest
import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import nn

from mmattn.interop.foreign_attention import record
from mmattn.interop.windows import window_positions, windows_to_grid

# grid, window, shift; the last one does not divide
CASES = [
    ((4, 6), (2, 3), (0, 0)),
    ((8, 4), (4, 4), (2, 0)),
    ((4, 6), (2, 2), (1, 1)),
    ((5, 7), (3, 4), (1, 2)),
]


def brute_force_positions(grid, window, shift):
    """Token by token: where it is in the rolled grid, then where it came from."""
    (rows, columns), positions = grid, []
    for i, j in product(range(0, rows, window[0]), range(0, columns, window[1])):
        positions.append([])
        for a, b in product(range(window[0]), range(window[1])):
            inside = i + a < rows and j + b < columns
            place = (i + a + shift[0]) % rows * columns + (j + b + shift[1]) % columns
            positions[-1].append(place if inside else -1)
    return torch.tensor(positions)


@pytest.mark.parametrize(("grid", "window", "shift"), CASES)
def test_positions_equal_a_brute_force(grid, window, shift):
    positions = window_positions(grid, window, shift)
    assert torch.equal(positions, brute_force_positions(grid, window, shift))
    real = positions[positions >= 0]
    assert torch.equal(real.sort().values, torch.arange(grid[0] * grid[1]))


def test_positions_by_hand():
    assert window_positions((2, 4), (2, 2)).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert window_positions((2, 4), (2, 2), (0, 1)).tolist() == [[1, 2, 5, 6], [3, 0, 7, 4]]
    assert window_positions((1, 3), (1, 2)).tolist() == [[0, 1], [2, -1]]


def brute_force_maps(maps, positions, size):
    windows, tokens = positions.shape
    full = torch.zeros(len(maps) // windows, maps.shape[1], size, size)
    for image, w in product(range(len(full)), range(windows)):
        for q, k in product(range(tokens), range(tokens)):
            if positions[w, q] >= 0 and positions[w, k] >= 0:
                here = maps[image * windows + w, :, q, k]
                full[image, :, positions[w, q], positions[w, k]] = here
    return full


@pytest.mark.parametrize(("grid", "window", "shift"), CASES)
def test_maps_equal_a_brute_force(grid, window, shift):
    torch.manual_seed(0)
    positions, size = window_positions(grid, window, shift), grid[0] * grid[1]
    windows, tokens = positions.shape
    maps = torch.rand(3 * windows, 2, tokens, tokens)
    expected = brute_force_maps(maps, positions, size)
    assert torch.equal(windows_to_grid(maps, positions), expected)
    some = [size - 1, 0, 5]
    assert torch.equal(windows_to_grid(maps, positions, some), expected[:, :, some])


@pytest.mark.parametrize("shift", [0, 2])
def test_maps_over_the_grid_times_values_are_what_timms_block_attends(shift):
    torch.manual_seed(0)
    block = SwinTransformerBlock(12, (8, 12), 3, window_size=4, shift_size=shift).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    block.attn.proj = nn.Identity()
    x = torch.randn(2, 8, 12, 12)
    with torch.no_grad(), record(block) as recorder:
        attended = block._attn(x).flatten(1, 2)  # [B, S, H·K]
        v = block.attn.qkv(x)[..., 24:].reshape(2, 96, 3, 4).transpose(1, 2)
    positions = window_positions(block.input_resolution, block.window_size, block.shift_size)
    maps = windows_to_grid(recorder.maps["attn"], positions)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3, 96))
    expected = (maps @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attended, expected, atol=1e-5, rtol=0)


def test_maps_of_other_windows_are_refused():
    positions = window_positions((4, 4), (2, 2))
    with pytest.raises(ValueError, match=r"\(6, 1, 4, 4\) are not those of 4 windows of 4 tokens"):
        windows_to_grid(torch.rand(6, 1, 4, 4), positions)
    with pytest.raises(ValueError, match="record all rows"):
        windows_to_grid(torch.rand(4, 1, 1, 4), positions)
    with pytest.raises(ValueError, match=r"rows are positions from 0 to 15, not \[16\]"):
        windows_to_grid(torch.rand(4, 1, 4, 4), positions, [16])
