"""The centre crop that rounds down, beside torchvision's and by counting pixels."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from mmattn.data.preprocessing import Preprocessing
from mmattn.data.transforms import CenterCropDown

side = st.integers(1, 24)


@given(side, side, side, side)
def test_the_middle_is_cut_out_and_the_first_margin_is_the_smaller(h, w, height, width):
    image = torch.arange(1, h * w + 1).view(1, h, w).expand(3, h, w)
    out = CenterCropDown((height, width))(image)
    assert out.shape == (3, height, width)
    for axis, (have, want) in enumerate([(h, height), (w, width)], start=1):
        margin = (have - want) // 2 if have >= want else -((want - have) // 2)
        shown = min(have, want)
        inside = out.narrow(axis, max(-margin, 0), shown)
        assert inside.count_nonzero() == out.count_nonzero()  # around the picture are zeros
    top, left = max((h - height) // 2, 0), max((w - width) // 2, 0)
    there = out[out > 0].view(3, min(h, height), min(w, width))
    assert torch.equal(there, image[:, top:, left:][:, : there.shape[1], : there.shape[2]])


def test_even_margins_are_torchvisions():
    image = torch.randint(256, (3, 20, 31), dtype=torch.uint8)
    assert torch.equal(CenterCropDown((10, 25))(image), v2.CenterCrop([10, 25])(image))
    one_further = v2.CenterCrop([10, 24])(image)  # 3.5 rounds to 4
    assert torch.equal(one_further, image[:, 5:15, 4:28])
    assert torch.equal(CenterCropDown((10, 24))(image), image[:, 5:15, 3:27])


def test_preprocessing_keeps_which_of_the_two_it_is():
    down = Preprocessing((24, 24), 30, (24, 24), "bilinear", (0.0,) * 3, (1.0,) * 3, "down")
    for one in (down, Preprocessing(**{**vars(down), "crop_rounding": "even"})):
        assert Preprocessing.of_settings(one.settings()) == one
        assert Preprocessing.of_transform(one.transform(), (24, 24)) == one
