"""A model is built without drawing weights, and nothing else about it is other."""

import pytest
import torch
from torch import nn

from mmattn import assembly as module
from mmattn.architecture import construct, describe
from mmattn.assembly import WithoutDrawing, assembled, skeleton
from mmattn.backbones import TimmPatches
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.errors import CheckpointError
from mmattn.patches import ConvStem, PatchEmbedding
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

TIMM = {
    "mobilenetv2_035": {},
    "vit_tiny_patch16_224": {"depth": 1, "embed_dim": 16, "num_heads": 2, "img_size": 32},
    "swin_tiny_patch4_window7_224": {
        **{"embed_dim": 8, "depths": [2, 1], "num_heads": [1, 2]},
        **{"window_size": 2, "img_size": 32},
    },
    "eva02_tiny_patch14_224": {"depth": 1, "img_size": 28},  # rotary positions in buffers
}


def make_model(size=(16, 16), patches: PatchEmbedding | None = None) -> Captioner:
    block = BlockOptions(heads=2)
    vision = VisionTransformer(size, patches or ConvStem([4, 4], [2, 2], 8), 1, block)
    return Captioner(vision, TextTransformer(30, 8, 2, block, max_length=12, context_dim=8))


@pytest.fixture
def architecture():
    return describe(make_model())


def test_no_weight_is_drawn(architecture):
    before = torch.get_rng_state()
    with WithoutDrawing():
        construct(architecture)
    assert torch.equal(torch.get_rng_state(), before)
    construct(architecture)
    assert not torch.equal(torch.get_rng_state(), before)  # as it otherwise is


def test_random_numbers_go_on_as_if_nothing_had_been_built(architecture):
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    skeleton(architecture, "here")
    assert torch.equal(torch.rand(4), wanted)


@pytest.mark.parametrize("name", TIMM)
def test_buffers_and_shapes_are_those_of_the_plain_construction(name):
    """Buffers that a constructor computes and no state dict holds are the reason not to use
    torch's meta device."""
    size = (28, 28) if "patch14" in name else (32, 32)
    architecture = describe(make_model(size, TimmPatches(name, 8, size, options=TIMM[name])))
    plain, built = construct(architecture).eval(), skeleton(architecture, "here")
    buffers = dict(built.named_buffers())
    assert dict(plain.named_buffers()).keys() == buffers.keys()
    for buffer_name, value in plain.named_buffers():
        assert torch.equal(value, buffers[buffer_name]), buffer_name
    shapes = {key: (p.shape, p.requires_grad) for key, p in built.named_parameters()}
    assert shapes == {key: (p.shape, p.requires_grad) for key, p in plain.named_parameters()}
    assert built.vision.grid == plain.vision.grid


def test_only_parameters_are_left_as_they_are():
    with WithoutDrawing():
        layer, plain = nn.Linear(3, 2), torch.zeros(4)
        plain.add_(1).mul_(3)
        layer.weight.requires_grad_(False)
        nn.init.ones_(layer.bias)
    assert plain.tolist() == [3.0] * 4
    assert not layer.weight.requires_grad
    assert layer.bias.tolist() == [1.0, 1.0]


def test_what_a_constructor_refuses_is_one_line_with_its_source(architecture):
    architecture["text"]["block"]["heads"] = 0
    with pytest.raises(CheckpointError, match=r"^here: this architecture cannot be built \(.+\)$"):
        skeleton(architecture, "here")
    architecture["text"]["block"]["heads"] = 3
    with pytest.raises(CheckpointError, match=r"^here: .*3"):
        skeleton(architecture, "here")


def test_an_interruption_is_no_mistake_in_the_architecture(architecture, monkeypatch):
    def interrupted(architecture):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "construct", interrupted)
    with pytest.raises(KeyboardInterrupt):
        skeleton(architecture, "here")


@pytest.mark.parametrize("patches", [None, TimmPatches("mobilenetv2_035", 8, (32, 32))])
@torch.no_grad()
def test_an_assembled_model_computes_what_the_one_with_these_weights_does(patches):
    plain = make_model((32, 32), patches).eval()
    state = plain.state_dict()
    built = assembled(describe(plain), state, "here")
    assert not any(module.training for module in built.modules())
    images, tokens = torch.rand(2, 3, 32, 32), torch.arange(10).view(2, 1, 5)
    expected = plain(images, tokens)
    assert torch.equal(built(images, tokens), expected)
    for value in state.values():  # what was read may change, or go, afterwards
        value.zero_()
    assert torch.equal(built(images, tokens), expected)


def test_weights_of_another_architecture_are_refused(architecture):
    state = make_model().state_dict()
    del state["text.norm.bias"]
    with pytest.raises(CheckpointError, match=r"^here does not fit .* missing text\.norm\.bias"):
        assembled(architecture, state, "here")
