"""Maps of timm's, torch's and Hugging Face's models equal those of their own written-out twins."""

import copy
import inspect

import pytest
import timm
import torch
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from torch import Tensor, nn

from mmattn.gradient_recorder import GradientRecorder
from mmattn.interop.foreign_attention import listen, record
from mmattn.recorder import Recorder

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 3}
SMALL_16 = {**SMALL, "img_size": (32, 48)}
WINDOWS = {"img_size": (32, 48), "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3)}
PVT = {"depths": (1, 1, 1, 1), "embed_dims": (8, 16, 24, 32), "num_heads": (1, 2, 3, 4)}
HIERA = {"img_size": (64, 64), "embed_dim": 16, "stages": (1, 1, 1, 1), "num_heads": 1}

# name: (timm's name, options, (height, width), number of sites)
FUSED = {
    "vit": ("vit_tiny_patch16_224", SMALL_16, (32, 48), 2),
    "distilled": ("deit_tiny_distilled_patch16_224", SMALL_16, (32, 48), 2),
    "registers": ("vit_small_patch14_reg4_dinov2", {**SMALL, "img_size": 28}, (28, 28), 2),
    "qk norm": ("vit_tiny_patch16_224", {**SMALL_16, "qk_norm": True}, (32, 48), 2),
    "attention pool": ("vit_base_patch16_siglip_224", SMALL_16, (32, 48), 3),
    "rotary": ("eva02_tiny_patch14_224", {**SMALL, "img_size": 28}, (28, 28), 2),
    "relative positions": ("beit_base_patch16_224", SMALL_16, (32, 48), 2),
    "a bias of its own": ("vit_relpos_small_patch16_224", SMALL_16, (32, 48), 2),
    "swin": ("swin_tiny_patch4_window7_224", {**WINDOWS, "window_size": 4}, (32, 48), 4),
    "pvt": ("pvt_v2_b0", PVT, (64, 64), 4),
    "hiera": ("hiera_tiny_224", HIERA, (64, 64), 4),
}


def randomised(model: nn.Module) -> nn.Module:
    """Give every parameter a value that matters: biases of the scores, norms and scales too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def make_model(name: str, **options) -> tuple[nn.Module, Tensor]:
    """Return a model of `FUSED`, in evaluation mode, and images for it."""
    kind, own, size, _ = FUSED[name]
    return randomised(timm.create_model(kind, **own, **options)), torch.randn(2, 3, *size)


def written_out(model: nn.Module) -> nn.Module:
    """Return a copy that computes its weights with a softmax."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return model


def softmaxes(model: nn.Module, images: Tensor, monkeypatch, found: list[Tensor]) -> Tensor:
    """Run the model; add the result of every softmax to `found`."""
    softmax = Tensor.softmax

    def keep(*args, **kwargs):
        found.append(softmax(*args, **kwargs))
        return found[-1]

    with monkeypatch.context() as patched:
        patched.setattr(Tensor, "softmax", keep)
        return model(images)


def own_maps(model: nn.Module, images: Tensor, monkeypatch) -> list[Tensor]:
    """Return what the model's own softmaxes give."""
    found: list[Tensor] = []
    with torch.no_grad():
        softmaxes(model, images, monkeypatch, found)
    return found


def assert_equal_maps(recorder: Recorder, expected: list[Tensor]):
    assert len(recorder.maps) == len(expected) > 0
    for maps, weights in zip(recorder.maps.values(), expected, strict=True):
        torch.testing.assert_close(maps, weights.flatten(0, -4), atol=1e-6, rtol=0)
        assert maps.std() > 1e-3 or maps.shape[-1] == 1  # uniform maps would be equal too easily


@pytest.mark.parametrize("name", FUSED)
def test_maps_equal_those_of_the_model_without_its_fused_kernel(name, monkeypatch):
    model, images = make_model(name)
    twin = written_out(model)
    expected = own_maps(twin, images, monkeypatch)
    assert len(expected) == FUSED[name][-1]
    for each in (model, twin):
        with torch.no_grad():
            output = each(images)
            with record(each) as recorder:
                assert torch.equal(each(images), output)
        assert_equal_maps(recorder, expected)
        assert all(hasattr(each.get_submodule(site), "fused_attn") for site in recorder.maps)


def make_swin_v2() -> nn.Module:
    return timm.create_model("swinv2_tiny_window8_256", **WINDOWS, window_size=4)


def make_mvit() -> nn.Module:
    config = MultiScaleVitCfg(depths=(1, 1), embed_dim=(12, 24), num_heads=(1, 2))
    return MultiScaleVit(config, img_size=(64, 64))


@pytest.mark.parametrize(
    ("make", "size", "sites"), [(make_swin_v2, (32, 48), 4), (make_mvit, (64, 64), 2)]
)
def test_maps_of_what_timm_only_writes_out(make, size, sites, monkeypatch):
    model, images = randomised(make()), torch.randn(2, 3, *size)
    with torch.no_grad():
        output = model(images)
        with record(model) as recorder:
            assert torch.equal(model(images), output)
    assert len(recorder.maps) == sites
    assert_equal_maps(recorder, own_maps(model, images, monkeypatch))


@pytest.mark.parametrize("name", ["vit", "swin", "hiera"])
@pytest.mark.parametrize("fused", [True, False])
def test_training_is_the_same_to_the_last_bit(name, fused):
    dropout = {} if name == "hiera" else {"attn_drop_rate": 0.2, "proj_drop_rate": 0.1}
    model, images = make_model(name, drop_path_rate=0.1, **dropout)
    model = (model if fused else written_out(model)).train()

    def train(recorded: bool) -> list[Tensor]:
        model.zero_grad()
        torch.manual_seed(1)
        if recorded:
            with record(model):
                out = model(images)
        else:
            out = model(images)
        out.square().sum().backward()
        return [out, *(p.grad for p in model.parameters() if p.grad is not None)]

    without, recorded = train(False), train(True)
    assert len(without) > 20
    assert all(torch.equal(a, b) for a, b in zip(without, recorded, strict=True))


@pytest.mark.parametrize("fused", [True, False])
def test_maps_are_those_before_dropout(fused):
    model, images = make_model("vit", attn_drop_rate=0.5)
    model = model if fused else written_out(model)
    with record(model, "blocks.0.attn") as evaluated:
        model(images)
    with record(model.train(), "blocks.0.attn") as trained:
        model(images)
    maps = trained.maps["blocks.0.attn"]
    torch.testing.assert_close(maps, evaluated.maps["blocks.0.attn"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["vit", "swin", "hiera"])
@pytest.mark.parametrize("fused", [True, False])
def test_gradients_in_the_weights_are_the_written_out_twins(name, fused, monkeypatch):
    model, images = make_model(name)
    twin, weights = written_out(model), []
    softmax = Tensor.softmax
    with monkeypatch.context() as patched:
        patched.setattr(
            Tensor, "softmax", lambda *a, **k: weights.append(softmax(*a, **k)) or weights[-1]
        )
        expected = torch.autograd.grad(twin(images).square().sum(), weights)
    model = (model if fused else twin).requires_grad_(False)  # the graph starts at the sites
    with listen(model, GradientRecorder("*")) as recorder:
        output = model(images)
    recorder.differentiate(output.square().sum())
    sites = recorder.heard()
    assert len(sites) == len(expected)
    for site, gradient in zip(sites, expected, strict=True):
        scale = gradient.abs().max()
        found = recorder.gradients(site) / scale
        torch.testing.assert_close(found, gradient.flatten(0, -4) / scale, atol=1e-4, rtol=0)


def make_encoder(**options) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=not options).eval()


def own_weights(model: nn.Module, *inputs: Tensor, **options) -> list[Tensor]:
    """Run the model with every `nn.MultiheadAttention` made to return its weights; collect them."""
    model, found = copy.deepcopy(model), []
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            forward = module.forward

            def ask(*args, forward=forward, **kwargs):
                kwargs |= {"need_weights": True, "average_attn_weights": False}
                out, weights = forward(*args, **kwargs)
                found.append(weights.detach())
                return out, weights

            module.forward = ask
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        model(*inputs, **options)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return found


ENCODERS = {
    "plain": ({}, {}),
    "causal": ({}, {"mask": nn.Transformer.generate_square_subsequent_mask(5), "is_causal": True}),
    "padded": ({}, {"src_key_padding_mask": torch.arange(5) >= torch.tensor([[5], [3], [4]])}),
    "normalised first": ({"norm_first": True}, {}),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("case", ENCODERS.values(), ids=ENCODERS)
def test_torchs_encoder_with_and_without_its_fast_path(case, grad):
    options, arguments = case
    model, x = make_encoder(**options), torch.randn(3, 5, 16)
    expected = own_weights(model, x, **arguments)
    with torch.set_grad_enabled(grad):
        plain = model(x, **arguments)
        with record(model) as recorder:
            output = model(x, **arguments)
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            assert torch.equal(output, model(x, **arguments))
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
    valid = ~arguments.get("src_key_padding_mask", torch.zeros(3, 5).bool())
    torch.testing.assert_close(output[valid], plain[valid], atol=1e-5, rtol=0)
    assert list(recorder.maps) == ["layers.0.self_attn", "layers.1.self_attn"]
    assert_equal_maps(recorder, expected)


def test_torchs_decoder_has_both_its_attentions():
    torch.manual_seed(0)
    model = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 1).eval()
    x, memory = torch.randn(3, 5, 16), torch.randn(3, 7, 16)
    with record(model) as recorder:
        model(x, memory)
    assert list(recorder.maps) == ["layers.0.self_attn", "layers.0.multihead_attn"]
    assert_equal_maps(recorder, own_weights(model, x, memory))


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"kdim": 6, "vdim": 7}, {"add_bias_kv": True, "add_zero_attn": True}]
)
def test_multihead_attention_alone(options, need_weights):
    torch.manual_seed(0)
    model = nn.MultiheadAttention(16, 4, batch_first=True, **options).eval()
    q, k = torch.randn(3, 5, 16), torch.randn(3, 6, options.get("kdim", 16))
    v = torch.randn(3, 6, options.get("vdim", 16))
    with torch.no_grad():
        plain = model(q, k, v, need_weights=need_weights)
        with record(model) as recorder:
            output = model(q, k, v, need_weights=need_weights)
        _, weights = model(q, k, v, average_attn_weights=False)
    assert torch.equal(output[0], plain[0])
    assert need_weights == (output[1] is not None)
    assert list(recorder.maps) == ["MultiheadAttention"]
    assert_equal_maps(recorder, [weights])


def transformers_model(kind: str, implementation: str):
    """Return a small model of Hugging Face's with random weights, and its inputs."""
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 24, "num_hidden_layers": 2, "intermediate_size": 32}
    small |= {"initializer_range": 0.3, "vocab_size": 50}
    tokens = {"input_ids": torch.arange(12).view(2, 6)}
    torch.manual_seed(0)
    if kind == "vit":
        config = transformers.ViTConfig(**small, num_attention_heads=3, image_size=32)
        model, inputs = transformers.ViTModel, {"pixel_values": torch.randn(2, 3, 32, 32)}
    elif kind == "gpt2":
        config = transformers.GPT2Config(
            n_embd=24, n_layer=2, n_head=3, vocab_size=50, bos_token_id=0, eos_token_id=1
        )
        config.initializer_range = 0.3
        real = torch.arange(6) >= torch.tensor([[0], [2]])
        model, inputs = transformers.GPT2Model, tokens | {"attention_mask": real}
    else:
        config = transformers.LlamaConfig(**small, num_attention_heads=6, num_key_value_heads=3)
        model, inputs = transformers.LlamaModel, tokens
    torch.manual_seed(0)
    return model._from_config(config, attn_implementation=implementation).eval(), inputs


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["vit", "gpt2", "llama"])
def test_hugging_face_models_equal_their_eager_attention(kind, implementation):
    eager, inputs = transformers_model(kind, "eager")
    model, _ = transformers_model(kind, implementation)
    with torch.no_grad():
        expected = eager(**inputs, output_attentions=True).attentions
        output = model(**inputs)[0]
        with record(model) as recorder:
            assert torch.equal(model(**inputs)[0], output)
    assert len(expected) == 2
    # Padding attends to something else in each implementation, and to nothing that matters.
    real = inputs.get("attention_mask", torch.ones(2, expected[0].shape[2]).bool())
    for maps, weights in zip(recorder.maps.values(), expected, strict=True):
        assert maps.shape == weights.shape
        maps, weights = maps.transpose(1, 2)[real], weights.transpose(1, 2)[real]
        torch.testing.assert_close(maps, weights, atol=1e-6, rtol=0)
        assert weights.std() > 1e-3


def test_cached_decoding_gives_the_rows_of_the_whole_text():
    model, inputs = transformers_model("llama", "sdpa")
    tokens = inputs["input_ids"]
    # transformers 5.24 calls it `cache`, and warns of the name that it had before.
    renamed = "cache" in inspect.signature(model.forward).parameters
    empty = pytest.importorskip("transformers").DynamicCache(config=model.config)
    cache = {"cache" if renamed else "past_key_values": empty}
    with torch.no_grad():
        with record(model) as whole:
            model(tokens)
        with record(model) as stepwise:
            for part in (tokens[:, :3], tokens[:, 3:5], tokens[:, 5:]):
                model(part, use_cache=True, **cache)
    for site, maps in whole.maps.items():
        torch.testing.assert_close(stepwise.maps[site], maps, atol=1e-6, rtol=0)
