import numpy as np
import pytest
import torch

from mmattn.backbones import TimmPatches
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
