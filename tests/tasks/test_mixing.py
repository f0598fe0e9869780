"""Mixup and CutMix: images and labels are mixed in the same shares."""

import pytest
import torch

from mmattn.batch import IGNORE, LabelBatch
from mmattn.errors import ConfigError
from mmattn.tasks.mixing import Mixing


def batch(count: int = 4, texts: int = 4) -> LabelBatch:
    images = torch.arange(count, dtype=torch.float)[:, None, None, None].expand(-1, 3, 8, 8).clone()
    return LabelBatch(
        keys=tuple("abcdefgh"[:texts]),
        images=images,
        image_rows=torch.arange(texts)[:, None] % count,
        image_valid=None,
        tokens=torch.zeros(texts, 1, dtype=torch.long),
        valid=torch.ones(texts, 1, dtype=torch.bool),
        targets={"kind": torch.arange(texts), "tags": torch.eye(texts)},
    )


@pytest.mark.parametrize("alphas", [(1.0, 0.0), (0.0, 1.0)])
def test_labels_are_mixed_as_the_pixels_are(alphas):
    torch.manual_seed(0)
    mixed = Mixing(*alphas)(batch(), {"kind": 4, "tags": 4})
    assert mixed.images is not None
    target = mixed.targets["kind"]
    torch.testing.assert_close(target.sum(-1), torch.ones(4))
    torch.testing.assert_close(target, mixed.targets["tags"])
    # Image i is i everywhere, so that its mean says how much of which is in it.
    expected = target @ torch.arange(4.0)
    torch.testing.assert_close(mixed.images.mean((1, 2, 3)), expected)
    assert not torch.equal(target, torch.eye(4))


def test_what_is_mixed_with_no_label_has_none():
    torch.manual_seed(0)
    some = batch()
    some.targets["kind"][1] = IGNORE
    mixed = Mixing(1.0, 0.0)(some, {"kind": 4, "tags": 4})
    lost = (mixed.targets["kind"] == IGNORE).all(-1)
    assert lost.tolist() == [False, True, True, False]  # 1 itself, and 2, which is mixed with it


def test_shared_images_cannot_be_mixed():
    with pytest.raises(ValueError, match="one image each"):
        Mixing(1.0, 0.0)(batch(2, 4), {"kind": 4, "tags": 4})


def test_off_is_off():
    assert not Mixing(0.0, 0.0)
    with pytest.raises(ConfigError, match="must not be negative"):
        Mixing(-1.0, 0.0)
