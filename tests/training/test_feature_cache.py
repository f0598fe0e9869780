import os

import numpy as np
import pytest
import torch
from PIL import Image

from mmattn.backbones import TimmPatches
from mmattn.data.labelled.example import Example
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError
from mmattn.patches import LinearPatches
from mmattn.training.feature_cache import FeatureCache

SIZE = (64, 64)
TRANSFORM = ToNormalised([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])


class Pictures:
    """Five random pictures; counts how often one is read."""

    def __init__(self):
        self.read = 0

    def __len__(self):
        return 5

    def key(self, index):
        return f"picture-{index}"

    def captions(self, index):
        return (f"picture {index}",)

    def image(self, index):
        self.read += 1
        generator = torch.Generator().manual_seed(index)
        return torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8)


@pytest.fixture
def patches():
    torch.manual_seed(0)
    return TimmPatches("mobilenetv2_035", 16, SIZE, frozen=True)


def cache(folder, patches, transform=TRANSFORM):
    return FeatureCache(folder, patches, transform, batch_size=2, device=torch.device("cpu"))


def test_features_are_those_of_the_backbone_to_half_precision(tmp_path, patches):
    pictures = Pictures()
    features = cache(tmp_path, patches)(pictures)
    assert len(features) == len(pictures)
    for i in range(len(pictures)):
        expected = patches.features(TRANSFORM(pictures.image(i))[None])[0]
        assert features.image(i).dtype == torch.float32
        torch.testing.assert_close(features.image(i), expected, rtol=2e-3, atol=2e-3)
        assert (features.key(i), features.captions(i)) == (pictures.key(i), pictures.captions(i))


def test_a_second_run_reads_no_picture(tmp_path, patches):
    cache(tmp_path, patches)(Pictures())
    again = Pictures()
    features = cache(tmp_path, patches)(again)
    assert again.read == 0
    assert np.isfinite(features.image(4).numpy()).all()


def test_other_weights_another_transform_or_other_pictures_are_encoded_anew(tmp_path, patches):
    cache(tmp_path, patches)(Pictures())
    other = Pictures()
    cache(tmp_path, patches, ToNormalised([0.4, 0.5, 0.5], [0.5, 0.5, 0.5]))(other)
    assert other.read == len(other)
    with torch.no_grad():
        next(iter(patches.backbone.parameters())).mul_(1.01)
    changed = Pictures()
    cache(tmp_path, patches)(changed)
    assert changed.read == len(changed)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.fixture
def labelled(tmp_path):
    """Examples of photos in a folder, two of them of one photo."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", SIZE, (80 * i, 0, 0)).save(folder / f"{i}.png")
    examples = [Example(str(i), {"a": "x"}, (f"{i % 3}.png",)) for i in range(4)]
    return LabelledSet(examples, FolderStore(folder))


def test_labelled_images_are_encoded_once_and_anew_when_a_file_changes(tmp_path, patches, labelled):
    folder = tmp_path / "features"
    features = labelled.with_pictures(cache(folder, patches)(labelled.pictures))
    for i in range(len(labelled)):
        expected = patches.features(TRANSFORM(labelled.images(i)[0])[None])[0]
        torch.testing.assert_close(features.images(i)[0], expected, rtol=2e-3, atol=2e-3)
    cache(folder, patches)(labelled.pictures)
    assert len(list(folder.iterdir())) == 1
    Image.new("RGB", SIZE, "white").save(labelled.store.root / "2.png")
    again = cache(folder, patches)(labelled.pictures)
    assert not torch.equal(again.image(2), features.images(2)[0])
    assert torch.equal(again.image(1), features.images(1)[0])


def test_a_file_with_the_time_and_size_of_the_old_one_goes_unnoticed(tmp_path, patches, labelled):
    """As the class says."""
    cache(tmp_path / "features", patches)(labelled.pictures)
    path = labelled.store.root / "0.png"
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    cache(tmp_path / "features", patches)(labelled.pictures)
    assert len(list((tmp_path / "features").iterdir())) == 1


def test_what_learns_can_still_be_trained_after_encoding(tmp_path, patches):
    features = cache(tmp_path, patches)(Pictures())
    patches.project(features.image(0)[None]).sum().backward()
    assert patches.project.weight.grad is not None
    assert all(parameter.grad is None for parameter in patches.backbone.parameters())


def test_an_interrupted_encoding_leaves_nothing(tmp_path, patches):
    class Broken(Pictures):
        def image(self, index):
            if index == 3:
                raise KeyboardInterrupt
            return super().image(index)

    with pytest.raises(KeyboardInterrupt):
        cache(tmp_path, patches)(Broken())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "unfit", [LinearPatches(8, 16), TimmPatches("mobilenetv2_035", 16, SIZE, frozen=False)]
)
def test_an_encoder_that_learns_is_refused(tmp_path, unfit):
    with pytest.raises(ConfigError, match="frozen"):
        cache(tmp_path, unfit)
