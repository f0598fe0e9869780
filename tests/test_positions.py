"""Rotations keep lengths and depend on distances alone; tables interpolate as timm's do."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers.pos_embed import resample_abs_pos_embed

from mmattn.positions import (
    LearnedPositions,
    Rotation,
    frequencies,
    image_rotation,
    image_sinusoids,
    resize_positions,
    rotate,
    sinusoids,
    text_rotation,
)

GRID = st.tuples(st.integers(1, 5), st.integers(1, 5))


def double(rotation: Rotation) -> Rotation:
    return Rotation(rotation.cos.double(), rotation.sin.double())


def scores(rotation: Rotation) -> torch.Tensor:
    """q_t·k_s for one q and one k that stand at every place."""
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 2 * rotation.cos.shape[1], generator=generator)
    length = len(rotation.cos)
    q, k = (rotate(x.expand(1, 1, length, -1), rotation)[0, 0] for x in (q, k))
    return q @ k.T


def test_a_rotation_multiplies_complex_pairs_by_unit_numbers():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    pairs = torch.complex(x[..., :4], x[..., 4:])
    speeds = torch.tensor([10_000.0 ** (-i / 4) for i in range(4)], dtype=torch.float64)
    places = torch.arange(7, 12, dtype=torch.float64)
    turned = pairs * torch.polar(torch.ones(5, 4).double(), places[:, None] * speeds)
    expected = torch.cat([turned.real, turned.imag], dim=-1)
    torch.testing.assert_close(rotate(x, text_rotation(5, 8, 7)), expected, atol=2e-6, rtol=0)


def test_no_rotation_leaves_everything():
    x = torch.randn(1, 2, 3, 4)
    assert rotate(x, None) is x


@given(st.integers(0, 50), st.integers(1, 6), st.integers(1, 4))
def test_a_rotation_keeps_lengths(start, length, half):
    torch.manual_seed(0)
    x = torch.randn(1, 2, length, 2 * half, dtype=torch.float64)
    turned = rotate(x, double(text_rotation(length, 2 * half, start)))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-6, rtol=1e-6)


@given(st.integers(1, 60))
def test_text_scores_depend_on_the_distance_alone(start):
    here, there = scores(text_rotation(5, 8)), scores(text_rotation(5, 8, start))
    torch.testing.assert_close(here, there, atol=5e-5, rtol=0)
    torch.testing.assert_close(here[1:, 1:], here[:-1, :-1], atol=5e-5, rtol=0)
    assert (here[0, 0] - here[0, 1:]).abs().min() > 1e-3


def test_image_scores_depend_on_the_offset_alone():
    height, width = 4, 3
    by_place = scores(image_rotation((height, width), 8)).view(height, width, height, width)
    torch.testing.assert_close(by_place[1:, :, 1:], by_place[:-1, :, :-1], atol=5e-6, rtol=0)
    torch.testing.assert_close(by_place[:, 1:, :, 1:], by_place[:, :-1, :, :-1], atol=5e-6, rtol=0)
    down, right = by_place[0, 0, 1, 0], by_place[0, 0, 0, 1]
    assert (down - right).abs() > 1e-3  # rows and columns are told apart


def test_half_of_each_pair_turns_with_the_row_and_half_with_the_column():
    rotation = image_rotation((2, 3), 8)
    angles = torch.atan2(rotation.sin, rotation.cos).view(2, 3, 4)
    speeds = torch.tensor([1.0, 0.1])  # base 100, two speeds
    for y in range(2):
        for x in range(3):
            expected = torch.cat([y * speeds, x * speeds])
            torch.testing.assert_close(angles[y, x], expected, atol=1e-6, rtol=0)


@given(GRID, st.integers(0, 4))
def test_prefix_tokens_are_not_turned(grid, prefix):
    torch.manual_seed(0)
    rotation = image_rotation(grid, 8, prefix)
    x = torch.randn(1, 2, prefix + math.prod(grid), 8)
    turned = rotate(x, rotation)
    assert torch.equal(turned[:, :, :prefix], x[:, :, :prefix])
    patches = rotate(x[:, :, prefix:], image_rotation(grid, 8))
    assert torch.equal(turned[:, :, prefix:], patches)


def test_rotations_do_not_change_the_type():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 3, 4).bfloat16()
    assert rotate(x, text_rotation(3, 4)).dtype == torch.bfloat16
    moved = text_rotation(3, 4).to(torch.device("meta"))
    assert moved.cos.is_meta
    assert moved.sin.is_meta


def test_frequencies_fall_from_one_in_even_steps_of_the_logarithm():
    torch.testing.assert_close(frequencies(4), torch.tensor([1.0, 0.1, 0.01, 0.001]))


def test_sinusoids_are_the_papers():
    codes = sinusoids(6, 8)
    for place in range(6):
        for i in range(4):
            angle = place / 10_000 ** (2 * i / 8)
            assert codes[place, i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert codes[place, 4 + i] == pytest.approx(math.cos(angle), abs=1e-6)


def test_image_sinusoids_are_the_row_then_the_column():
    codes = image_sinusoids((3, 5), 8).view(3, 5, 8)
    for row in range(3):
        for column in range(5):
            expected = torch.cat([sinusoids(3, 4)[row], sinusoids(5, 4)[column]])
            torch.testing.assert_close(codes[row, column], expected)


@settings(max_examples=30)
@given(GRID, GRID)
def test_tables_interpolate_as_timms_do(old, new):
    torch.manual_seed(0)
    table = torch.randn(math.prod(old), 6)
    ours = resize_positions(table, old, new)
    theirs = resample_abs_pos_embed(
        table[None], new_size=list(new), old_size=list(old), num_prefix_tokens=0
    )
    torch.testing.assert_close(ours, theirs[0], atol=1e-5, rtol=0)


def test_interpolation_keeps_type_and_constants():
    table = torch.full((6, 4), 2.5, dtype=torch.bfloat16)
    resized = resize_positions(table, (2, 3), (5, 4))
    assert resized.dtype == torch.bfloat16
    torch.testing.assert_close(resized, torch.full((20, 4), 2.5, dtype=torch.bfloat16))
    assert resize_positions(table, (2, 3), (2, 3)) is table


def test_learned_positions_are_rows_of_a_table_that_ends():
    positions = LearnedPositions(5, 3)
    torch.nn.init.normal_(positions.table)
    assert torch.equal(positions(3), positions.table[:3])
    assert torch.equal(positions(2, start=3), positions.table[3:])
    with pytest.raises(ValueError, match="6 tokens is longer than max_length=5"):
        positions(2, start=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: text_rotation(3, 5), "even head width; it is 5"),
        (lambda: image_rotation((2, 2), 6), "divisible by 4, not 6"),
        (lambda: sinusoids(3, 5), "even width; it is 5"),
        (lambda: image_sinusoids((2, 2), 6), "divisible by 4; it is 6"),
    ],
)
def test_widths_that_do_not_divide_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
