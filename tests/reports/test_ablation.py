"""What a uniform attention costs: measured on all images at once, as on each by itself."""

import numpy as np
import pytest
import torch

from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.maps.quality.ablation import token_scores, uniform_attention
from mmattn.reports.ablation import changes_of, measure_uniform
from mmattn.reports.words import BATCH, grounded_images, named_regions
from mmattn.text import TextTransformer


@pytest.fixture
def dataset(glyphs):
    return glyphs.splits.test["fonts"]


def test_every_token_of_every_image_is_scored_by_every_model(task, glyphs, dataset):
    task.eval()
    regions = grounded_images(dataset, glyphs.eval_transform, BATCH + 2).regions  # two batches
    found = measure_uniform(task.model, named_regions(task, glyphs, dataset, regions))
    models = [task.model, *(uniform_attention(task.model, i) for i in ([0], [1], None))]
    assert found.changes == (0, 1, None)
    assert list(dict.fromkeys(found.images.tolist())) == list(regions)
    assert found.log_probs.shape == found.hits.shape == (len(found.images), 4)
    for index in list(regions)[::20]:
        (part,) = named_regions(task, glyphs, dataset, {index: regions[index]})
        with torch.no_grad():
            image = task.model.encode(part.batch.images)
        own = [token_scores(model, image, part.batch) for model in models]
        here = found.images == index
        expected = torch.stack([scores.log_probs for scores in own], 1)
        np.testing.assert_allclose(found.log_probs[here], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found.hits[here], torch.stack([s.hits for s in own], 1))
    assert len(np.unique(found.log_probs[0])) == 4


def test_a_model_that_looks_nowhere_in_particular_loses_nothing(task, glyphs, dataset):
    task.model = uniform_attention(task.model)
    parts = named_regions(
        task, glyphs, dataset, grounded_images(dataset, glyphs.eval_transform, 3).regions
    )
    found = measure_uniform(task.model.eval(), parts)
    np.testing.assert_array_equal(found.log_probs, found.log_probs[:, :1].repeat(4, 1))
    np.testing.assert_array_equal(found.hits, found.hits[:, :1].repeat(4, 1))


def test_of_one_layer_there_is_one_change(task):
    text = TextTransformer(9, 16, 1, BlockOptions(heads=2), max_length=4, context_dim=16)
    assert changes_of(Captioner(task.model.vision, text)) == (None,)
    assert changes_of(task.model) == (0, 1, None)
