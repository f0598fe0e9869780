"""Patch embeddings see their own pixels, on a grid that must divide the image."""

import pytest
import torch

from mmattn.patches import ConvStem, LinearPatches, check_divides


def test_a_linear_patch_is_a_linear_map_of_its_pixels():
    torch.manual_seed(0)
    patches, images = LinearPatches(4, 6), torch.randn(2, 3, 8, 12)
    out = patches(images)
    assert out.shape == (2, 6, 2, 3)
    weight = patches.project.weight.flatten(1)
    for row in range(2):
        for column in range(3):
            pixels = images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].flatten(1)
            expected = pixels @ weight.T + patches.project.bias
            torch.testing.assert_close(out[:, :, row, column], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("hidden", [None, 10])
def test_linear_patches_do_not_mix(hidden):
    torch.manual_seed(0)
    patches = LinearPatches(4, 6, hidden=hidden)
    images = torch.randn(1, 3, 8, 12)
    changed = images.clone()
    changed[:, :, 4:, 8:] += 1
    moved = (patches(changed) - patches(images)).abs().amax(1)[0] > 1e-6
    assert moved.tolist() == [[False, False, False], [False, False, True]]


def test_a_hidden_layer_is_a_network_of_each_patch():
    torch.manual_seed(0)
    patches, images = LinearPatches(4, 6, channels=1, hidden=10), torch.randn(2, 1, 4, 4)
    assert sum(p.numel() for p in patches.parameters()) == 16 * 10 + 10 + 10 * 6 + 6
    hidden = images.flatten(1) @ patches.project.weight.flatten(1).T + patches.project.bias
    last = patches.mix[1]
    expected = torch.nn.functional.gelu(hidden) @ last.weight.flatten(1).T + last.bias
    torch.testing.assert_close(patches(images)[:, :, 0, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("strides", "size", "grid"),
    [([2, 2, 2], (16, 24), (2, 3)), ([2, 1, 2], (16, 24), (4, 6)), ([4], (16, 8), (4, 2))],
)
def test_a_stem_reduces_by_the_product_of_its_strides(strides, size, grid):
    stem = ConvStem([4, 5, 6][: len(strides)], strides, 7)
    assert stem.grid(size) == grid
    assert stem(torch.randn(2, 3, *size)).shape == (2, 7, *grid)


def test_a_stem_takes_any_number_of_channels():
    assert ConvStem([4], [2], 6, channels=1)(torch.randn(2, 1, 4, 4)).shape == (2, 6, 2, 2)


def test_a_stem_has_one_width_for_each_stride():
    with pytest.raises(ValueError, match="channels_out has 2 entries and strides 3"):
        ConvStem([4, 5], [2, 2, 2], 6)


@pytest.mark.parametrize("embedding", [LinearPatches(4, 6), ConvStem([4, 4], [2, 2], 6)])
@pytest.mark.parametrize("size", [(10, 8), (8, 10)])
def test_a_size_that_does_not_divide_is_refused_with_both_numbers(embedding, size):
    message = f"an image of {size[0]}x{size[1]} does not divide into patches of 4x4"
    with pytest.raises(ValueError, match=message):
        embedding.grid(size)
    with pytest.raises(ValueError, match=message):
        embedding(torch.zeros(1, 3, *size))


def test_a_grid_is_rows_then_columns():
    assert check_divides((28, 56), 14) == (2, 4)
