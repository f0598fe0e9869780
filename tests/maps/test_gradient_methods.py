"""Gradient-weighted maps with the fused kernel on equal those of an eager twin, word by word."""

from dataclasses import replace

import pytest
import torch

from mmattn import attention as attention_module
from mmattn.batch import IGNORE, CaptionBatch
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.maps.gradient_methods import AttentionGradient, Chefer, LeGrad
from mmattn.maps.token_gradients import single_captions, token_gradients
from mmattn.patches import LinearPatches
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

WITHIN = {torch.float64: 1e-10, torch.float32: 1e-5}
ENCODER, DECODER, PREFIX = 2, 3, 3


def make_captioner(dtype=torch.float64, position="learned", text_dim=16, tied=True) -> Captioner:
    torch.manual_seed(0)
    block = BlockOptions(heads=4, kv_heads=2, layer_scale=0.5)
    vision = VisionTransformer(
        (8, 12),
        LinearPatches(4, 16),
        ENCODER,
        block,
        class_token=True,
        registers=2,
        position=position,
    )
    text = TextTransformer(
        11,
        text_dim,
        DECODER,
        block,
        max_length=8,
        context_dim=text_dim,
        position=position,
        tie_embeddings=tied,
    )
    model = Captioner(vision, text).to(dtype).eval()
    with torch.no_grad():  # weights far from uniform, so that errors would show
        for name, parameter in model.named_parameters():
            if "attention.to_q.weight" in name or "attention.to_kv.weight" in name:
                parameter.mul_(3)
    return model


def make_batch(dtype=torch.float64) -> CaptionBatch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 8, 12, generator=generator, dtype=torch.float64).to(dtype)
    tokens = torch.randint(0, 11, (2, 2, 4), generator=generator)
    labels = tokens.roll(-1, -1)
    labels[1, 0, 3:] = IGNORE
    return CaptionBatch(("a", "b"), images, tokens, labels, labels != IGNORE, (("x",), ("y",)))


class Eager:
    """One image, one caption: every attention an explicit softmax, its weights in the graph.

    `weights` and `gradients` are by layer, each [H, T, S]; gradients are those of log p(label t).
    """

    def __init__(self, monkeypatch, model, batch, image, caption):
        self.weights: list[torch.Tensor] = []
        with monkeypatch.context() as patch:
            patch.setattr(attention_module, "attend", self.attend)
            logits = model(batch.images[[image]], batch.tokens[[image], [caption]][None])[0, 0]
        self.scores = logits.log_softmax(-1)
        self.labels = batch.labels[image, caption]

    def attend(self, q, k, v, mask=None, *, causal=False, dropout=0.0):
        assert mask is None
        assert not dropout
        serves = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(serves, 1), v.repeat_interleave(serves, 1)
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1) > 0, -1e30)
        self.weights.append(scores.softmax(-1))
        return self.weights[-1] @ v

    def of(self, t):
        """Weights and gradients of the encoder, of the text and of the cross-attentions."""
        score = self.scores[t, self.labels[t]]
        gradients = torch.autograd.grad(score, self.weights, retain_graph=True)
        pairs = [(p[0].detach(), g[0]) for p, g in zip(self.weights, gradients, strict=True)]
        return pairs[:ENCODER], pairs[ENCODER::2], pairs[ENCODER + 1 :: 2]

    def chefer(self, t):
        """Equations 5 to 10 in the order of the authors' DETR code, 0/0 taken as 0."""
        encoder, selves, crosses = (
            [(p * g).clamp(min=0).mean(0) for p, g in pairs] for pairs in self.of(t)
        )
        r_ii = torch.eye(len(encoder[0]), dtype=encoder[0].dtype)
        for cam in encoder:
            r_ii += cam @ r_ii
        r_qq = torch.eye(len(selves[0]), dtype=r_ii.dtype)
        r_qi = torch.zeros_like(crosses[0])
        for own, across in zip(selves, crosses, strict=True):
            added_ss, added_sq = own @ r_qq, own @ r_qi
            r_qq, r_qi = r_qq + added_ss, r_qi + added_sq
            r_qi = r_qi + self.bar(r_qq).T @ (across @ self.bar(r_ii))
        return r_qi[t, PREFIX:]

    @staticmethod
    def bar(relevance):
        eye = torch.eye(len(relevance), dtype=relevance.dtype)
        brought = relevance - eye
        return (brought / brought.sum(-1, keepdim=True)).nan_to_num() + eye

    def legrad(self, t):
        return torch.stack([g.clamp(min=0).mean(0).sum(0) for _, g in self.of(t)[2]]).mean(0)[
            PREFIX:
        ]

    def product(self, t, layers, signed):
        found = [p * g for p, g in (self.of(t)[2][layer] for layer in layers)]
        found = [product if signed else product.clamp(min=0) for product in found]
        return torch.stack([product.mean(0)[t] for product in found]).mean(0)[PREFIX:]


CASES = {
    "chefer": (Chefer(), lambda eager, t: eager.chefer(t)),
    "legrad": (LeGrad(), lambda eager, t: eager.legrad(t)),
    "last layer": (AttentionGradient(), lambda eager, t: eager.product(t, [2], False)),
    "last layer, signed": (
        AttentionGradient(signed=True),
        lambda eager, t: eager.product(t, [2], True),
    ),
    "first layer": (AttentionGradient([0]), lambda eager, t: eager.product(t, [0], False)),
    "all layers, signed": (
        AttentionGradient(None, signed=True),
        lambda eager, t: eager.product(t, [0, 1, 2], True),
    ),
}


@pytest.mark.parametrize("dtype", WITHIN)
@pytest.mark.parametrize("case", CASES)
def test_maps_equal_those_of_an_eager_twin(case, dtype, monkeypatch):
    method, expect = CASES[case]
    model, batch = make_captioner(dtype), make_batch(dtype)
    maps = method(model, batch).flatten(3)
    for b, n in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        eager = Eager(monkeypatch, model, batch, b, n)
        for t in range(4):
            if batch.labels[b, n, t] != IGNORE:
                expected = expect(eager, t)
                scale = float(expected.abs().max())
                assert scale > 1e-4
                within = WITHIN[dtype] * min(1.0, 100 * scale)
                torch.testing.assert_close(maps[b, n, t], expected, atol=within, rtol=0)


@pytest.mark.parametrize(
    "options", [{"position": "rotary"}, {"text_dim": 8}, {"tied": False}], ids=str
)
def test_relevance_equals_the_eager_twins_in_other_models(options, monkeypatch):
    model, batch = make_captioner(**options), make_batch()
    maps = Chefer()(model, batch).flatten(3)
    expected = Eager(monkeypatch, model, batch, 1, 1).chefer(2)
    assert expected.max() > 1e-4
    torch.testing.assert_close(maps[1, 1, 2], expected, atol=1e-10, rtol=0)


def test_one_backward_pass_gives_the_last_layer_what_one_for_each_token_gives():
    model, batch = make_captioner(), make_batch()
    with token_gradients(model, batch, ["text.*.cross"]) as gradients:
        gradients.of_all()
        at_once = [gradients.recorder.gradients(f"text.{i}.cross") for i in range(DECODER)]
        apart = [torch.zeros_like(found) for found in at_once]
        for t in gradients.one_by_one():
            rows = [t, t + 4]  # of both captions
            for i, found in enumerate(apart):
                found[:, :, rows] = gradients.recorder.gradients(f"text.{i}.cross")[:, :, rows]
    torch.testing.assert_close(at_once[-1], apart[-1], atol=1e-12, rtol=0)
    assert not torch.allclose(at_once[0], apart[0], rtol=1e-3)


def test_a_signed_map_is_the_first_order_effect_of_the_weights(monkeypatch):
    """Scaling the weights of one patch by 1 + e changes log p by e times the map, to first order.

    One layer is scaled, as the kernel's output: O + e·P_j·v_j.
    """
    model, batch = make_captioner(), make_batch()
    heads, t = 4, 2
    map = AttentionGradient([0], signed=True)(model, batch)[0, 1, t].flatten()
    patch = int(map.abs().argmax())
    expected = float(heads * map[patch])  # the map is a mean over heads
    kernel, calls = attention_module.attend, []

    def scaled(epsilon):
        def attend(q, k, v, mask=None, *, causal=False, dropout=0.0):
            calls.append(1)
            out = kernel(q, k, v, mask, causal=causal, dropout=dropout)
            if len(calls) != ENCODER + 2:  # the first layer's cross-attention
                return out
            k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
            column = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)[..., [PREFIX + patch]]
            row = torch.zeros_like(column)
            row[:, :, 4 + t] = 1  # of the second caption
            return out + epsilon * column * row * v[:, :, [PREFIX + patch]]

        return attend

    def score(epsilon):
        calls.clear()
        with monkeypatch.context() as patched, torch.no_grad():
            patched.setattr(attention_module, "attend", scaled(epsilon))
            logits = model(batch.images, batch.tokens)
        return float(logits[0, 1, t].log_softmax(-1)[batch.labels[0, 1, t]])

    slope = (score(1e-5) - score(-1e-5)) / 2e-5
    assert abs(expected) > 1e-4
    assert slope == pytest.approx(expected, rel=1e-5)


def test_captions_are_explained_in_parts_of_any_size():
    model, batch = make_captioner(), make_batch()
    whole = Chefer(at_once=100)(model, batch)
    for at_once in (1, 3):
        maps = Chefer(at_once=at_once)(model, batch)
        torch.testing.assert_close(maps, whole, atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="at_once=0: at least one caption"):
        Chefer(at_once=0)(model, batch)


def test_single_captions_come_with_their_images():
    batch = make_batch()
    parts = list(single_captions(batch, 3))
    assert [part.keys for part in parts] == [("a", "a", "b"), ("b",)]
    assert [part.references for part in parts] == [(("x",), ("x",), ("y",)), (("y",),)]
    assert torch.equal(parts[0].images, batch.images[[0, 0, 1]])
    assert torch.equal(parts[1].tokens, batch.tokens[1:, 1:])
    labels = torch.cat([part.labels for part in parts])
    assert torch.equal(labels, batch.labels.flatten(0, 1)[:, None])


def test_a_batch_without_a_label_gives_zeros():
    model, batch = make_captioner(), make_batch()
    empty = replace(batch, labels=torch.full_like(batch.labels, IGNORE))
    for method in (Chefer(), LeGrad(), AttentionGradient(), AttentionGradient(None)):
        maps = method(model, empty)
        assert maps.shape == (2, 2, 4, 2, 3)
        assert not maps.any()


def test_bf16_models_and_autocast_have_maps_too():
    model, batch = make_captioner(torch.float32), make_batch(torch.float32)
    expected = AttentionGradient(None)(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        cast = AttentionGradient(None)(model, batch)
    half = AttentionGradient(None)(model.bfloat16(), replace(batch, images=batch.images.bfloat16()))
    for maps in (cast, half):
        assert maps.dtype == torch.float32
        assert float((maps - expected).norm() / expected.norm()) < 0.1
