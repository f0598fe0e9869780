"""An image encoder to go on from is the one that was written, at the size that is asked for."""

import pytest
import torch

from mmattn.errors import ConfigError
from mmattn.model_folder.encoders import vision_of
from mmattn.model_folder.format import write_folder


@pytest.mark.parametrize("kind", ["captioner", "classifier"])
def test_it_is_the_encoder_that_was_written_ready_to_be_trained(
    make_captioner, make_classifier, tmp_path, kind
):
    bundle = make_captioner() if kind == "captioner" else make_classifier()
    vision = vision_of(write_folder(bundle, tmp_path / "model"))
    wanted = bundle.model.vision.state_dict()
    assert wanted.keys() == vision.state_dict().keys()
    assert all(torch.equal(wanted[name], value) for name, value in vision.state_dict().items())
    assert vision.training
    assert all(parameter.requires_grad for parameter in vision.parameters())


def test_another_size_interpolates_its_positions(make_captioner, tmp_path):
    bundle = make_captioner()
    folder = write_folder(bundle, tmp_path / "model")
    vision = vision_of(folder, [24, 32])
    images = torch.randn(2, 3, 24, 32)
    assert vision.image_size == (24, 32)
    # The encoder takes other sizes anyway; resizing it for good changes nothing.
    torch.testing.assert_close(vision.eval()(images).tokens, bundle.model.vision(images).tokens)


def test_what_has_no_such_encoder_is_refused(make_classifier, make_captioner, tmp_path):
    texts = write_folder(make_classifier(vision=False), tmp_path / "texts")
    with pytest.raises(ConfigError, match="it has no image encoder"):
        vision_of(texts)
    images = write_folder(make_captioner(), tmp_path / "images")
    with pytest.raises(ConfigError, match=r"image_size=\[17, 24\]"):
        vision_of(images, [17, 24])
