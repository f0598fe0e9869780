"""A word's map is the softmax row that wrote it, in one pass over the text or step by step."""

import math

import pytest
import torch

from mmattn.batch import CaptionBatch, ImageTokens
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.decoding.decoded import Limits
from mmattn.decoding.greedy import Greedy
from mmattn.maps.methods import RawAttention
from mmattn.patches import LinearPatches
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

BEGIN, END, PREFIX = 0, 1, 1
CAPTIONS = [[4, 2, 5, 6, END], [3, 6, END]]


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


@pytest.fixture
def batch() -> CaptionBatch:
    images = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    empty = torch.zeros(2, 1, 1, dtype=torch.long)
    made = CaptionBatch(("a", "b"), images, empty, empty, empty > 0, (("x",),) * 2)
    return made.with_captions(CAPTIONS, BEGIN)


def all_rows(model: Captioner, batch: CaptionBatch) -> list[torch.Tensor]:
    """Of each image [L, H, T, S]: the maps of every layer and head, of its caption's own tokens."""
    maps = torch.stack(
        [
            torch.stack([RawAttention([layer], [head])(model, batch)[:, 0] for head in range(4)])
            for layer in range(3)
        ]
    ).flatten(-2)  # [L, H, B, T, S]
    return [maps[:, :, b, : int(batch.valid[b].sum())] for b in range(len(batch.keys))]


@torch.no_grad()
def encoded(model: Captioner, batch: CaptionBatch, b: int) -> ImageTokens:
    return model.encode(batch.images[b][None])


@torch.no_grad()
def plain_rows(model: Captioner, image: ImageTokens, ids: list[int]) -> torch.Tensor:
    """Return [L, H, T, S]: softmax(q·kᵀ/√K) of what each layer's projections gave."""
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
    return torch.stack(layers)[..., PREFIX:]


@torch.no_grad()
def cached_rows(model: Captioner, image: ImageTokens, ids: list[int]) -> torch.Tensor:
    """The same from a recorder, over decoding steps of one token with a cache."""
    recorder, cache, memory = Recorder(["text.*.cross"]), None, model.memory(image)
    for token in [BEGIN, *ids[:-1]]:
        _, cache = model.text.extend(torch.tensor([[token]]), cache, memory, recorder=recorder)
    return recorder.stack("text.*.cross")[:, 0, ..., PREFIX:]


def test_maps_are_the_softmax_rows_that_wrote_each_token(model, batch):
    for b, maps in enumerate(all_rows(model, batch)):
        assert maps.shape == (3, 4, len(CAPTIONS[b]), 6)
        expected = plain_rows(model, encoded(model, batch, b), CAPTIONS[b])
        torch.testing.assert_close(maps, expected, atol=1e-6, rtol=0)


def test_maps_are_those_of_cached_decoding(model, batch):
    for b, maps in enumerate(all_rows(model, batch)):
        expected = cached_rows(model, encoded(model, batch, b), CAPTIONS[b])
        torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)


def test_maps_of_a_decoded_caption_are_those_of_its_decoding(model, batch):
    with torch.no_grad():
        image = model.encode(batch.images)
    written = Greedy()(model, image, Limits(BEGIN, END, 6))
    captions = written.tokens[:, 0].tolist()
    for b, maps in enumerate(all_rows(model, batch.with_captions(captions, BEGIN))):
        expected = cached_rows(model, encoded(model, batch, b), captions[b])
        torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)


def test_a_row_does_not_depend_on_the_token_it_writes_or_later_ones(model, batch):
    other = batch.with_captions([[4, 2, 3, 2, END], CAPTIONS[1]], BEGIN)
    before, after = all_rows(model, batch)[0], all_rows(model, other)[0]
    torch.testing.assert_close(after[:, :, :3], before[:, :, :3], atol=1e-6, rtol=0)
    assert (after[:, :, 3:] - before[:, :, 3:]).abs().max() > 1e-3
