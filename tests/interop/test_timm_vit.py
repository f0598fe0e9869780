"""Converted vision transformers give timm's outputs; what we cannot express is refused."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import vision_transformer as timm_vit
from torch import nn

from mmattn.backbones import create_timm_model
from mmattn.errors import CheckpointError
from mmattn.interop.timm_vit import convert_timm_vit, timm_vision_transformer

SMALL = {"embed_dim": 24, "depth": 3, "num_heads": 3}
PATCH_16 = {**SMALL, "img_size": (32, 48)}
PATCH_14 = {**SMALL, "img_size": (28, 42)}

# timm's name -> further options; the prefix of each as (class token?, registers)
EXPRESSIBLE = {
    "vit_tiny_patch16_224": (PATCH_16, True, 0),
    "deit_tiny_distilled_patch16_224": (PATCH_16, True, 1),
    "vit_small_patch14_dinov2": (PATCH_14, True, 0),
    "vit_small_patch14_reg4_dinov2": (PATCH_14, True, 4),
    "deit3_small_patch16_224": (PATCH_16, True, 0),
    "vit_base_patch16_clip_224": (PATCH_16, True, 0),
    "vit_base_patch16_siglip_224": (PATCH_16, False, 0),
    "vit_so400m_patch14_siglip_224": (PATCH_14, False, 0),
}
VARIANTS = {
    "query and key norm": {"qk_norm": True},
    "no query, key and value bias": {"qkv_bias": False},
    "root mean square norms": {"norm_layer": "rmsnorm", "qk_norm": True},
    "registers with positions": {"reg_tokens": 2, "no_embed_class": False},
    "grey images": {"in_chans": 1},
    "no class scores": {"num_classes": 0},
}


def randomised(model: nn.Module) -> nn.Module:
    """Give every parameter a value that matters: scales, norms, tokens and positions too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def assert_equal_outputs(reference, size: tuple[int, int], channels: int = 3, **options):
    """Convert `reference`, and compare the tokens of two images of `size`. Returns ours."""
    model = convert_timm_vit(reference, **options).eval()
    images = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = model(images), reference.forward_features(images)
    assert theirs.abs().mean() > 0.1
    torch.testing.assert_close(ours.tokens, theirs, atol=1e-5, rtol=1e-5)
    assert ours.prefix == reference.num_prefix_tokens
    assert ours.grid[0] * ours.grid[1] == theirs.shape[1] - ours.prefix
    return model


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_outputs_equal_timms(name):
    options, class_token, registers = EXPRESSIBLE[name]
    reference = randomised(timm.create_model(name, **options))
    model = assert_equal_outputs(reference, options["img_size"])
    assert model.class_token is class_token
    assert model.prefix == class_token + registers
    assert model.depth == 3


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_outputs_of_variants_equal_timms(options):
    reference = randomised(timm.create_model("vit_tiny_patch16_224", **PATCH_16, **options))
    assert_equal_outputs(reference, (32, 48), options.get("in_chans", 3))


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "deit3_small_patch16_224",
        "vit_base_patch16_clip_224",
        "vit_base_patch16_siglip_224",
    ],
)
@pytest.mark.parametrize("size", [(48, 80), (64, 32), (16, 16)])
def test_outputs_at_another_size_equal_timms(name, size):
    reference = randomised(timm.create_model(name, **PATCH_16, dynamic_img_size=True))
    assert_equal_outputs(reference, size)
    resized = assert_equal_outputs(reference, size, image_size=size)
    assert resized.grid == (size[0] // 16, size[1] // 16)


def test_gradients_equal_timms():
    reference = randomised(timm.create_model("vit_tiny_patch16_224", **PATCH_16))
    model = convert_timm_vit(reference).eval()
    images = torch.randn(2, 3, 32, 48, requires_grad=True)
    ours = torch.autograd.grad(model(images).tokens.square().sum(), images)
    theirs = torch.autograd.grad(reference.forward_features(images).square().sum(), images)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("class_token", [True, False])
def test_a_norm_that_timm_applies_to_the_mean_is_applied_to_every_token(class_token):
    reference = randomised(
        timm.create_model(
            "vit_tiny_patch16_224", **PATCH_16, global_pool="avg", class_token=class_token
        )
    )
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        expected = reference.fc_norm(reference.forward_features(images))
        tokens = convert_timm_vit(reference).eval()(images).tokens
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)


def test_the_conversion_copies_and_leaves_the_reference_alone():
    reference = randomised(timm.create_model("vit_tiny_patch16_224", **PATCH_16))
    before = {name: value.clone() for name, value in reference.state_dict().items()}
    model = convert_timm_vit(reference)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[n]) for n, value in reference.state_dict().items())


UNSUPPORTED = [
    ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1), "embed_dim": 12}, "SwinTransformer"),
    ("eva02_tiny_patch14_224", PATCH_14, "Eva is not a plain .* with rotary positions"),
    ("eva_giant_patch14_224", {**SMALL, "img_size": 28}, "Eva is not a plain vision transformer"),
    ("vit_small_patch16_rope_ape_224", {"depth": 1}, "with rotary positions: use .*TimmPatches"),
    ("test_vit_relpos", {}, "VisionTransformerRelPos is not a plain vision transformer"),
    ("resnet18", {}, "ResNet is not a plain vision transformer"),
    ("vit_giant_patch14_dinov2", PATCH_14, "GluMlp in the place of Mlp"),
    ("vit_base_patch16_clip_quickgelu_224", PATCH_16, "activation QuickGELU"),
    ("vit_tiny_r_s16_p8_224", {**SMALL, "img_size": 32}, "HybridEmbed in the place of PatchEmbed"),
    ("vit_small_patch16_18x2_224", PATCH_16, "ParallelThingsBlock in the place of Block"),
]
UNSUPPORTED_OPTIONS = [
    ({"block_fn": timm_vit.ResPostBlock}, "ResPostBlock in the place of Block"),
    ({"attn_layer": "diff"}, "DiffAttention in the place of Attention"),
    ({"scale_mlp_norm": True}, r"mlp\.norm\.bias, mlp\.norm\.weight: not supported"),
    ({"scale_attn_norm": True}, r"attn\.norm\.bias, attn\.norm\.weight: not supported"),
    ({"patch_size": (16, 8)}, "patches that are not square"),
    ({"pos_embed": "none"}, "no learned positions"),
    ({"final_norm": False}, "no final normalisation"),
    ({"norm_layer": "simplenorm"}, "normalisation SimpleNorm"),
    ({"proj_bias": False}, r"missing blocks\.0\.self_attention\.to_out\.bias"),
]


@pytest.mark.parametrize(("name", "options", "message"), UNSUPPORTED)
def test_other_architectures_are_refused_by_name(name, options, message):
    with pytest.raises(ValueError, match=message):
        timm_vision_transformer(name, options=options)


@pytest.mark.parametrize(("options", "message"), UNSUPPORTED_OPTIONS)
def test_what_our_blocks_do_not_express_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        timm_vision_transformer("vit_tiny_patch16_224", options={**PATCH_16, **options})


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_local_file_of_weights_is_loaded(tmp_path, suffix):
    reference = randomised(timm.create_model("vit_tiny_patch16_224", **PATCH_16))
    state, path = reference.state_dict(), tmp_path / f"w.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    model = timm_vision_transformer(
        "vit_tiny_patch16_224", pretrained=str(path), options=PATCH_16
    ).eval()
    images = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        expected = reference.forward_features(images)
        torch.testing.assert_close(model(images).tokens, expected, atol=1e-5, rtol=1e-5)


def test_a_file_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(create_timm_model("vit_tiny_patch16_224", options=PATCH_16).state_dict(), path)
    deeper = {**PATCH_16, "depth": 4}
    with pytest.raises(CheckpointError, match=r"12 differences: missing blocks\.3\.norm1\.weight"):
        timm_vision_transformer("vit_tiny_patch16_224", pretrained=str(path), options=deeper)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="timm has no model 'vit_tiny_patch16_22'; nearest: "):
        timm_vision_transformer("vit_tiny_patch16_22")


def test_training_options_are_ours():
    model = timm_vision_transformer(
        "vit_tiny_patch16_224",
        image_size=(64, 32),
        dropout=0.1,
        attention_dropout=0.2,
        drop_path=0.3,
        gradient_checkpointing=True,
        options=PATCH_16,
    )
    assert model.grid == (4, 2)
    assert model.position_table.shape == (8, 24)
    assert model.gradient_checkpointing
    assert [b.mlp_residual.dropout for b in model.blocks] == [0.1] * 3
    assert [b.self_attention.dropout for b in model.blocks] == [0.2] * 3
    assert [b.mlp_residual.drop_path for b in model.blocks] == pytest.approx([0, 0.15, 0.3])
