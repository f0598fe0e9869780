"""A caption's maps are the softmax rows that wrote its tokens, cached or in one pass."""

import math

import numpy as np
import pytest
import torch

from mmattn.batch import ImageTokens
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.decoding.greedy import greedy
from mmattn.maps.recorded import CaptionAttention, attend_captions
from mmattn.patches import LinearPatches
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

BEGIN, END = 0, 1
CAPTIONS = [[4, 2, 5, 6, END], [3, 6, END]]
TEXTS = [
    ("a redhouse x", [(0, 1), (2, 5), (5, 10), (11, 12), (0, 0)]),
    ("dog.", [(0, 3), (3, 4), (0, 0)]),
]


@pytest.fixture(params=["learned", "rotary"])
def model(request) -> Captioner:
    torch.manual_seed(0)
    block = BlockOptions(heads=4, kv_heads=2, qk_norm="rms")
    vision = VisionTransformer((8, 12), LinearPatches(4, 16), 1, block, class_token=True)
    text = TextTransformer(7, 16, 3, block, max_length=8, context_dim=12, position=request.param)
    model = Captioner(vision, text)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    return model.eval()


def encode(model: Captioner) -> ImageTokens:
    images = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.encode(images)


def attend(model: Captioner, captions=CAPTIONS, texts=TEXTS) -> list[CaptionAttention]:
    return attend_captions(model, encode(model), captions, texts, BEGIN)


def only(image: ImageTokens, b: int) -> ImageTokens:
    return image._replace(tokens=image.tokens[b : b + 1])


@torch.no_grad()
def plain_rows(model: Captioner, image: ImageTokens, ids: list[int]) -> torch.Tensor:
    """Return [L, H, T, P + S]: softmax(q·kᵀ/√K) of what each layer's projections gave."""
    queries = []
    attentions = [block.cross_attention for block in model.text.blocks]
    hooks = [a.q_norm.register_forward_hook(lambda *io: queries.append(io[2])) for a in attentions]
    model.decode(image, torch.tensor([[[BEGIN, *ids[:-1]]]]))
    for hook in hooks:
        hook.remove()
    layers = []
    for q, kv in zip(queries, model.memory(image), strict=True):
        k = kv.k.repeat_interleave(2, dim=1)
        exponents = (torch.einsum("htk,hsk->hts", q[0], k[0]) / math.sqrt(4)).exp()
        layers.append(exponents / exponents.sum(-1, keepdim=True))
    return torch.stack(layers)


@torch.no_grad()
def cached_rows(model: Captioner, image: ImageTokens, ids: list[int]) -> torch.Tensor:
    """The same from a recorder, over decoding steps of one token with a cache."""
    recorder, cache, memory = Recorder(["text.*.cross"]), None, model.memory(image)
    for token in [BEGIN, *ids[:-1]]:
        _, cache = model.text.extend(torch.tensor([[token]]), cache, memory, recorder=recorder)
    return recorder.stack("text.*.cross")[:, 0]


def test_maps_equal_the_softmax_rows_that_wrote_each_token(model):
    for b, caption in enumerate(attend(model)):
        expected = plain_rows(model, only(encode(model), b), CAPTIONS[b])
        assert caption.weights.dtype == np.float32
        assert caption.weights.shape == (3, 4, len(CAPTIONS[b]), 1 + 6)
        np.testing.assert_allclose(caption.weights, expected, atol=1e-6)


def test_maps_equal_those_of_cached_decoding(model):
    for b, caption in enumerate(attend(model)):
        expected = cached_rows(model, only(encode(model), b), CAPTIONS[b])
        np.testing.assert_allclose(caption.weights, expected, atol=1e-5)


def test_maps_of_a_decoded_caption_equal_those_of_its_decoding(model):
    image = encode(model)
    decoded = greedy(model, image, begin_id=BEGIN, end_id=END, max_length=6)
    captions = decoded.tokens.tolist()
    texts = [("", [(0, 0)] * len(ids)) for ids in captions]
    for b, caption in enumerate(attend(model, captions, texts)):
        expected = cached_rows(model, only(image, b), captions[b])
        np.testing.assert_allclose(caption.weights, expected, atol=1e-5)


def test_rows_sum_to_one_over_prefix_tokens_and_patches(model):
    for caption in attend(model):
        np.testing.assert_allclose(caption.weights.sum(-1), 1, atol=1e-6)
        assert (caption.grid, caption.prefix) == ((2, 3), 1)


def test_a_row_does_not_depend_on_the_token_it_writes_or_later_ones(model):
    other = [[4, 2, 3, 2, END], CAPTIONS[1]]
    before, after = attend(model)[0].weights, attend(model, other)[0].weights
    np.testing.assert_allclose(after[:, :, :3], before[:, :, :3], atol=1e-6)
    assert np.abs(after[:, :, 3:] - before[:, :, 3:]).max() > 1e-3


def test_a_caption_does_not_depend_on_the_length_of_the_others(model):
    together = attend(model)[1].weights
    short = attend(model, [[END], CAPTIONS[1]], [("", [(0, 0)]), TEXTS[1]])
    np.testing.assert_allclose(short[1].weights, together, atol=1e-6)


def test_token_maps_are_the_mean_over_heads_of_a_layer_without_prefix_tokens(model):
    caption = attend(model)[0]
    for layer in (0, 2, -1):
        maps = caption.token_maps(layer)
        assert maps.shape == (5, 2, 3)
        expected = caption.weights[layer].mean(0)[:, 1:].reshape(5, 2, 3)
        np.testing.assert_allclose(maps, expected, atol=1e-7)


def test_word_maps_are_the_mean_over_the_tokens_of_a_word(model):
    caption = attend(model)[0]
    assert [(word.text, word.tokens) for word in caption.words] == [
        ("a", (0,)),
        ("redhouse", (1, 2)),
        ("x", (3,)),
    ]
    tokens, words = caption.token_maps(-1), caption.word_maps(-1)
    assert words.shape == (3, 2, 3)
    expected = np.stack([tokens[0], tokens[1:3].mean(0), tokens[3]])
    np.testing.assert_allclose(words, expected, atol=1e-7)


def test_a_caption_without_tokens_has_no_maps(model):
    caption = attend(model, [[], CAPTIONS[1]], [("", []), TEXTS[1]])[0]
    assert caption.weights.shape == (3, 4, 0, 7)
    assert caption.token_maps(-1).shape == (0, 2, 3)
    assert caption.words == ()


def test_a_caption_for_each_image(model):
    with pytest.raises(ValueError, match="zip"):
        attend(model, CAPTIONS, TEXTS[:1])
