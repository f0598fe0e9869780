"""Rollout: rows are distributions, products are those of the whole graph, nothing is edited."""

import pytest
import torch

from mmattn.attention import Attention
from mmattn.maps.rollout import (
    FusedWeights,
    decoder_rollout,
    fuse_heads,
    rollout,
    rows_to_one,
    with_residual,
)
from mmattn.recorder import Recorder

FUSIONS = ["mean", "max", "min"]


def random_weights(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(*shape, generator=generator, dtype=torch.float64)).softmax(-1)


def test_two_layers_of_three_tokens_by_hand():
    first = torch.tensor([[[1.0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]]])
    second = torch.tensor([[[0.0, 0, 1], [0, 1, 0], [0.5, 0.5, 0]]])
    expected = [[[0.5, 0.125, 0.375], [0.25, 0.75, 0], [0.3125, 0.3125, 0.375]]]
    assert rollout([first, second]).tolist() == expected


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_row_sums_to_one(fusion):
    layers = [fuse_heads(random_weights(2, 4, 7, 7, seed=layer), fusion) for layer in range(6)]
    rolled = rollout(layers)
    assert bool((rolled >= 0).all())
    torch.testing.assert_close(rolled.sum(-1), torch.ones(2, 7).double(), atol=1e-12, rtol=0)


def test_identities_and_uniform_weights():
    identity, uniform = torch.eye(5).expand(2, 5, 5), torch.full((2, 5, 5), 0.2)
    assert torch.equal(rollout([identity] * 4), identity)
    assert torch.equal(rollout([torch.zeros(2, 5, 5)] * 4), identity)  # nothing to attend to
    # Half of a token stays at each layer, the rest is the mean of all.
    expected = 0.5**4 * identity + (1 - 0.5**4) * uniform
    torch.testing.assert_close(rollout([uniform] * 4), expected)


def test_the_first_layer_is_the_one_next_to_the_input():
    layers = [random_weights(1, 4, 4, seed=layer) for layer in range(3)]
    a, b, c = (with_residual(weights) for weights in layers)
    torch.testing.assert_close(rollout(layers), c @ b @ a, atol=1e-15, rtol=0)
    assert not torch.allclose(rollout(layers), rollout(layers[::-1]))


def test_a_batch_is_its_images_one_by_one():
    layers = [random_weights(3, 6, 6, seed=layer) for layer in range(3)]
    for i in range(3):
        alone = rollout([weights[i : i + 1] for weights in layers])
        torch.testing.assert_close(rollout(layers)[i : i + 1], alone, atol=1e-15, rtol=0)


def test_heads_are_fused():
    weights = torch.tensor([[[[0.1, 0.9]], [[0.5, 0.5]], [[0.3, 0.7]]]])
    assert fuse_heads(weights, "max").tolist() == torch.tensor([[[0.5, 0.9]]]).tolist()
    assert fuse_heads(weights, "min").tolist() == torch.tensor([[[0.1, 0.5]]]).tolist()
    torch.testing.assert_close(fuse_heads(weights, "mean"), torch.tensor([[[0.3, 0.7]]]))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_decoder_is_the_rollout_of_text_and_image_tokens_together(fusion):
    text, image = 4, 6
    layers = [
        (
            fuse_heads(random_weights(2, 3, text, text, seed=10 + layer).tril(), fusion),
            fuse_heads(random_weights(2, 3, text, image, seed=20 + layer), fusion),
        )
        for layer in range(3)
    ]
    joint = torch.eye(text + image, dtype=torch.float64).expand(2, -1, -1)
    for own, across in layers:
        selves, crosses = torch.zeros(2, 2, text + image, text + image, dtype=torch.float64)
        selves[:, :text, :text] = own
        crosses[:, :text, text:] = across
        joint = with_residual(crosses) @ with_residual(selves) @ joint
    found = torch.cat(decoder_rollout(layers), -1)
    torch.testing.assert_close(found, joint[:, :text], atol=1e-14, rtol=0)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, text).double(), atol=1e-12, rtol=0)


def test_a_word_knows_of_the_image_from_earlier_words():
    own = torch.tensor([[[1.0, 0], [1, 0]]])  # the second word attends to the first alone
    across = torch.tensor([[[1.0, 0], [0, 0]]])  # and to nothing of the image
    text, image = decoder_rollout([(own, across), (own, torch.zeros(1, 2, 2))])
    assert image.tolist() == [[[0.5, 0], [0.25, 0]]]
    assert text.tolist() == [[[0.5, 0], [0.5, 0.25]]]


def test_the_encoder_may_be_followed_before_or_after():
    layers = [
        (random_weights(2, 3, 3, seed=i), random_weights(2, 3, 5, seed=9 + i)) for i in (0, 1)
    ]
    encoder = rollout([random_weights(2, 5, 5, seed=4)])
    before = decoder_rollout([(own, across @ encoder) for own, across in layers])[1]
    after = decoder_rollout(layers)[1] @ encoder
    torch.testing.assert_close(before, after, atol=1e-15, rtol=0)


def test_rows_to_one_leaves_rows_of_zeros():
    assert rows_to_one(torch.tensor([[1.0, 3], [0, 0]])).tolist() == [[0.25, 0.75], [0, 0]]


def test_arguments_are_left_as_they_are():
    layers = [(random_weights(2, 3, 3), random_weights(2, 3, 5))]
    before = [tensor.clone() for tensor in layers[0]]
    rollout([layers[0][0]] * 2)
    decoder_rollout(layers * 2)
    rows_to_one(layers[0][1])
    assert all(torch.equal(a, b) for a, b in zip(before, layers[0], strict=True))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fused_weights_are_those_of_a_recorder(fusion):
    torch.manual_seed(0)
    attention, x = Attention(8, 4, kv_heads=2), torch.randn(2, 5, 8)
    recorder, listener = Recorder(["*"]), FusedWeights(["*"], fusion)
    for tap in (recorder.tap("text.0.self"), listener.tap("text.0.self")):
        attention(x, attention.kv(x), causal=True, tap=tap)
    expected = fuse_heads(recorder.maps["text.0.self"], fusion)
    assert torch.equal(listener.fused["text.0.self"], expected)
    assert not expected.requires_grad
    with pytest.raises(ValueError, match=r"text\.0\.self ran twice"):
        attention(x, attention.kv(x), tap=listener.tap("text.0.self"))


def test_what_cannot_be_rolled_out_is_said():
    with pytest.raises(ValueError, match="at least one layer; without one it is the identity"):
        rollout([])
    with pytest.raises(ValueError, match="at least one layer"):
        decoder_rollout([])
