"""The pooler equals a plain softmax over the image's tokens, and its maps are exact."""

import math
from inspect import signature

import pytest
import torch
from torch import Tensor, nn

from mmattn.batch import ImageTokens
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.patches import LinearPatches
from mmattn.pooling import AttentionPooler
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer


def randomise(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)


def make_pooler(norm="layer", **options) -> AttentionPooler:
    torch.manual_seed(0)
    pooler = AttentionPooler(5, 12, 3, 8, norm=norm, **options)
    nn.init.normal_(pooler.queries)
    randomise(pooler)
    return pooler.double()


def make_tokens(length=7) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, length, 8, dtype=torch.double, generator=generator)


def normalised(x: Tensor, norm: nn.Module, kind: str, eps: float) -> Tensor:
    if kind == "layer":
        x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * norm.weight
    return x + norm.bias if kind == "layer" else x


@torch.no_grad()
def plain(pooler: AttentionPooler, tokens: Tensor, kind="layer", eps=1e-6) -> tuple[Tensor, Tensor]:
    """Return what comes out [B, Q, D], and the weights [B, H, Q, S], head by head."""
    attention = pooler.attention
    asked = attention.to_q(normalised(pooler.queries, pooler.query_norm, kind, eps))
    seen = normalised(tokens, attention.context_norm, kind, eps)
    keys, values = attention.to_kv(seen).chunk(2, dim=-1)
    width = pooler.dim // attention.heads
    found, weights = [], []
    for head in range(attention.heads):
        part = slice(head * width, (head + 1) * width)
        scores = torch.einsum("qk,bsk->bqs", asked[:, part], keys[..., part]) / math.sqrt(width)
        exponents = scores.exp()
        weights.append(exponents / exponents.sum(-1, keepdim=True))
        found.append(weights[-1] @ values[..., part])
    return attention.to_out(torch.cat(found, -1)), torch.stack(weights, 1)


@torch.no_grad()
@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_the_pooler_equals_its_plain_twin(norm, eps):
    pooler, tokens = make_pooler(norm, norm_eps=eps), make_tokens()
    expected, _ = plain(pooler, tokens, norm, eps)
    pooled = pooler(tokens)
    assert pooled.shape == (2, 5, 12)
    torch.testing.assert_close(pooled, expected, atol=1e-12, rtol=0)


@torch.no_grad()
def test_as_many_tokens_come_out_whatever_goes_in_and_its_order_does_not_matter():
    pooler, tokens = make_pooler(), make_tokens(30)
    assert pooler(tokens[:, :1]).shape == pooler(tokens).shape == (2, 5, 12)
    shuffled = tokens[:, torch.randperm(30, generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(pooler(shuffled), pooler(tokens), atol=1e-12, rtol=0)
    torch.testing.assert_close(pooler(tokens[1:]), pooler(tokens)[1:], atol=1e-12, rtol=0)


@torch.no_grad()
def test_a_query_gathers_the_same_whatever_the_others_ask():
    pooler, tokens = make_pooler(), make_tokens()
    before = pooler(tokens)
    pooler.queries[0, 0] += 1.0
    after = pooler(tokens)
    torch.testing.assert_close(after[:, 1:], before[:, 1:], atol=1e-12, rtol=0)
    assert (after[:, 0] - before[:, 0]).abs().max() > 1e-3


def test_queries_learn():
    pooler = make_pooler()
    pooler(make_tokens()).square().sum().backward()
    assert all(parameter.grad is not None for parameter in pooler.parameters())
    assert pooler.queries.grad.abs().amax(-1).min() > 0


def test_settings_are_the_constructors_arguments():
    pooler = make_pooler("rms", norm_eps=0.1)
    assert pooler.settings().keys() == signature(AttentionPooler).parameters.keys()
    again = AttentionPooler(**pooler.settings())
    assert {n: p.shape for n, p in again.state_dict().items()} == {
        n: p.shape for n, p in pooler.state_dict().items()
    }
    assert again.attention.heads == 3
    assert again.query_norm.eps == again.attention.context_norm.eps == 0.1


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="dim=12 does not divide by heads=5"):
        AttentionPooler(5, 12, 5, 8)


def make_vision(**options) -> VisionTransformer:
    torch.manual_seed(0)
    pooler = AttentionPooler(5, 12, 3, 16)
    model = VisionTransformer(
        (8, 12),
        LinearPatches(4, 16),
        2,
        BlockOptions(heads=4),
        class_token=True,
        pooler=pooler,
        **options,
    )
    assert 0.01 < pooler.queries.std() < 0.03  # as all tokens that are learned start
    randomise(model)
    return model.double().eval()


def make_images(height=8, width=12) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, height, width, dtype=torch.double, generator=generator)


def inner(model: VisionTransformer, images: Tensor) -> ImageTokens:
    """What goes into the pooler, in the place of what comes out."""
    caught = []
    hook = model.pooler.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    image = model(images)
    hook.remove()
    return image._replace(tokens=caught[0])


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 12), (16, 4)])
def test_a_vision_transformer_pools_behind_its_last_block_and_then_normalises(size):
    model, images = make_vision(), make_images(*size)
    image = model(images)
    assert image.tokens.shape == (2, 5, 12)
    assert image.grid == (size[0] // 4, size[1] // 4)
    assert image.prefix == 1
    assert model.dim == 12
    tokens = inner(model, images).tokens
    assert tokens.shape == (2, 1 + image.grid[0] * image.grid[1], 16)
    pooled, _ = plain(model.pooler, tokens)
    expected = normalised(pooled, model.norm, "layer", 1e-6)
    torch.testing.assert_close(image.tokens, expected, atol=1e-12, rtol=0)


@torch.no_grad()
def test_the_recorded_map_is_the_poolers_own_and_changes_nothing():
    model, images = make_vision(), make_images()
    recorder = Recorder(["vision.pool"])
    heard = model(images, recorder)
    assert torch.equal(heard.tokens, model(images).tokens)
    _, weights = plain(model.pooler, inner(model, images).tokens)
    assert list(recorder.maps) == ["vision.pool"]
    assert recorder.maps["vision.pool"].shape == (2, 3, 5, 1 + 6)
    torch.testing.assert_close(recorder.maps["vision.pool"], weights, atol=1e-12, rtol=0)


@torch.no_grad()
def test_rows_and_heads_of_the_poolers_map_can_be_chosen():
    model, images = make_vision(), make_images()
    whole, part = Recorder(["vision.pool"]), Recorder(["vision.pool"], heads=[2], rows=[0, -1])
    for recorder in (whole, part):
        model(images, recorder)
    expected = whole.maps["vision.pool"][:, [2]][:, :, [0, -1]]
    torch.testing.assert_close(part.maps["vision.pool"], expected, atol=1e-12, rtol=0)


def test_gradient_checkpointing_changes_nothing():
    def run(checkpointing: bool) -> list[Tensor]:
        model = make_vision(gradient_checkpointing=checkpointing).train()
        out = model(make_images()).tokens
        out.square().sum().backward()
        return [out, *(parameter.grad for parameter in model.parameters())]

    assert all(torch.equal(a, b) for a, b in zip(run(True), run(False), strict=True))


@torch.no_grad()
@pytest.mark.parametrize("context_dim", [12, 8])
def test_a_captioner_attends_to_pooled_tokens(context_dim):
    vision = make_vision()
    text = TextTransformer(
        11, 16, 2, BlockOptions(heads=4), max_length=8, context_dim=context_dim
    ).double()
    model = Captioner(vision, text).double().eval()
    assert isinstance(model.bridge, nn.Identity) == (context_dim == 12)
    recorder = Recorder(["text.*.cross"])
    tokens = torch.randint(11, (2, 3, 4))
    assert model(make_images(), tokens, recorder).shape == (2, 3, 4, 11)
    assert recorder.stack("text.*.cross").shape == (2, 2, 4, 3 * 4, 5)
