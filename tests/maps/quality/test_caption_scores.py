from dataclasses import replace

import pytest
import torch

from mmattn.errors import ConfigError
from mmattn.maps.quality.caption_scores import CaptionScorer


def plain(captioner, images, batch, index):
    """The log-probability of every token of a caption, for one picture after another."""
    rows = []
    for image in images:
        with torch.no_grad():
            scores = captioner(image[None], batch.tokens[index][None])[0, 0].log_softmax(-1)
        labels = batch.labels[index, 0]
        rows.append([float(scores[t, label]) for t, label in enumerate(labels) if label >= 0])
    return torch.tensor(rows)


def test_scores_are_those_of_one_picture_after_another(captioner, batch):
    expected = plain(captioner, batch.images, batch, 3)
    for chunk in (1, 3, 128):
        scorer = replace(CaptionScorer.of(captioner, batch, 3), chunk=chunk)
        found = scorer.log_probs(batch.images, [1, 3])
        torch.testing.assert_close(found, expected[:, [1, 3]], rtol=1e-4, atol=1e-5)


def test_a_word_has_the_product_of_its_tokens(captioner, batch):
    scorer = CaptionScorer.of(captioner, batch, 0)
    expected = plain(captioner, batch.images, batch, 0)[:, :3].sum(1)
    torch.testing.assert_close(
        scorer.log_prob(batch.images, [0, 1, 2]), expected, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        scorer.probability(batch.images, [0, 1, 2]), expected.exp(), rtol=1e-4, atol=1e-6
    )


def test_features_cannot_be_perturbed(captioner, batch):
    with pytest.raises(ConfigError, match="needs its pixels"):
        CaptionScorer.of(captioner, replace(batch, cached=True), 0)
