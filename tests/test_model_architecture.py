"""A captioner's architecture goes to plain values and back; what does not fit is one message."""

import json
from dataclasses import asdict, fields
from inspect import signature
from typing import Any

import pytest
import timm
import torch
from torch import nn

from mmattn.architecture import PATCHES, construct, describe
from mmattn.backbones import TimmPatches
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.errors import CheckpointError
from mmattn.interop.timm_vit import convert_timm_vit
from mmattn.patches import ConvStem, LinearPatches, PatchEmbedding
from mmattn.pooling import AttentionPooler
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

SIZE = (32, 48)
# Every option of the blocks unlike its default.
UNLIKE = BlockOptions(
    heads=4,
    kv_heads=2,
    mlp_ratio=2.5,
    norm="rms",
    pre_norm=False,
    activation="swiglu",
    qk_norm="rms",
    layer_scale=0.1,
    bias=False,
    context_norm=True,
    dropout=0.1,
    attention_dropout=0.2,
    drop_path=0.3,
    norm_eps=1e-3,
)
RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16]}


def patches(kind: str) -> PatchEmbedding:
    if kind == "linear":
        return LinearPatches(16, 16, channels=3)
    if kind == "linear, hidden":
        return LinearPatches(16, 16, hidden=20)
    if kind == "conv_stem":
        return ConvStem([4, 6, 8, 8], [2, 2, 2, 2], 16)
    return TimmPatches("resnet18", 16, SIZE, level=-2, frozen=True, options=RESNET)


def make_vision(kind: str = "linear", block: BlockOptions | None = None, **options):
    return VisionTransformer(SIZE, patches(kind), 2, block or BlockOptions(heads=4), **options)


def make_text(context_dim: int = 16, block: BlockOptions | None = None, **options):
    block = block or BlockOptions(heads=4)
    return TextTransformer(11, 16, 3, block, max_length=9, context_dim=context_dim, **options)


def timm_vit() -> VisionTransformer:
    model = timm.create_model(
        "vit_small_patch14_reg4_dinov2", img_size=(28, 42), embed_dim=24, depth=2, num_heads=3
    )
    return convert_timm_vit(model)


def coca() -> Captioner:
    pooler = AttentionPooler(5, 12, 3, 16, norm="rms", norm_eps=1e-5)
    vision = make_vision(class_token=True, embed_norm="layer", pooler=pooler)
    block = BlockOptions(heads=4, context_norm=True, activation="quick_gelu")
    return Captioner(
        vision, make_text(12, block, layout=["self", "self", "cross"], tie_embeddings=False)
    )


def bert() -> Captioner:
    text = make_text(
        block=BlockOptions(heads=2, pre_norm=False),
        position="sinusoidal",
        embed_norm="layer",
        head_transform=True,
        head_bias=True,
        gradient_checkpointing=True,
    )
    return Captioner(make_vision(registers=3, position="rotary", gradient_checkpointing=True), text)


CAPTIONERS = {
    "plain": lambda: Captioner(make_vision(), make_text()),
    "bridged": lambda: Captioner(make_vision(), make_text(12)),
    "linear, hidden": lambda: Captioner(make_vision("linear, hidden"), make_text()),
    "convolutional stem": lambda: Captioner(make_vision("conv_stem", position="none"), make_text()),
    "timm's backbone": lambda: Captioner(make_vision("timm"), make_text()),
    "timm's transformer": lambda: Captioner(timm_vit(), make_text(24)),
    "CoCa": coca,
    "BERT's decoder": bert,
    "unlike all defaults": lambda: Captioner(
        make_vision(block=UNLIKE, class_token=True), make_text(block=UNLIKE, position="rotary")
    ),
    "layouts": lambda: Captioner(make_vision(), make_text(layout=["both", "cross", "self"])),
}


@pytest.fixture(params=CAPTIONERS, scope="module")
def model(request) -> Captioner:
    torch.manual_seed(0)
    return CAPTIONERS[request.param]()


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def plain_values(model: Captioner) -> dict[str, Any]:
    """What a file would hold."""
    return json.loads(json.dumps(describe(model)))


def test_from_plain_values_comes_the_same_architecture(model):
    again = construct(plain_values(model))
    assert shapes(again) == shapes(model)
    assert describe(again) == describe(model) == plain_values(model)


@torch.no_grad()
def test_with_the_same_weights_come_the_same_outputs(model):
    again = construct(plain_values(model))
    again.load_state_dict(model.state_dict())
    size = model.vision.image_size
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 11, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.eval()(images, tokens), model.eval()(images, tokens))


def test_the_caller_keeps_what_was_described(model):
    values = plain_values(model)
    before = json.dumps(values)
    construct(values)
    assert json.dumps(values) == before


def test_weights_are_drawn_anew_and_none_are_downloaded():
    torch.manual_seed(0)
    vision = VisionTransformer(SIZE, patches("timm"), 1, BlockOptions(heads=4))
    values = describe(Captioner(vision, make_text()))
    assert values["vision"]["patches"]["pretrained"] is False
    assert values["vision"]["patches"]["frozen"] is True
    assert not any(p.requires_grad for p in construct(values).vision.patches.backbone.parameters())


@pytest.mark.parametrize(
    "part",
    [
        patches("linear"),
        patches("linear, hidden"),
        patches("conv_stem"),
        patches("timm"),
        AttentionPooler(5, 12, 3, 16),
        make_vision(),
        make_text(),
    ],
    ids=lambda part: type(part).__name__,
)
def test_settings_are_all_the_constructors_parameters(part):
    assert part.settings().keys() == signature(type(part)).parameters.keys()


def test_the_blocks_options_are_written_with_their_names():
    names = {field.name for field in fields(BlockOptions)}
    assert asdict(UNLIKE).keys() == names
    assert all(asdict(UNLIKE)[name] != getattr(BlockOptions(heads=1), name) for name in names)
    captioner = CAPTIONERS["unlike all defaults"]()
    for part in (captioner.vision, captioner.text):
        assert part.settings()["block"] == asdict(UNLIKE)
    assert construct(describe(captioner)).text.block_options == UNLIKE


def test_every_kind_of_patches_has_a_name():
    assert set(PATCHES) == {"linear", "conv_stem", "timm"}
    for kind in PATCHES:
        values = describe(Captioner(make_vision(kind), make_text()))
        assert values["vision"]["patches"]["kind"] == kind


class OtherVision(VisionTransformer):
    """Somebody's own."""


class OtherText(TextTransformer):
    """Somebody's own."""


class OtherCaptioner(Captioner):
    """Somebody's own."""


class OtherPatches(LinearPatches):
    """Somebody's own."""


def with_other_patches() -> Captioner:
    return Captioner(
        VisionTransformer(SIZE, OtherPatches(16, 16), 1, BlockOptions(heads=4)), make_text()
    )


def with_other_vision() -> Captioner:
    return Captioner(OtherVision(SIZE, patches("linear"), 1, BlockOptions(heads=4)), make_text())


def with_other_text() -> Captioner:
    text = OtherText(11, 16, 1, BlockOptions(heads=4), max_length=9, context_dim=16)
    return Captioner(make_vision(), text)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (with_other_vision, r"the vision is a .*\.OtherVision: only VisionTransformer itself"),
        (with_other_text, r"the text is a .*\.OtherText: only TextTransformer itself"),
        (
            lambda: OtherCaptioner(make_vision(), make_text()),
            r"the captioner is a .*\.OtherCaptioner: only Captioner itself",
        ),
        (
            with_other_patches,
            "the patch embedding is a OtherPatches: only linear, conv_stem, timm can be written",
        ),
    ],
)
def test_what_is_not_this_librarys_own_is_refused_by_name(make, said):
    with pytest.raises(CheckpointError, match=said):
        describe(make())


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("vision", ..., "^model has no section 'vision'$"),
        ("text", [1], "^model has no section 'text'$"),
        ("vision.patches", ..., "^vision has no section 'patches'$"),
        ("vision.block", ..., "^vision has no section 'block'$"),
        ("text.block", None, "^text has no section 'block'$"),
        ("vision.pooler", 5, "^vision has no section 'pooler'$"),
        (
            "vision.patches.kind",
            ...,
            "^vision.patches.kind is None; known: linear, conv_stem, timm",
        ),
        ("vision.patches.kind", "magic", "^vision.patches.kind is 'magic'; known: linear"),
        ("vision.later", 1, "^vision.later: this version of mmattn has no such setting"),
        ("text.later", 1, "^text.later: this version of mmattn has no such setting"),
        ("text.block.later", 1, "^text.block.later: this version of mmattn has no such setting"),
        ("vision.patches.later", 1, "^vision.patches.later: this version"),
        ("vision.pooler.later", 1, "^vision.pooler.later: this version of mmattn"),
        ("text.depth", ..., "^text: .*(missing|required).*depth"),
        ("text.layout", ["self"], "^text: layout has 1 entries and depth is 3"),
        ("text.causal", False, "^model: a captioner needs a causal text transformer"),
        ("vision.position", "alibi", "^vision: position is 'alibi'; choose learned"),
        ("vision.pooler.heads", 5, "^vision.pooler: dim=12 does not divide by heads=5"),
        ("vision.image_size", [33, 48], "^vision: an image of 33x48 does not divide"),
    ],
)
def test_values_that_do_not_fit_are_one_message(set_at, path, value, said):
    values = plain_values(coca())
    set_at(values, path, value)
    with pytest.raises(CheckpointError, match=said):
        construct(values)


def test_a_backbone_that_timm_does_not_have_is_one_message():
    values = plain_values(Captioner(make_vision("timm"), make_text()))
    values["vision"]["patches"]["name"] = "resnet1"
    with pytest.raises(CheckpointError, match=r"^vision\.patches: timm has no model 'resnet1'"):
        construct(values)
