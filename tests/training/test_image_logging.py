import numpy as np

from mmattn.training.image_logging import same_size


def test_pictures_get_paper_of_their_own_colour_and_keep_their_pixels():
    wide = np.full((2, 5, 3), 7, np.uint8)
    wide[-1, -1] = [1, 2, 3]
    tall = np.full((4, 3, 3), 9, np.uint8)
    a, b = same_size([wide, tall])
    assert a.shape == b.shape == (4, 5, 3)
    assert a.dtype == b.dtype == np.uint8
    assert (a[:2] == wide).all()
    assert (a[2:] == [1, 2, 3]).all()
    assert (b[:, :3] == tall).all()
    assert (b[:, 3:] == 9).all()


def test_equal_sizes_stay_as_they_are():
    pictures = [np.random.default_rng(i).integers(0, 256, (3, 3, 3), np.uint8) for i in range(2)]
    for before, after in zip(pictures, same_size(pictures), strict=True):
        assert (before == after).all()
