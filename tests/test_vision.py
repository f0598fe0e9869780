"""The vision transformer on any grid, with prefix tokens; a pretrained backbone stays as it is."""

import pytest
import torch
from torch import nn

from mmattn.backbones import TimmPatches
from mmattn.batch import ImageTokens
from mmattn.blocks import BlockOptions
from mmattn.patches import ConvStem, LinearPatches, PatchEmbedding
from mmattn.positions import image_sinusoids, resize_positions
from mmattn.vision import VisionTransformer, pool

POSITIONS = ["learned", "sinusoidal", "rotary", "none"]


def make_vision(
    size=(8, 12), depth=2, *, patches: PatchEmbedding | None = None, block=None, **options
) -> VisionTransformer:
    torch.manual_seed(0)
    patches = patches or LinearPatches(4, 16)
    block = BlockOptions(**{"heads": 2, **(block or {})})
    return VisionTransformer(size, patches, depth, block, **options)


def make_images(height=8, width=12) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(
    ("options", "prefix"), [({}, 0), ({"class_token": True}, 1), ({"registers": 3}, 3)]
)
def test_an_image_becomes_prefix_tokens_then_patches(position, options, prefix):
    model = make_vision(position=position, **options)
    image = model(make_images())
    assert image.tokens.shape == (2, prefix + 2 * 3, 16)
    assert image.grid == (2, 3)
    assert image.prefix == model.prefix == prefix
    larger = model(make_images(12, 16))
    assert larger.tokens.shape == (2, prefix + 3 * 4, 16)
    assert larger.grid == (3, 4)


def test_no_registers_is_the_plain_model_and_registers_change_it():
    plain, none = make_vision(class_token=True), make_vision(class_token=True, registers=0)
    assert plain.state_dict().keys() == none.state_dict().keys()
    assert torch.equal(plain(make_images()).tokens, none(make_images()).tokens)
    some = make_vision(class_token=True, registers=2)
    assert some.prefix_tokens.shape == (3, 16)
    some.load_state_dict(
        {**plain.state_dict(), "prefix_tokens": some.prefix_tokens.detach()}, strict=True
    )
    difference = some(make_images()).tokens[:, 3:] - plain(make_images()).tokens[:, 1:]
    assert difference.abs().max() > 1e-4


def test_without_positions_patches_are_a_set():
    torch.manual_seed(0)
    model = make_vision(position="none", class_token=True).double()
    patches, order = torch.randn(2, 16, 2, 3).double(), torch.randperm(6)
    shuffled = patches.flatten(2)[:, :, order].view(2, 16, 2, 3)
    tokens, moved = model.encode_patches(patches).tokens, model.encode_patches(shuffled).tokens
    torch.testing.assert_close(moved[:, 1:], tokens[:, 1:][:, order], atol=1e-10, rtol=0)
    torch.testing.assert_close(moved[:, 0], tokens[:, 0], atol=1e-10, rtol=0)


@pytest.mark.parametrize("position", POSITIONS[:3])
def test_with_positions_patches_are_not(position):
    model, patches = make_vision(position=position).double(), torch.randn(2, 16, 2, 3).double()
    flipped = model.encode_patches(patches.flip(-1)).tokens.view(2, 2, 3, 16).flip(2)
    difference = flipped - model.encode_patches(patches).tokens.view(2, 2, 3, 16)
    assert difference.abs().max() > 1e-4


def test_positions_are_added_to_patches_and_not_to_prefix_tokens():
    x = torch.randn(2, 6, 16)
    model = make_vision(class_token=True, registers=1)
    embedded = model.embed(x, (2, 3))
    assert torch.equal(embedded[:, :2], model.prefix_tokens.expand(2, 2, 16))
    assert torch.equal(embedded[:, 2:], x + model.position_table)
    resized = model.embed(x, (3, 2))[:, 2:] - x
    table = resize_positions(model.position_table, (2, 3), (3, 2)).expand(2, 6, 16)
    torch.testing.assert_close(resized, table, atol=1e-6, rtol=0)
    waves = make_vision(position="sinusoidal").embed(x, (3, 2))
    torch.testing.assert_close(waves, x + image_sinusoids((3, 2), 16))


def test_a_norm_may_come_before_the_blocks():
    model = make_vision(depth=0, class_token=True, embed_norm="layer", block={"norm_eps": 0.1})
    x = torch.cat([model.prefix_tokens.expand(2, 1, 16), torch.zeros(2, 6, 16)], dim=1)
    x[:, 1:] += model.position_table
    expected = nn.functional.layer_norm(x, (16,), eps=0.1)
    torch.testing.assert_close(model.embed(torch.zeros(2, 6, 16), (2, 3)), expected)


def test_depth_zero_leaves_the_patch_embeddings():
    model = make_vision(depth=0, position="none", block={"pre_norm": False})
    patches = model.patches(make_images())
    assert torch.equal(model(make_images()).tokens, patches.flatten(2).transpose(1, 2))


def test_resize_interpolates_for_good_what_forward_interpolates_each_time():
    model, images = make_vision(class_token=True).eval(), make_images(12, 8)
    each_time = model(images)
    model.resize((12, 8))
    assert model.grid == (3, 2)
    assert model.position_table.shape == (6, 16)
    assert torch.equal(model(images).tokens, each_time.tokens)
    with pytest.raises(ValueError, match="10x8 does not divide"):
        model.resize((10, 8))


def test_resize_without_learned_positions_sets_the_grid():
    model = make_vision(position="rotary")
    model.resize((16, 4))
    assert model.grid == (4, 1)


@pytest.mark.parametrize("size", [(9, 12), (8, 10)])
def test_a_size_that_does_not_divide_is_refused(size):
    message = f"an image of {size[0]}x{size[1]} does not divide into patches of 4x4"
    with pytest.raises(ValueError, match=message):
        make_vision(size)
    with pytest.raises(ValueError, match=message):
        make_vision()(make_images(*size))


def test_unknown_positions_are_refused():
    with pytest.raises(ValueError, match="'2d'; choose learned, sinusoidal, rotary or none"):
        make_vision(position="2d")


def test_pool_takes_the_class_token_or_the_mean_of_the_patches():
    tokens = torch.arange(2 * 5 * 3.0).view(2, 5, 3)
    image = ImageTokens(tokens, (2, 2), 1)
    assert torch.equal(pool(image, "class"), tokens[:, 0])
    assert torch.equal(pool(image, "mean"), tokens[:, 1:].mean(1))
    with pytest.raises(ValueError, match="set class_token=true or pool='mean'"):
        pool(ImageTokens(tokens[:, 1:], (2, 2), 0), "class")
    with pytest.raises(ValueError, match="pool is 'max'"):
        pool(image, "max")


def run(checkpointing: bool, position: str):
    """Return the output and all gradients of a seeded training pass with every dropout."""
    block = {"dropout": 0.1, "attention_dropout": 0.2, "drop_path": 0.5}
    model = make_vision(block=block, position=position, gradient_checkpointing=checkpointing)
    torch.manual_seed(2)
    tokens = model.train()(make_images()).tokens
    tokens.square().sum().backward()
    return [tokens, *(p.grad for p in model.parameters())]


@pytest.mark.parametrize("position", ["learned", "rotary"])
def test_gradient_checkpointing_changes_nothing(position):
    plain, recomputed = run(False, position), run(True, position)
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))


def test_gradient_checkpointing_runs_the_blocks_again_in_training_only():
    model, calls = make_vision(gradient_checkpointing=True), []
    model.blocks[1].register_forward_pre_hook(lambda *_: calls.append("forward"))
    model(make_images()).tokens.sum().backward()
    assert len(calls) == 2
    model.eval()(make_images()).tokens.sum().backward()
    assert len(calls) == 3


def test_a_timm_backbone_keeps_its_weights_and_the_rest_is_initialised():
    patches = TimmPatches("test_resnet", 16, (32, 32))
    before = {name: value.clone() for name, value in patches.backbone.state_dict().items()}
    project = patches.project.weight.clone()
    make_vision((32, 32), patches=patches)
    after = patches.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not torch.equal(patches.project.weight, project)


def test_features_of_a_timm_backbone_can_be_encoded_apart():
    model = make_vision((64, 32), patches=TimmPatches("test_resnet", 16, (64, 32), frozen=True))
    model.eval()
    images = make_images(64, 32)
    whole, apart = model(images), model.encode_features(model.patches.features(images))
    assert whole.grid == apart.grid == (2, 1)
    assert torch.equal(whole.tokens, apart.tokens)
    with pytest.raises(ValueError, match="only a timm backbone"):
        make_vision().encode_features(images)


def test_tokens_of_our_own_start_small():
    model = make_vision((128, 128), class_token=True, registers=40)
    assert model.position_table.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.prefix_tokens.std().item() == pytest.approx(0.02, rel=0.1)
    stem = make_vision(patches=ConvStem([4], [4], 16)).patches
    assert stem.layers[-1].bias.abs().max() == 0
