"""What a context around a foreign model promises: names, never an empty result, nothing left."""

import gc
import re
import weakref

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mmattn.attention import Attention
from mmattn.backbones import TimmPatches
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.interop.foreign_attention import listen, record
from mmattn.recorder import Recorder
from mmattn.taps import Listener
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

VIT = {"img_size": (32, 48), "embed_dim": 24, "depth": 2, "num_heads": 3}
SWIN = {
    "img_size": (32, 48),
    "embed_dim": 12,
    "depths": (2, 2),
    "num_heads": (2, 3),
    "window_size": 4,
}
IMAGES = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def make_vit(*, fused: bool = True) -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", **VIT).eval()
    for block in model.blocks:
        block.attn.fused_attn = fused
    return model


def make_swin() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("swin_tiny_patch4_window7_224", **SWIN).eval()


def test_a_site_is_the_module_that_calls_and_rows_and_heads_are_the_recorders():
    model, images = make_vit(), IMAGES
    with record(model) as recorder, torch.no_grad():
        model(images)
    everything = recorder.maps
    assert list(everything) == ["blocks.0.attn", "blocks.1.attn"]
    with record(model, "*.1.attn", [2, 0], rows=[0, -1], dtype=torch.float64) as recorder:
        model.forward_features(images)  # nobody calls the model itself
    expected = everything["blocks.1.attn"][:, [2, 0]][:, :, [0, -1]]
    assert list(recorder.maps) == ["blocks.1.attn"]
    torch.testing.assert_close(recorder.maps["blocks.1.attn"], expected.double(), atol=1e-6, rtol=0)
    with record(model.blocks[0].attn) as recorder:
        model(images)
    assert list(recorder.maps) == ["Attention"]
    torch.testing.assert_close(recorder.maps["Attention"], everything["blocks.0.attn"])
    with record(model, budget_mb=0.001) as recorder:
        model(images)
    with pytest.raises(ValueError, match=r"the budget is 0\.001 MB"):
        _ = recorder.maps


class TalkingHeads(nn.Module):
    """Changes its weights after the softmax, unless it may use the fused kernel."""

    def __init__(self, fused: bool | None = None):
        super().__init__()
        if fused is not None:
            self.fused_attn = fused

    def forward(self, x: Tensor) -> Tensor:
        if getattr(self, "fused_attn", False):
            return F.scaled_dot_product_attention(x, x, x)
        return (x @ x.mT).softmax(-1).flip(1) @ x


class HiddenAttention(nn.Module):
    """A kernel that no mode sees."""

    def forward(self, x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            return F.scaled_dot_product_attention(x, x, x)


class Wrapper(nn.Module):
    def __init__(self, attention: nn.Module):
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x)


class AttentionBlock(Wrapper):
    """Looks like attention, and leaves it to the module inside."""


X = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("model", "sites", "said"),
    [
        (nn.Linear(4, 4), "*", r"no attention ran at '\*'; it ran at: no site$"),
        (
            nn.Sequential(AttentionBlock(TalkingHeads(True))),
            ["*", "1.*"],
            r"^no attention ran at '1\.\*'; it ran at: 0\.attention$",
        ),
        (Wrapper(TalkingHeads()), "*", r"^attention \(TalkingHeads\) makes a softmax, but not one"),
        (nn.Sequential(TalkingHeads()), "*", r"no site\. 0 \(TalkingHeads\) makes .*'sdpa'"),
        (
            nn.Sequential(TalkingHeads(False)),
            "*",
            r"no site\. 0 \(TalkingHeads\) .* set its fused_attn to True .*set_fused_attn\(True\)",
        ),
        (
            nn.Sequential(AttentionBlock(HiddenAttention())),
            "*",
            r"no site\. 0\.attention \(HiddenAttention\) ran without a call [^.]*'sdpa'\)$",
        ),
    ],
)
def test_an_empty_result_is_an_error_that_names_the_module(model, sites, said):
    with pytest.raises(ValueError, match=said), record(model, sites):
        model(X)


def test_a_partial_result_is_an_error_that_names_the_module():
    model = nn.Sequential(TalkingHeads(True), Wrapper(TalkingHeads()))
    with (
        pytest.raises(ValueError, match=r"^1\.attention \(TalkingHeads\) .* other sites than '\*'"),
        record(model),
    ):
        model(X)
    with record(model, "0") as recorder:
        model(X)
    assert list(recorder.maps) == ["0"]


def test_a_context_in_which_the_model_does_not_run_says_so():
    model, other = nn.Sequential(TalkingHeads(True)), TalkingHeads(True)
    said = "no site. No module of this Sequential ran inside the context"
    with pytest.raises(ValueError, match=re.escape(said)), record(model):
        other(X)


def test_calls_outside_of_every_module_are_counted():
    linear = nn.Linear(4, 4)
    said = r"no site\. 1 calls came from outside of the model's modules$"
    with pytest.raises(ValueError, match=said), record(linear):
        F.scaled_dot_product_attention(linear(X), X, X)


def test_an_exception_of_the_model_is_not_covered_up():
    model = make_vit()
    with pytest.raises(AssertionError, match="Input height"), record(model):
        model(IMAGES[:, :, :17])
    with record(model) as recorder:  # and the context is fit for use after one
        with pytest.raises(AssertionError):
            model(IMAGES[:, :, :17])
        model(IMAGES)
    assert list(recorder.maps) == ["blocks.0.attn", "blocks.1.attn"]


def state(model: nn.Module) -> list:
    hooks = [name for name in vars(nn.Module()) if name.endswith(("hooks", "kwargs", "called"))]
    return [
        (
            name,
            module.training,
            module.forward.__func__,
            sorted(vars(module)),
            [dict(getattr(module, kind) or {}) for kind in hooks],
            [(parameter.requires_grad, id(parameter)) for parameter in module.parameters()],
        )
        for name, module in model.named_modules()
    ]


def test_the_model_is_restored_also_after_exceptions_and_nested_use():
    model, images = make_swin(), IMAGES
    model.layers[0].requires_grad_(False).train()
    hook = model.layers[1].register_forward_hook(lambda *_: None)
    before = state(model)
    with record(model, "layers.0.*") as outer, torch.no_grad():
        with record(model, "layers.1.*") as inner:
            model(images)
            assert state(model) != before
        model(images)
    assert state(model) == before
    with pytest.raises(RuntimeError, match="channels"), record(model):
        model(images[:, :1])
    assert state(model) == before
    with pytest.raises(ValueError, match="no attention ran"), record(model, "nowhere"):
        model(images)
    assert state(model) == before
    hook.remove()
    assert list(inner.maps) == ["layers.1.blocks.0.attn", "layers.1.blocks.1.attn"]
    with record(model, "layers.0.*") as once, torch.no_grad():
        model(images)
    for site, maps in once.maps.items():
        torch.testing.assert_close(outer.maps[site], torch.cat([maps, maps], 2))


@pytest.mark.parametrize("fused", [True, False])
def test_nested_contexts_hear_the_model_and_not_each_other(fused):
    model = make_vit(fused=fused)
    with record(model) as outer, record(model) as inner, torch.no_grad():
        model(IMAGES)
    assert list(outer.maps) == list(inner.maps)
    for site, maps in inner.maps.items():
        assert torch.equal(outer.maps[site], maps)


@pytest.mark.parametrize("need_weights", [True, False])
def test_nested_contexts_around_torchs_own_attention(need_weights):
    model, x = nn.MultiheadAttention(16, 4, batch_first=True), torch.randn(3, 5, 16)
    with record(model) as outer, record(model) as inner:
        model(x, x, x, need_weights=need_weights)
    assert inner.maps["MultiheadAttention"].shape == (3, 4, 5, 5)
    assert torch.equal(outer.maps["MultiheadAttention"], inner.maps["MultiheadAttention"])


class Attends(Listener):
    """Computes with attention itself, as listeners do that keep statistics."""

    def take(self, site, call):
        F.scaled_dot_product_attention(call.q, call.k, call.k)


def test_what_a_listener_computes_is_not_the_models():
    model = make_vit()
    with record(model) as outer, listen(model, Attends("*")), torch.no_grad():
        model(IMAGES)
    assert {tuple(maps.shape) for maps in outer.maps.values()} == {(2, 3, 7, 7)}


@pytest.mark.parametrize("fused", [True, False])
def test_many_contexts_leave_no_tensor_behind(fused):
    model, x = make_vit(fused=fused).blocks[0], torch.randn(2, 7, 24)

    def cycle():
        with record(model) as recorder:
            model(x).sum().backward()
        assert list(recorder.maps) == ["attn"]
        return weakref.ref(recorder)

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(one), Tensor) for one in gc.get_objects())

    cycle()
    before = tensors()
    gc.disable()  # so that a cycle of references would keep a recorder
    try:
        recorders = [cycle() for _ in range(100)]
    finally:
        gc.enable()
    assert all(recorder() is None for recorder in recorders)
    assert tensors() == before


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_backward_pass_that_runs_a_checkpointed_block_again_is_not_heard(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = make_vit()

        def forward(self, x):
            x = self.model.patch_embed(x)
            for block in self.model.blocks:
                x = checkpoint(block, x, use_reentrant=reentrant)
            return x

    model = Checkpointed()
    with record(model) as recorder:
        model(IMAGES).sum().backward()
    assert list(recorder.maps) == ["model.blocks.0.attn", "model.blocks.1.attn"]
    assert {tuple(maps.shape) for maps in recorder.maps.values()} == {(2, 3, 6, 6)}


@pytest.mark.parametrize("fused", [True, False])
def test_under_autocast_the_maps_are_of_the_rounded_scores_and_not_rounded_themselves(fused):
    model = make_vit(fused=fused)
    attention, found = model.blocks[0].attn, {}
    attention.q_norm.register_forward_hook(lambda *args: found.update(q=args[2]))
    attention.k_norm.register_forward_hook(lambda *args: found.update(k=args[2]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = model(IMAGES)
        with record(model, "blocks.0.attn") as recorder:
            assert torch.equal(model(IMAGES), output)
    maps, q, k = recorder.maps["blocks.0.attn"], found["q"], found["k"]
    assert q.dtype == torch.bfloat16
    assert maps.dtype == torch.float32
    if fused:
        weights = (q.double() @ k.double().mT / 8**0.5).softmax(-1)
    else:  # the scores are a bfloat16 tensor of the model's
        weights = (q * attention.scale @ k.mT).double().softmax(-1)
    torch.testing.assert_close(maps.double(), weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize("how", ["wrapped", "in place", "a part", "a function"])
def test_compiled_models_run_as_written_and_stay_compiled(how):
    model, images = make_vit(), IMAGES
    with record(model) as recorder, torch.no_grad():
        plain = model(images)
    compiled_graphs = []

    def backend(graph, _):
        compiled_graphs.append(graph)
        return graph.forward

    call = model
    if how == "wrapped":
        call = model = torch.compile(model, backend=backend)
    elif how == "in place":
        model.compile(backend=backend)
    elif how == "a part":
        model.blocks[1] = torch.compile(model.blocks[1], backend=backend)
    else:
        call = torch.compile(model.forward_features, backend=backend)
        plain = None
    with torch.no_grad():
        call(images)
        count = len(compiled_graphs)
        assert count
        with record(model) as compiled:
            output = call(images)
        call(images)
    assert len(compiled_graphs) == count
    assert plain is None or torch.equal(output, plain)
    assert list(compiled.maps) == list(recorder.maps)
    for site, maps in recorder.maps.items():
        assert torch.equal(compiled.maps[site], maps)


def make_captioner(name: str, options: dict, frozen: bool = False) -> Captioner:
    torch.manual_seed(0)
    patches = TimmPatches(name, 16, (32, 48), options=options, frozen=frozen)
    block = BlockOptions(heads=4)
    vision = VisionTransformer((32, 48), patches, 1, block)
    text = TextTransformer(11, 16, 1, block, max_length=8, context_dim=16)
    return Captioner(vision, text).eval()


@pytest.mark.parametrize(
    ("name", "options", "sites"),
    [
        ("vit_tiny_patch16_224", VIT, ["blocks.0.attn", "blocks.1.attn"]),
        (
            "swin_tiny_patch4_window7_224",
            SWIN,
            [f"layers.{i}.blocks.{j}.attn" for i in range(2) for j in range(2)],
        ),
    ],
)
@pytest.mark.parametrize("frozen", [True, False])
def test_the_backbone_of_a_captioner_is_recorded_while_it_encodes(name, options, sites, frozen):
    captioner = make_captioner(name, options, frozen)
    backbone, images = captioner.vision.patches.backbone, torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        expected, own = captioner.encode(images), Recorder("vision.*")
        with record(backbone) as recorder:
            encoded = captioner.encode(images, own)
    assert torch.equal(encoded.tokens, expected.tokens)
    assert list(recorder.maps) == sites
    assert list(own.maps) == ["vision.0.self"]
    for maps in recorder.maps.values():
        torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))


def test_our_own_models_are_torch_models_too():
    captioner, images = make_captioner("vit_tiny_patch16_224", VIT), torch.randn(2, 3, 32, 48)
    tokens, own = torch.randint(11, (2, 3, 5)), Recorder("*")
    captioner(images, tokens, own)
    names = {
        module: name for name, module in captioner.named_modules() if isinstance(module, Attention)
    }
    with record(captioner, ["vision.blocks.*", "text.*"]) as recorder:
        captioner(images, tokens)
    assert set(names.values()) == set(recorder.maps)
    for ours, seen in zip(own.maps.values(), recorder.maps.values(), strict=True):
        torch.testing.assert_close(seen, ours, atol=1e-6, rtol=0)
