"""From a picture to the network's input, and to what is kept of it."""

import numpy as np
import pytest
import torch

from mmattn.data.preprocessing import Preprocessing
from mmattn.errors import DataError
from mmattn.maps.geometry import Placement
from mmattn.pipeline.pictures import Picture
from mmattn.pipeline.preparation import Preparation

STRETCH = Preprocessing((16, 24), (16, 24), None, "bicubic", (0.5,) * 3, (0.25,) * 3)
CROP = Preprocessing((16, 16), 20, (16, 16), "bilinear", (0.0,) * 3, (1.0,) * 3, "down")
NOTHING = Preprocessing((16, 24), None, None, "bilinear", (0.0,) * 3, (1.0,) * 3)
PADDED = Preprocessing((16, 24), None, (16, 24), "bilinear", (0.0,) * 3, (1.0,) * 3)


def picture(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (3, height, width), dtype=torch.uint8, generator=generator)
    return Picture("owl.png", lambda: pixels, 0)


@pytest.mark.parametrize("preprocessing", [STRETCH, CROP, PADDED])
@pytest.mark.parametrize("size", [(16, 24), (40, 30), (1, 1), (3, 200), (900, 40)])
def test_the_network_gets_what_the_transform_makes(preprocessing, size):
    one = picture(*size)
    found = Preparation(preprocessing, keep=False)(one)
    assert torch.equal(found.pixels, preprocessing.transform()(one.read()))
    assert found.pixels.shape == (3, *preprocessing.size)
    assert found.original is None


def test_the_original_is_kept_with_the_place_of_what_the_network_sees():
    kept = Preparation(CROP, keep=True)(picture(40, 60)).original
    assert kept.image.shape == (40, 60, 3)
    assert np.array_equal(kept.image, picture(40, 60).read().permute(1, 2, 0).numpy())
    assert kept.placement == Placement((40, 60), (4.0, 14.0, 36.0, 46.0))


def test_a_large_original_is_kept_small_and_its_own_size_is_known():
    kept = Preparation(STRETCH, keep=True)(picture(1024, 2048)).original
    assert kept.image.shape == (256, 512, 3)
    assert kept.placement.size == (1024, 2048)


def test_what_is_kept_does_not_change_with_what_the_user_has():
    pixels = torch.zeros(2, 3, 3, dtype=torch.uint8).permute(2, 0, 1)  # in memory as images are
    kept = Preparation(STRETCH, keep=True)(Picture("it", lambda: pixels, 0)).original
    pixels.fill_(9)
    assert not kept.image.any()


def test_a_thread_of_pixels_that_would_fill_the_memory_when_resized_is_refused():
    for size in ((1, 201), (50_000, 20)):
        with pytest.raises(
            DataError, match=r"^owl.png has [\d,]+ x [\d,]+ pixels: one side is more"
        ):
            Preparation(CROP, keep=False)(picture(*size))
    assert Preparation(CROP, keep=False)(picture(1, 200)).pixels.shape == (3, 16, 16)
    assert Preparation(STRETCH, keep=False)(picture(1, 2000)).pixels.shape == (3, 16, 24)


def test_a_model_that_does_not_resize_takes_pictures_of_its_size_only():
    assert Preparation(NOTHING, keep=False)(picture(16, 24)).pixels.shape == (3, 16, 24)
    with pytest.raises(
        DataError, match=r"^owl.png has 16 x 24 pixels, and this model takes 24 x 16"
    ):
        Preparation(NOTHING, keep=False)(picture(24, 16))


def test_what_reading_says_is_passed_on():
    def read():
        raise DataError("no")

    with pytest.raises(DataError, match=r"^no$"):
        Preparation(STRETCH, keep=True)(Picture("it", read, 0))
