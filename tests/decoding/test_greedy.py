"""Greedy decoding with a cache writes what decoding one image at a time without one writes."""

import pytest
import torch

from mmattn.batch import ImageTokens
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.decoding.decoded import Limits
from mmattn.decoding.greedy import Greedy
from mmattn.patches import LinearPatches
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

BEGIN, END, LONGEST = 0, 1, 9


def make_captioner(position: str) -> Captioner:
    """A random captioner whose captions differ between images, in words and in length."""
    torch.manual_seed(34)  # found by trying: some captions end early, and no two tokens tie
    block = BlockOptions(heads=4, kv_heads=2)
    vision = VisionTransformer((8, 12), LinearPatches(4, 16), 1, block)
    text = TextTransformer(
        7, 16, 2, block, max_length=LONGEST, context_dim=16, position=position, tie_embeddings=False
    )
    model = Captioner(vision, text)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    return model.eval()


def make_images() -> torch.Tensor:
    return torch.randn(6, 3, 8, 12, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def plain_greedy(model: Captioner, image: torch.Tensor) -> list[tuple[int, float]]:
    """Caption one image, running the whole model again for each token."""
    written: list[tuple[int, float]] = []
    while len(written) < LONGEST and (not written or written[-1][0] != END):
        tokens = torch.tensor([[[BEGIN, *(token for token, _ in written)]]])
        scores = model(image[None], tokens)[0, 0, -1].double().log_softmax(-1)
        best = int(scores.argmax())
        written.append((best, float(scores[best])))
    return written


def decode(model: Captioner, images: torch.Tensor, max_length: int = LONGEST):
    image = model.encode(images)
    decoded = Greedy()(model, image, Limits(BEGIN, END, max_length))
    return decoded.tokens[:, 0], decoded.log_probs[:, 0]


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "rotary"])
def test_cached_decoding_of_a_batch_equals_uncached_decoding_of_each_image(position):
    model, images = make_captioner(position), make_images()
    expected = [plain_greedy(model, image) for image in images]
    lengths = {len(caption) for caption in expected}
    assert len(lengths) > 1  # some rows end before others
    decoded = decode(model, images)
    assert decoded[0].shape == decoded[1].shape == (6, max(lengths))
    for tokens, log_probs, caption in zip(*decoded, expected, strict=True):
        end = len(caption)
        assert tokens[:end].tolist() == [token for token, _ in caption]
        assert log_probs[:end].tolist() == pytest.approx([p for _, p in caption], abs=1e-5)
        assert tokens[end:].tolist() == [END] * (len(tokens) - end)
        assert log_probs[end:].tolist() == [0.0] * (len(tokens) - end)


def test_log_probs_equal_a_teacher_forced_pass():
    model, images = make_captioner("rotary"), make_images()
    tokens, log_probs = decode(model, images)
    begin = torch.full((6, 1), BEGIN)
    with torch.no_grad():
        scores = model(images, torch.cat([begin, tokens[:, :-1]], 1)[:, None])[:, 0]
    forced = scores.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    before_the_end = torch.cat([begin, tokens[:, :-1]], 1) != END
    assert 0 < before_the_end.sum() < before_the_end.numel()
    expected = forced.masked_fill(~before_the_end, 0.0)
    torch.testing.assert_close(log_probs, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("max_length", [1, 2, 5])
def test_decoding_stops_at_its_maximum_length(max_length):
    model, images = make_captioner("learned"), make_images()
    tokens, log_probs = decode(model, images, max_length)
    assert tokens.shape == (6, max_length)
    assert torch.equal(tokens, decode(model, images)[0][:, :max_length])
    assert log_probs.shape == (6, max_length)


def test_decoding_stops_once_every_caption_has_ended():
    model, images = make_captioner("learned"), make_images()
    text, calls = model.text, []
    text.embedding.register_forward_hook(lambda *_: calls.append("step"))
    with torch.no_grad():
        text.norm.weight.zero_()
        text.norm.bias.copy_(text.head.weight[END] * 100)  # whatever it sees, it ends
    tokens, _ = decode(model, images)
    assert tokens.tolist() == [[END]] * 6
    assert len(calls) == 1


def test_nothing_is_recorded_for_a_backward_pass():
    model = make_captioner("learned")
    image = model.encode(make_images())
    assert image.tokens.requires_grad
    decoded = Greedy()(model, image, Limits(BEGIN, END, 2))
    assert not decoded.log_probs.requires_grad


def test_a_table_of_positions_that_is_too_short_is_named():
    model = make_captioner("learned")
    with torch.no_grad():
        model.text.norm.weight.zero_()  # never ends
        model.text.norm.bias.copy_(model.text.head.weight[END] * -100)
    with pytest.raises(ValueError, match="10 tokens is longer than max_length=9"):
        decode(model, make_images(), LONGEST + 1)


def test_images_do_not_reach_each_other():
    model, images = make_captioner("rotary"), make_images()
    image = model.encode(images)
    alone = ImageTokens(image.tokens[2:3], image.grid, image.prefix)
    one = Greedy()(model, alone, Limits(BEGIN, END, LONGEST))
    tokens, log_probs = decode(model, images)
    length = one.tokens.shape[-1]
    assert torch.equal(tokens[2:3, :length], one.tokens[:, 0])
    torch.testing.assert_close(log_probs[2:3, :length], one.log_probs[:, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("fused", [False, True])
def test_what_is_trained_is_what_decodes(fused):
    model, images = make_captioner("learned"), make_images()
    decode(model, images)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    model(images, torch.zeros(len(images), 1, 3, dtype=torch.long)).square().mean().backward()
    optimiser.step()
    tokens, log_probs = decode(model, images)
    for image, row, log_prob in zip(images, tokens.tolist(), log_probs.tolist(), strict=True):
        expected = plain_greedy(model, image)
        assert row[: len(expected)] == [token for token, _ in expected]
        found = log_prob[: len(expected)]
        assert found == pytest.approx([float(one) for _, one in expected], abs=1e-4)
