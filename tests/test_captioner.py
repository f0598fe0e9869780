"""Captions of one image share its encoding, and come out as if each had the image for itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import mmattn
from mmattn.backbones import TimmPatches
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.patches import LinearPatches
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer


def make_captioner(*, context_dim=12, position="learned", patches=None, **block) -> Captioner:
    torch.manual_seed(0)
    options = BlockOptions(**{"heads": 4, **block})
    vision = VisionTransformer(
        (8, 12), patches or LinearPatches(4, 16), 2, options, class_token=True, position=position
    )
    text = TextTransformer(
        11, 16, 2, options, max_length=8, context_dim=context_dim, position=position
    )
    return Captioner(vision, text)


def make_batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 8, 12, generator=generator)
    return images, torch.randint(0, 11, (2, 3, 5), generator=generator)


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "rotary"])
@pytest.mark.parametrize("kv_heads", [None, 2])
def test_captions_of_an_image_equal_captions_with_their_own_copy_of_it(position, kv_heads):
    model = make_captioner(position=position, kv_heads=kv_heads).double()
    images, tokens = make_batch()
    images = images.double()
    together = model(images, tokens)
    together.square().sum().backward()
    shared = gradients(model)
    model.zero_grad()
    copies = model(images.repeat_interleave(3, dim=0), tokens.view(6, 1, 5))
    copies.square().sum().backward()
    assert together.shape == (2, 3, 5, 11)
    torch.testing.assert_close(together, copies.view(2, 3, 5, 11), atol=1e-11, rtol=0)
    for ours, theirs in zip(shared, gradients(model), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)
    for b in range(2):
        for n in range(3):
            alone = model(images[b : b + 1], tokens[b : b + 1, n : n + 1])
            torch.testing.assert_close(together[b, n], alone[0, 0], atol=1e-11, rtol=0)


def test_an_image_is_encoded_and_projected_once_for_all_its_captions():
    model, seen = make_captioner(), []
    for module in (model.vision.blocks[0].mlp, model.text.blocks[0].cross_attention.to_kv):
        module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    model(*make_batch())
    assert seen == [(2, 1 + 6, 16), (2, 1 + 6, 12)]
    memory = model.memory(model.encode(make_batch()[0]))
    assert [tuple(kv.k.shape) for kv in memory] == [(2, 4, 7, 4)] * 2


def test_forward_is_decode_of_encode():
    model, (images, tokens) = make_captioner(), make_batch()
    image = model.encode(images)
    assert image.tokens.shape == (2, 7, 12)
    assert (image.grid, image.prefix) == ((2, 3), 1)
    expected = model.logits(model.decode(image, tokens))
    assert torch.equal(model(images, tokens), expected)


def test_a_caption_sees_its_image_and_its_own_past_only():
    model, (images, tokens) = make_captioner(), make_batch()
    before = model(images, tokens)
    changed = tokens.clone()
    changed[0, 1, 3] = (changed[0, 1, 3] + 1) % 11
    moved = (model(images, changed) - before).abs().amax(-1) > 1e-6
    expected = torch.zeros(2, 3, 5, dtype=torch.bool)
    expected[0, 1, 3:] = True
    assert torch.equal(moved, expected)
    images[1] += 1
    moved = (model(images, tokens) - before).abs().amax(-1) > 1e-6
    assert moved[1].all()
    assert not moved[0].any()


def test_padding_on_the_right_changes_nothing_before_it():
    model, (images, tokens) = make_captioner(), make_batch()
    padded = torch.cat([tokens, torch.zeros(2, 3, 2, dtype=torch.long)], dim=-1)
    whole = model(images, padded)[:, :, :5]
    torch.testing.assert_close(whole, model(images, tokens), atol=1e-6, rtol=0)


def test_widths_are_bridged_where_they_differ():
    assert isinstance(make_captioner(context_dim=16).bridge, nn.Identity)
    bridge = make_captioner(context_dim=12).bridge
    assert (bridge.in_features, bridge.out_features) == (16, 12)


def test_kept_features_give_the_same_encoding():
    patches = TimmPatches("test_resnet", 16, (32, 64), frozen=True)
    model, images = make_captioner(patches=patches).eval(), torch.randn(2, 3, 32, 64)
    kept = model.encode_features(patches.features(images))
    assert torch.equal(kept.tokens, model.encode(images).tokens)


@pytest.mark.parametrize("options", [{"context_dim": None}, {"context_dim": 16, "causal": False}])
def test_a_text_transformer_that_cannot_caption_is_refused(options):
    text = TextTransformer(11, 16, 1, BlockOptions(heads=4), max_length=8, **options)
    vision = VisionTransformer((8, 8), LinearPatches(4, 16), 1, BlockOptions(heads=4))
    with pytest.raises(ValueError, match="needs a causal text transformer with a context_dim"):
        Captioner(vision, text)


COMPILE = """
import torch
from mmattn import BlockOptions, Captioner, TextTransformer, VisionTransformer
from mmattn.patches import LinearPatches

block = BlockOptions(heads=4, kv_heads=2, qk_norm="rms", layer_scale=0.1)
vision = VisionTransformer((8, 12), LinearPatches(4, 16), 2, block, registers=1, position="rotary")
text = TextTransformer(11, 16, 2, block, max_length=8, context_dim=16)
model = Captioner(vision, text)
images, tokens = torch.randn(2, 3, 8, 12), torch.randint(0, 11, (2, 3, 5))
compiled = torch.compile(model, backend="eager", fullgraph=True)  # a graph break is an error
assert torch.equal(compiled(images, tokens), model(images, tokens))
print("one graph")
"""


def test_without_a_recorder_the_model_compiles_to_one_graph():
    # In a process of its own: the shape checks that tests switch on are no part of the model.
    paths = [str(Path(mmattn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "one graph\n"
