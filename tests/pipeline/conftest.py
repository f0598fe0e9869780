"""A small captioner, and pictures of which it has much to say."""

import numpy as np
import pytest
from PIL import Image

from mmattn.pipeline.pipeline import Pipeline


@pytest.fixture(scope="session")
def pipeline(make_captioner):
    return Pipeline(make_captioner())


@pytest.fixture(scope="session")
def photos():
    """Twelve arrays of different sizes and looks."""
    rng = np.random.default_rng(0)
    sizes = [(16, 24), (33, 20), (8, 9), (40, 61)]
    return [
        rng.integers(0, 256, (*sizes[i % 4], 3), np.uint8) // (1 + i % 5) + np.uint8(7 * i)
        for i in range(12)
    ]


@pytest.fixture
def folder(photos, tmp_path):
    """The first six as files, three of them in a folder below."""
    place = tmp_path / "photos"
    (place / "deep" / "er").mkdir(parents=True)
    for i, photo in enumerate(photos[:6]):
        below = place / "deep" / "er" if i % 2 else place
        Image.fromarray(photo).save(below / f"photo {i}.png")
    return place
