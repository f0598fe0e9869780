"""Measuring many maps at once is measuring each by itself."""

import numpy as np
import pytest
import torch

from mmattn.maps.methods import RawAttention
from mmattn.maps.quality.controls import CentredGaussian, Uniform
from mmattn.maps.quality.grounding import ground
from mmattn.maps.words import merge
from mmattn.recorder import Recorder
from mmattn.reports.measures import (
    Line,
    head_lines,
    head_maps,
    measure_perturbations,
    measure_regions,
)
from mmattn.reports.words import grounded_images, named_regions

RAW = Line("raw", (RawAttention(),))


@pytest.fixture
def parts(task, glyphs):
    task.eval()
    dataset = glyphs.splits.test["fonts"]
    return list(
        named_regions(
            task, glyphs, dataset, grounded_images(dataset, glyphs.eval_transform, 6).regions
        )
    )


def test_layers_and_heads_are_those_of_the_recorder(task, parts):
    batch = parts[0].batch
    recorder = Recorder(["text.*.cross"])
    with torch.no_grad():
        image = task.model.encode(batch.images)
        task.model.decode(image, batch.tokens, recorder)
    weights = recorder.stack("text.*.cross")[..., image.prefix :].unflatten(-1, image.grid)
    maps = head_maps(task.model, batch)
    lines = head_lines(task.model)
    assert [(line.layer, line.head) for line in lines] == [
        (0, None), (0, 0), (0, 1), (1, None), (1, 0), (1, 1),
    ]  # fmt: skip
    for i, line in enumerate(lines):
        own = weights[line.layer]
        own = own.mean(1) if line.head is None else own[:, line.head]
        np.testing.assert_allclose(maps[:, :, i], own.numpy(), rtol=1e-6)


def test_every_figure_of_every_word_is_that_of_its_map(task, parts):
    found = measure_regions(task.model, parts, [RAW, Line("uniform", (Uniform(),))])
    plain = []
    for part in parts:
        maps = RawAttention()(task.model, part.batch)[:, 0].numpy()
        for b, words in enumerate(part.words):
            for map, own in zip(merge(maps[b], words), part.regions[b], strict=True):
                plain.append((ground(map, own.mask), ground(map, own.mask, tolerance=1)))
    assert len(found.texts) == len(plain) >= 6
    raw = found.values["pointing"][:, 0], found.values["pointing_near"][:, 0]
    np.testing.assert_array_equal(raw[0], [exact.hit for exact, _ in plain])
    np.testing.assert_array_equal(raw[1], [near.hit for _, near in plain])
    np.testing.assert_allclose(found.values["energy"][:, 0], [g.energy for g, _ in plain])
    np.testing.assert_array_equal(found.chance, [g.chance for g, _ in plain])
    np.testing.assert_array_equal(found.near_chance, [g.pointing_chance for _, g in plain])
    np.testing.assert_array_equal(found.values["pointing"][:, 1], found.chance)
    # The method is the last layer's mean over heads, which is measured by layer and head as well.
    last = [(line.layer, line.head) for line in found.lines].index((1, None))
    for figure, values in found.values.items():
        np.testing.assert_allclose(values[:, last], values[:, 0], err_msg=figure)


def test_the_draws_of_a_control_are_averaged_after_measuring(task, parts):
    two = Line("both", (RawAttention(), CentredGaussian()), control=True)
    alone = [RAW, Line("gaussian", (CentredGaussian(),))]
    found = measure_regions(task.model, parts, [alone[0], two, alone[1]], heads=False)
    assert found.lines == (alone[0], two, alone[1])
    for values in found.values.values():
        assert values.shape == (len(found.texts), 3)
        np.testing.assert_allclose(values[:, 1], (values[:, 0] + values[:, 2]) / 2)


def test_perturbations_measure_the_word_that_is_named(task, parts):
    lines = [RAW, Line("uniform", (Uniform(),))]
    found = measure_perturbations(task.model, parts, lines, seed=0)
    again = measure_perturbations(task.model, parts, lines, seed=0)
    assert set(found.values) == {"deletion", "insertion", "road", "leave_one_out"}
    for figure, values in found.values.items():
        np.testing.assert_array_equal(values, again.values[figure])
        assert values.shape == (len(found.texts), 2)
    assert (found.values["leave_one_out"][:, 1] == 0).all()
    for figure in ("deletion", "insertion"):
        assert ((found.values[figure] > 0) & (found.values[figure] < 1)).all()
    assert abs(found.values["leave_one_out"][:, 0]).max() > 0


def test_no_word_gives_no_value(task):
    found = measure_regions(task.model, [], [RAW])
    assert found.values == {}
    assert found.texts == ()
