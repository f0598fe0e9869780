"""CLIPScore and RefCLIPScore are those of Hessel et al. 2021, written down with numpy."""

import numpy as np
import pytest
import torch

from mmattn.metrics.clip_score import clip_score, ref_clip_score


@pytest.fixture
def vectors():
    """Embeddings of 6 images, 6 captions, and references of each, of any length."""
    rng = np.random.default_rng(0)
    images, captions = rng.normal(size=(2, 6, 5))
    counts = [1, 3, 2, 1, 2, 4]
    return images, captions, [rng.normal(size=(n, 5)) for n in counts]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def plain(images, captions, references):
    """The scores of the paper's section 3, image by image."""
    found = []
    for image, caption, known in zip(images, captions, references, strict=True):
        clip = 2.5 * max(unit(image) @ unit(caption), 0)
        best = max(max(unit(known) @ unit(caption)), 0)
        both = 2 / (1 / clip + 1 / best) if clip and best else 0
        found.append((clip, both))
    return np.array(found)


def test_scores_equal_a_plain_twin(vectors):
    images, captions, references = vectors
    wanted = plain(images, captions, references)
    assert (wanted == 0).any()
    assert (wanted > 0).any()
    seen, said = torch.from_numpy(images), torch.from_numpy(captions)
    scores = clip_score(seen, said)
    of = torch.tensor([i for i, known in enumerate(references) for _ in known])
    known = torch.from_numpy(np.concatenate(references))
    both = ref_clip_score(scores, said, known, of)
    assert scores.numpy() == pytest.approx(wanted[:, 0], abs=1e-12)
    assert both.numpy() == pytest.approx(wanted[:, 1], abs=1e-12)


def test_what_fits_perfectly_scores_most():
    same = torch.tensor([[3.0, 4.0]])
    score = clip_score(same, 2 * same)
    assert float(score) == pytest.approx(2.5)
    both = ref_clip_score(score, same, same, torch.tensor([0]))
    assert float(both) == pytest.approx(2 * 2.5 / 3.5)
    other = torch.tensor([[-4.0, 3.0]])
    assert float(clip_score(same, other)) == pytest.approx(0, abs=1e-7)
    assert float(ref_clip_score(score, same, -same, torch.tensor([0]))) == 0
