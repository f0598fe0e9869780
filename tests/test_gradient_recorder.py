"""Gradients in weights that the kernel never showed equal those of an explicit softmax."""

import gc
import weakref

import pytest
import torch

from mmattn import attention as attention_module
from mmattn.attention import Attention, padding_mask
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.gradient_recorder import GradientRecorder, weight_gradients
from mmattn.patches import LinearPatches
from mmattn.positions import text_rotation
from mmattn.taps import AttentionCall
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

VALID = torch.arange(9) < torch.tensor([[9], [4], [0]])  # the last row may attend to nothing
WITHIN = {torch.float64: 1e-10, torch.float32: 1e-5}


class EagerAttend:
    """`attend` as an explicit softmax, which keeps its weights in the graph, call by call."""

    def __init__(self):
        self.weights: list[torch.Tensor] = []
        self.allowed: list[torch.Tensor] = []

    def __call__(self, q, k, v, mask=None, *, causal=False, dropout=0.0):
        assert not dropout
        serves = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(serves, 1), v.repeat_interleave(serves, 1)
        scores = q @ k.mT / q.shape[-1] ** 0.5
        allowed = torch.ones_like(scores, dtype=torch.bool)
        if causal:
            allowed = allowed.tril(k.shape[2] - q.shape[2])
        if mask is not None:
            allowed = allowed & mask
        weights = scores.masked_fill(~allowed, -1e30).softmax(-1) * allowed
        self.weights.append(weights)
        self.allowed.append(allowed)
        return weights @ v

    def gradients(self, loss):
        """What autograd gives for each call's weights, of those that are variables."""
        found = torch.autograd.grad(loss, self.weights, retain_graph=True)
        return [g * allowed for g, allowed in zip(found, self.allowed, strict=True)]


@pytest.fixture
def eager(monkeypatch):
    """Makes every later attention call an eager one."""

    def switch() -> EagerAttend:
        twin = EagerAttend()
        monkeypatch.setattr(attention_module, "attend", twin)
        return twin

    return switch


def make_captioner(dtype=torch.float64) -> Captioner:
    torch.manual_seed(0)
    block = BlockOptions(heads=4, kv_heads=2, qk_norm="rms")
    vision = VisionTransformer(
        (8, 12), LinearPatches(4, 16), 2, block, registers=2, position="rotary"
    )
    text = TextTransformer(11, 16, 3, block, max_length=8, context_dim=16, position="rotary")
    return Captioner(vision, text).to(dtype).eval()


def make_batch(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 8, 12, generator=generator, dtype=torch.float64).to(dtype)
    return images, torch.randint(0, 11, (2, 3, 5), generator=generator)


# name: (options of Attention, queries, rows of keys, keys, causal, padded, rotary)
CALLS = {
    "self": ({}, 9, 3, 9, False, False, False),
    "causal": ({}, 9, 3, 9, True, False, False),
    "cached": ({}, 4, 3, 9, True, False, False),
    "padding": ({}, 9, 3, 9, False, True, False),
    "causal padding": ({}, 9, 3, 9, True, True, False),
    "N captions": ({}, 5, 1, 9, False, False, False),
    "grouped": ({"kv_heads": 2}, 9, 3, 9, True, True, False),
    "rotary": ({"qk_norm": "layer", "kv_heads": 1}, 9, 3, 9, True, False, True),
}


def attention_loss(case, dtype, recorder=None):
    """Return a loss that depends on every output of one attention call."""
    options, queries, rows, keys, causal, padded, rotary = case
    torch.manual_seed(0)
    attention = Attention(16, 4, **options).to(dtype)
    x = torch.randn(3, queries, 16, dtype=torch.float64).to(dtype)
    context = torch.randn(rows, keys, 16, dtype=torch.float64).to(dtype)
    rotation = text_rotation(queries, 4) if rotary else None
    kv = attention.kv(context, rotation)
    tap = None if recorder is None else recorder.tap("here")
    mask = padding_mask(VALID) if padded else None
    return attention(x, kv, mask, causal=causal, rotation=rotation, tap=tap).sin().sum()


@pytest.mark.parametrize("dtype", WITHIN)
@pytest.mark.parametrize("case", CALLS.values(), ids=CALLS)
def test_gradients_equal_those_of_an_explicit_softmax(case, dtype, eager):
    recorder = GradientRecorder(["*"])
    attention_loss(case, dtype, recorder).backward()
    twin = eager()
    (expected,) = twin.gradients(attention_loss(case, dtype))
    found = recorder.gradients("here")
    assert found.dtype == dtype
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(found, expected, atol=WITHIN[dtype], rtol=0)
    weights = recorder.weights("here")
    torch.testing.assert_close(weights, twin.weights[0].detach(), atol=WITHIN[dtype], rtol=0)
    assert not found.requires_grad
    assert not weights.requires_grad


@pytest.mark.parametrize("dtype", WITHIN)
def test_each_layer_of_a_captioner_is_paired_with_its_own_gradient(dtype, eager):
    model, (images, tokens) = make_captioner(dtype), make_batch(dtype)
    recorder = GradientRecorder(["*"])
    model(images, tokens, recorder).sin().sum().backward()
    twin = eager()
    expected = twin.gradients(model(images, tokens).sin().sum())
    assert len(recorder.met) == len(expected) == 2 + 2 * 3
    for site, gradients, weights in zip(recorder.met, expected, twin.weights, strict=True):
        within = WITHIN[dtype] * max(1.0, float(gradients.abs().max()))
        torch.testing.assert_close(recorder.gradients(site), gradients, atol=within, rtol=0)
        torch.testing.assert_close(recorder.weights(site), weights.detach(), atol=within, rtol=0)


def test_one_forward_pass_serves_several_backward_passes(eager):
    model, batch = make_captioner(), make_batch()
    recorder = GradientRecorder(["text.*"])
    logits = model(*batch, recorder)
    found = []
    for n in range(3):
        recorder.differentiate(logits[:, n].sin().sum())
        found.append(recorder.gradients("text.1.cross"))
    twin = eager()
    logits = model(*batch)
    for n in range(3):
        expected = twin.gradients(logits[:, n].sin().sum())[2 + 3]
        torch.testing.assert_close(found[n], expected, atol=1e-10, rtol=0)
        others = [row for row in range(15) if row // 5 != n]
        assert torch.equal(found[n][:, :, others], torch.zeros(2, 4, 10, 8).double())


def test_differentiate_takes_a_cotangent_and_leaves_the_parameters_alone():
    model, recorder = make_captioner(), GradientRecorder(["*.self"])
    logits = model(*make_batch(), recorder)
    recorder.differentiate(logits, logits.detach().cos())
    chained = {site: recorder.gradients(site) for site in recorder.heard()}
    assert all(p.grad is None for p in model.parameters())
    logits.sin().sum().backward()
    assert len(chained) == 5
    for site, gradients in chained.items():
        torch.testing.assert_close(recorder.gradients(site), gradients, atol=1e-12, rtol=0)


@pytest.mark.parametrize("frozen", ["", "vision", "vision text"])
def test_a_frozen_part_has_gradients_too(frozen):
    model, recorder = make_captioner(), GradientRecorder(["*"])
    logits = model(*make_batch(), recorder)
    recorder.differentiate(logits.sin().sum())
    expected = {site: recorder.gradients(site) for site in recorder.met}
    for name in frozen.split():
        model.get_submodule(name).requires_grad_(False)
    recorder.clear()
    recorder.differentiate(model(*make_batch(), recorder).sin().sum())
    assert len(expected) == 8
    for site, gradients in expected.items():
        torch.testing.assert_close(recorder.gradients(site), gradients, atol=1e-12, rtol=0)


def test_recording_changes_neither_output_nor_gradients_by_a_bit():
    def run(recorder):
        model = make_captioner(torch.float32)
        logits = model(*make_batch(torch.float32), recorder)
        logits.sin().sum().backward()
        return [logits, *(p.grad for p in model.parameters() if p.grad is not None)]

    without, recorded = run(None), run(GradientRecorder(["*"]))
    assert len(without) > 40
    assert all(torch.equal(a, b) for a, b in zip(without, recorded, strict=True))


@pytest.mark.parametrize("case", ["self", "grouped", "N captions"])
def test_only_the_heads_and_rows_asked_for_are_kept(case):
    everything, some = GradientRecorder(["*"]), GradientRecorder(["*"], [3, -4], rows=[1, -1])
    for recorder in (everything, some):
        attention_loss(CALLS[case], torch.float64, recorder).backward()
    for what in ("weights", "gradients"):
        expected = getattr(everything, what)("here")[:, [3, 0]][:, :, [1, -1]]
        torch.testing.assert_close(getattr(some, what)("here"), expected, atol=1e-12, rtol=0)


def test_a_number_added_to_the_scores_masks_too():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 5, requires_grad=True) for n in (4, 6, 6))
    bias = torch.randn(3, 4, 6)
    bias[:, :, 2] = float("-inf")
    weights = (q @ k.mT * 0.3 + bias).softmax(-1)
    (expected,) = torch.autograd.grad((weights @ v).sin().sum(), weights)
    out = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, bias.expand(2, 3, 4, 6), scale=0.3
    )
    recorder = GradientRecorder(["*"])
    recorder.take("here", AttentionCall(q, k, v, out, bias, 0.3))
    recorder.differentiate(out.sin().sum())
    expected[..., 2] = 0
    torch.testing.assert_close(recorder.weights("here"), weights.detach())
    torch.testing.assert_close(recorder.gradients("here"), expected)


def test_the_chain_rule_by_hand():
    out_gradient = torch.tensor([[[[1.0, 2.0]]]])
    v = torch.tensor([[[[3.0, 4.0], [5.0, 6.0]]]])
    assert weight_gradients(out_gradient, v).tolist() == [[[[11.0, 17.0]]]]
    mask = torch.tensor([[True, False]])
    assert weight_gradients(out_gradient.half(), v.half(), mask).tolist() == [[[[11.0, 0.0]]]]


def test_autocast_does_not_round_the_chain_rule():
    torch.manual_seed(0)
    case, recorder = CALLS["self"], GradientRecorder(["*"])
    attention_loss(case, torch.float32, recorder).backward()
    expected = recorder.gradients("here")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(recorder.gradients("here"), expected)
        cast = GradientRecorder(["*"])
        attention_loss(case, torch.float32, cast)
    sums = cast.weights("here").sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_forward_pass_without_a_graph_is_refused(mode):
    with mode(), pytest.raises(ValueError, match=r"vision\.0\.self ran under no_grad"):
        make_captioner()(*make_batch(), GradientRecorder(["*"]))


def test_a_site_that_no_backward_pass_reached_has_no_gradient():
    recorder, model = GradientRecorder(["text.*"]), make_captioner()
    logits = model(*make_batch(), recorder)
    assert recorder.weights("text.0.self").shape == (6, 4, 5, 5)
    with pytest.raises(ValueError, match=r"no backward pass reached text\.0\.self yet"):
        recorder.gradients("text.0.self")
    recorder.differentiate(logits.sum())
    assert recorder.gradients("text.0.self").abs().max() > 0
    recorder.forget_gradients()
    with pytest.raises(ValueError, match=r"no backward pass reached text\.0\.self yet"):
        recorder.gradients("text.0.self")
    with pytest.raises(ValueError, match=r"'vision\.0\.self' is not a recorded site; recorded: te"):
        recorder.weights("vision.0.self")


def test_a_site_runs_once():
    recorder, model, (images, tokens) = GradientRecorder(["*"]), make_captioner(), make_batch()
    model(images, tokens, recorder).sum().backward()
    with pytest.raises(ValueError, match=r"vision\.0\.self ran twice: .* Call clear\(\)"):
        model(images, tokens, recorder)


def test_the_graph_of_a_cleared_pass_writes_nothing():
    recorder, model = GradientRecorder(["*"]), make_captioner()
    old = model(*make_batch(), recorder)
    recorder.clear()
    model(*make_batch(), recorder)
    old.sum().backward()
    with pytest.raises(ValueError, match="no backward pass reached"):
        recorder.gradients("text.0.self")


def count_tensors() -> int:
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_nothing_outlives_the_recorder():
    model = make_captioner()
    names = {name for module in model.modules() for name in vars(module)}
    gc.collect()
    before = count_tensors()
    gc.disable()  # reference counts alone must do: a cycle through the graph would never go
    try:
        for _ in range(3):
            recorder = GradientRecorder(["*"])
            gone = weakref.ref(recorder)
            recorder.differentiate(model(*make_batch(), recorder).sum())
            recorder.gradients("text.0.self")
            del recorder
            assert gone() is None
        after = count_tensors()
    finally:
        gc.enable()
    assert after == before
    assert {name for module in model.modules() for name in vars(module)} == names
    assert not any(module._forward_hooks for module in model.modules())
