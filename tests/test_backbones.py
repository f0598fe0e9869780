"""Any timm backbone is a patch embedding; a frozen one stays as it is."""

import math

import pytest
import timm
import torch
from safetensors.torch import save_file

from mmattn.backbones import TimmPatches, create_timm_model
from mmattn.errors import CheckpointError

SMALL_SWIN = {"img_size": (64, 32), "depths": (1, 1, 1, 1), "embed_dim": 16}
SMALL_VIT = {"img_size": (64, 32), "depth": 2, "embed_dim": 24}

# (name, level, grid of an image of 64x32, options)
BACKBONES = [
    ("mobilenetv2_100", -1, (2, 1), {}),
    ("mobilenetv2_100", 2, (8, 4), {}),
    ("resnet18", -2, (4, 2), {}),
    ("resnet18", 0, (32, 16), {}),
    ("swin_tiny_patch4_window7_224", -1, (2, 1), SMALL_SWIN),
    ("swin_tiny_patch4_window7_224", 1, (8, 4), SMALL_SWIN),
    ("swin_tiny_patch4_window7_224", "final", (2, 1), SMALL_SWIN),
    ("convnext_atto", -1, (2, 1), {}),
    ("convnext_atto", "final", (2, 1), {}),
    ("vit_tiny_patch16_224", 0, (4, 2), SMALL_VIT),
]


def make_images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "level", "grid", "options"), BACKBONES)
def test_a_feature_level_becomes_a_grid_of_patches(name, level, grid, options):
    patches = TimmPatches(name, 6, (64, 32), level=level, options=options).eval()
    assert patches.grid((64, 32)) == grid
    features = patches.features(make_images())
    if level == "final":
        assert features.shape[1] == patches.backbone.num_features
    else:
        info = patches.backbone.feature_info[level]
        assert features.shape[1] == info["num_chs"]
        assert grid == (64 // info["reduction"], 32 // info["reduction"])
    assert patches.project.weight.shape == (6, features.shape[1], 1, 1)
    out = patches(make_images())
    assert out.shape == (2, 6, *grid)
    weight, bias = patches.project.weight[:, :, 0, 0], patches.project.bias
    expected = torch.einsum("bfhw,df->bdhw", features, weight) + bias[:, None, None]
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def test_the_final_level_is_what_timm_hands_to_its_classifier():
    patches = TimmPatches(
        "swin_tiny_patch4_window7_224", 6, (64, 32), level="final", options=SMALL_SWIN
    ).eval()
    features = patches.backbone.forward_features(make_images())
    assert torch.equal(patches.features(make_images()), features.permute(0, 3, 1, 2))


def test_levels_are_counted_from_either_end():
    patches = TimmPatches("test_resnet", 6, (64, 32), level=1)
    expected = patches.eval().features(make_images())
    patches.level = 1 - len(patches.backbone.feature_info)
    assert torch.equal(patches.features(make_images()), expected)


def test_several_levels_are_averaged_to_the_coarsest_grid():
    options = {"level": ["final", -2, 2], "frozen": True}  # in any order; early ones come first
    patches = TimmPatches("mobilenetv2_100", 6, (64, 32), **options)
    found = patches.features(make_images())
    assert patches.grid((64, 32)) == (2, 1)
    maps = []
    for level in (2, 3, "final"):
        one = TimmPatches("mobilenetv2_100", 6, (64, 32), level=level, frozen=True)
        one.backbone.load_state_dict(patches.backbone.state_dict())
        maps.append(one.features(make_images()))
    assert [each.shape[1] for each in maps] == [32, 96, 1280]
    for each, part in zip(maps, found.split([32, 96, 1280], 1), strict=True):
        factor = each.shape[2] // 2
        torch.testing.assert_close(part, torch.nn.functional.avg_pool2d(each, factor))
    torch.testing.assert_close(patches(make_images()), patches.project(found))


def test_levels_are_normalised_each_by_itself():
    patches = TimmPatches("resnet18", 6, (64, 32), level=[1, -1], level_norm=True).eval()
    found = patches.features(make_images())
    patches.project = torch.nn.Identity()
    for part in patches.embed(found * 7).split([64, 512], 1):
        torch.testing.assert_close(part.mean(1), torch.zeros_like(part.mean(1)), atol=1e-5, rtol=0)
        variance = part.var(1, unbiased=False)
        torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-3, rtol=0)


def test_whole_channels_are_dropped_in_training():
    options = {"level": -1, "channel_dropout": 0.5, "frozen": True}
    patches = TimmPatches("resnet18", 6, (64, 64), **options)
    patches.project = torch.nn.Identity()
    found = torch.rand(2, 512, 2, 2) + 1
    torch.manual_seed(0)
    dropped = patches.embed(found) == 0
    assert torch.equal(dropped.any((2, 3)), dropped.all((2, 3)))
    assert 0.4 < dropped.float().mean() < 0.6
    assert torch.equal(patches.eval().embed(found), found)


def test_a_channel_dropout_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"channel_dropout=1\.0: give 0 or more"):
        TimmPatches("resnet18", 6, (64, 32), channel_dropout=1.0)


def test_no_level_is_refused():
    with pytest.raises(ValueError, match=r"level=\[\]: name at least one"):
        TimmPatches("resnet18", 6, (64, 32), level=[])


@pytest.mark.parametrize("level", [5, -6])
def test_a_level_out_of_range_is_refused(level):
    with pytest.raises(ValueError, match=f"level={level}, but the backbone has 5 feature levels"):
        TimmPatches("test_resnet", 6, (64, 32), level=level)


def test_the_grid_of_another_size_is_found_when_asked_for():
    patches = TimmPatches("test_resnet", 6, (64, 32)).double()
    assert patches.grid((32, 96)) == (1, 3)
    assert patches(torch.zeros(1, 3, 32, 96).double()).shape == (1, 6, 1, 3)


def test_finding_the_grid_leaves_the_backbone_as_it_was():
    patches = TimmPatches("test_resnet", 6, (64, 32))
    before = {name: value.clone() for name, value in patches.backbone.state_dict().items()}
    patches.grid((32, 96))
    assert all(torch.equal(v, before[n]) for n, v in patches.backbone.state_dict().items())
    assert patches.backbone.training
    patches.eval().grid((96, 32))
    assert not any(module.training for module in patches.modules())


def test_a_frozen_backbone_gets_no_gradient_and_stays_in_evaluation():
    patches = TimmPatches("test_resnet", 6, (64, 32), frozen=True)
    for mode in (True, False, True):
        assert patches.train(mode) is patches
        assert patches.project.training is mode
        assert not any(module.training for module in patches.backbone.modules())
    before = {name: value.clone() for name, value in patches.backbone.state_dict().items()}
    out = patches(make_images())
    out.sum().backward()
    assert all(p.grad is None for p in patches.backbone.parameters())
    assert not any(p.requires_grad for p in patches.backbone.parameters())
    assert not patches.features(make_images().requires_grad_()).requires_grad
    assert patches.project.weight.grad.abs().max() > 0
    assert all(torch.equal(v, before[n]) for n, v in patches.backbone.state_dict().items())


def test_a_backbone_that_is_not_frozen_learns():
    patches = TimmPatches("test_resnet", 6, (64, 32)).train()
    patches(make_images()).square().sum().backward()
    gradients = {name: p.grad for name, p in patches.backbone.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    assert gradients["conv1.0.weight"].abs().max() > 0
    with torch.no_grad():
        assert not patches.features(make_images()).requires_grad


def test_tokens_are_not_a_map():
    with pytest.raises(ValueError, match="gives tokens, not a map; use a level by number"):
        TimmPatches("vit_tiny_patch16_224", 6, (64, 32), level="final", options=SMALL_VIT)


@pytest.mark.parametrize(
    ("name", "near"), [("resnet_18", "resnet18"), ("vit_tiny_patch16_22", "vit_tiny_patch16_224")]
)
def test_an_unknown_name_is_refused_with_the_nearest_ones(name, near):
    with pytest.raises(ValueError, match=rf"timm has no model '{name}'; nearest: .*\b{near}\b"):
        create_timm_model(name)


def test_a_name_like_no_other_has_no_near_one():
    with pytest.raises(ValueError, match="nearest: none"):
        create_timm_model("~~~~~~~~~~~~~~~~~~~~~~~~")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_local_file_of_weights_is_loaded(tmp_path, suffix):
    torch.manual_seed(0)
    state, path = timm.create_model("test_resnet").state_dict(), tmp_path / f"w.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    patches = TimmPatches("test_resnet", 6, (32, 32), pretrained=str(path))
    loaded = patches.backbone.state_dict()
    assert len(loaded) > 10
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())


def test_a_file_that_does_not_fit_is_refused(tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth does not fit EfficientNet: \d+ differences"):
        create_timm_model("test_efficientnet", str(tmp_path / "w.pth"))


def test_options_reach_timm():
    model = create_timm_model("vit_tiny_patch16_224", options=SMALL_VIT)
    assert model.embed_dim == 24
    assert math.prod(model.patch_embed.grid_size) == 8
