"""Recorded maps are the kernel's own weights, and recording changes not one bit of the model."""

import copy
import math

import pytest
import timm
import torch
from timm.layers import set_fused_attn
from torch import nn

from mmattn.attention import Attention, KeyValues, padding_mask
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.interop.timm_vit import convert_timm_vit
from mmattn.patches import LinearPatches
from mmattn.positions import text_rotation
from mmattn.recorder import Recorder, attention_weights
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

EVERYTHING = BlockOptions(
    heads=4, kv_heads=2, qk_norm="rms", dropout=0.1, attention_dropout=0.2, drop_path=0.3
)
VALID = torch.arange(9) < torch.tensor([[9], [4], [0]])  # the last row may attend to nothing


def make_captioner(block=EVERYTHING, *, checkpointing=False, position="rotary") -> Captioner:
    vision = VisionTransformer(
        (8, 12),
        LinearPatches(4, 16),
        2,
        block,
        class_token=True,
        registers=2,
        position=position,
        gradient_checkpointing=checkpointing,
    )
    text = TextTransformer(
        11,
        16,
        2,
        block,
        max_length=8,
        context_dim=12,
        position=position,
        gradient_checkpointing=checkpointing,
    )
    return Captioner(vision, text)


def make_batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 8, 12, generator=generator)
    return images, torch.randint(0, 11, (2, 3, 5), generator=generator)


def plain_weights(q, k, allowed):
    """softmax(q·kᵀ/√K) in float64, a query at a time; nothing allowed gives zeros."""
    q, k = q.double(), k.double()
    weights = torch.zeros(*q.shape[:3], k.shape[2], dtype=torch.float64)
    for b, h, t in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        keys = k[b, h * k.shape[1] // q.shape[1]]
        exponents = [
            math.exp(float(q[b, h, t] @ key) / math.sqrt(q.shape[-1])) * bool(seen)
            for key, seen in zip(keys, allowed[b, h, t], strict=True)
        ]
        weights[b, h, t] = torch.tensor(exponents, dtype=torch.float64) / (sum(exponents) or 1.0)
    return weights


@pytest.mark.parametrize(
    ("dtype", "within"),
    [
        (torch.float64, 1e-12),
        (torch.float32, 1e-6),
        (torch.bfloat16, 2e-5),
        (torch.float16, 2e-5),
    ],
)
@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("kind", ["none", "padding", "per head"])
def test_the_weights_equal_a_plain_softmax(dtype, within, groups, kind):
    torch.manual_seed(0)
    q, k = torch.randn(3, 4, 5, 6).to(dtype), torch.randn(3, groups, 9, 6).to(dtype)
    masks = {"none": None, "padding": padding_mask(VALID), "per head": torch.rand(3, 4, 5, 9) > 0.5}
    mask = masks[kind]
    allowed = (torch.tensor(True) if mask is None else mask).expand(3, 4, 5, 9)
    weights = attention_weights(q, k, mask)
    expected = plain_weights(q, k, allowed)
    assert weights.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(weights.double(), expected, atol=within, rtol=0)
    sums = allowed.any(-1).to(weights)
    torch.testing.assert_close(weights.sum(-1), sums, atol=within, rtol=0)


# name: (options of Attention, queries, keys, causal, padded, rotary)
CALLS = {
    "self": ({}, 9, 9, False, False, False),
    "causal": ({}, 9, 9, True, False, False),
    "cross": ({}, 5, 9, False, False, False),
    "cached": ({}, 3, 9, True, False, False),
    "padding": ({}, 9, 9, False, True, False),
    "causal padding": ({}, 9, 9, True, True, False),
    "grouped": ({"kv_heads": 2}, 9, 9, True, True, False),
    "rotary": ({}, 9, 9, True, False, True),
    "layer qk-norm": ({"qk_norm": "layer"}, 9, 9, False, False, False),
    "rms qk-norm": ({"qk_norm": "rms", "kv_heads": 2}, 9, 9, True, False, True),
}


def record_call(case, dtype):
    """Return (weights, v, output before the last projection) of a recorded attention call."""
    options, queries, keys, causal, padded, rotary = case
    torch.manual_seed(0)
    attention = Attention(16, 4, **options).to(dtype)
    attention.to_out = nn.Identity()
    x, context = torch.randn(3, queries, 16, dtype=dtype), torch.randn(3, keys, 16, dtype=dtype)
    rotation = text_rotation(queries, 4) if rotary else None
    kv = attention.kv(context, rotation)
    recorder = Recorder(["*"])
    mask = padding_mask(VALID) if padded else None
    tap = recorder.tap("here")
    out = attention(x, kv, mask, causal=causal, rotation=rotation, tap=tap)
    return recorder.maps["here"], kv.v, out.view(3, queries, 4, 4).transpose(1, 2)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("case", CALLS.values(), ids=CALLS)
def test_recorded_weights_times_values_are_the_kernels_output(case, dtype, within):
    weights, v, out = record_call(case, dtype)
    weighted = weights @ v.repeat_interleave(4 // v.shape[1], dim=1)
    torch.testing.assert_close(out, weighted, atol=within, rtol=0)
    assert not weights.requires_grad
    sums = weights.sum(-1)
    if case[4]:
        assert torch.equal(weights[2], torch.zeros_like(weights[2]))
        sums = sums[:2]
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=within, rtol=0)


def test_maps_are_those_that_timm_computes_without_its_fused_kernel():
    set_fused_attn(False)
    try:
        reference = timm.create_model(
            "vit_tiny_patch16_224", img_size=(32, 48), embed_dim=24, depth=2, reg_tokens=2
        ).eval()
    finally:
        set_fused_attn(True)
    maps = []
    for block in reference.blocks:
        block.attn.attn_drop.register_forward_hook(lambda _, __, out: maps.append(out))
    images, recorder = torch.randn(2, 3, 32, 48), Recorder(["vision.*.self"])
    with torch.no_grad():
        reference.forward_features(images)
        convert_timm_vit(reference).eval()(images, recorder)
    assert recorder.stack("*").shape == (2, 2, 3, 3 + 6, 3 + 6)
    torch.testing.assert_close(recorder.stack("*"), torch.stack(maps), atol=1e-6, rtol=0)


def run(model: Captioner, recorder: Recorder | None):
    """Return the logits and all gradients of a seeded training pass."""
    model.zero_grad()
    images, tokens = make_batch()
    torch.manual_seed(1)
    logits = model.train()(images, tokens, recorder)
    logits.square().sum().backward()
    return [logits, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("heads", [None, [1, 3]])
def test_recording_changes_neither_output_nor_gradients_by_a_bit(checkpointing, heads):
    torch.manual_seed(0)
    model = make_captioner(checkpointing=checkpointing)
    recorder = Recorder(["*"], heads)
    without, recorded = run(model, None), run(model, recorder)
    assert len(without) == 1 + len(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(without, recorded, strict=True))
    assert not torch.equal(without[0], model.eval()(*make_batch()))  # dropout was on


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_step_records_every_site_once(checkpointing):
    recorder = Recorder(["*"])
    run(make_captioner(checkpointing=checkpointing), recorder)
    assert {site: tuple(maps.shape) for site, maps in recorder.maps.items()} == {
        "vision.0.self": (2, 4, 3 + 6, 3 + 6),
        "vision.1.self": (2, 4, 3 + 6, 3 + 6),
        "text.0.self": (6, 4, 5, 5),
        "text.0.cross": (2, 4, 3 * 5, 3 + 6),
        "text.1.self": (6, 4, 5, 5),
        "text.1.cross": (2, 4, 3 * 5, 3 + 6),
    }


def test_the_model_keeps_nothing_of_a_recorder():
    model = make_captioner()
    before = copy.deepcopy(model.state_dict())
    model(*make_batch(), Recorder(["*"]))
    assert model.state_dict().keys() == before.keys()
    assert all(not module._forward_hooks for module in model.modules())
    assert not any(isinstance(v, Recorder) for m in model.modules() for v in vars(m).values())


def test_captions_of_an_image_are_rows_of_its_map():
    model = make_captioner().eval()
    images, tokens = make_batch()
    together = Recorder()
    model(images, tokens, together)
    for n in range(3):
        alone = Recorder()
        model(images, tokens[:, n : n + 1], alone)
        assert len(alone.maps) == 2
        for site, maps in alone.maps.items():
            rows = together.maps[site][:, :, 5 * n : 5 * n + 5]
            torch.testing.assert_close(rows, maps, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_a_subset_of_heads_is_those_heads_of_all(kv_heads):
    model = make_captioner(BlockOptions(heads=4, kv_heads=kv_heads)).eval()
    all_heads, some = Recorder(["*"]), Recorder(["*"], heads=[3, 0])
    model(*make_batch(), all_heads)
    model(*make_batch(), some)
    assert len(some.maps) == 6
    for site, maps in some.maps.items():
        torch.testing.assert_close(maps, all_heads.maps[site][:, [3, 0]], atol=1e-7, rtol=0)


def test_a_subset_of_heads_takes_its_own_masks():
    torch.manual_seed(0)
    attention, x, mask = Attention(8, 4), torch.randn(2, 5, 8), torch.rand(2, 4, 5, 5) > 0.5
    all_heads, some = Recorder(["*"]), Recorder(["*"], heads=[2])
    for recorder in (all_heads, some):
        attention(x, attention.kv(x), mask, tap=recorder.tap("here"))
    torch.testing.assert_close(some.maps["here"], all_heads.maps["here"][:, [2]])


@pytest.mark.parametrize(
    ("sites", "recorded"),
    [
        (["text.*.cross"], ["text.0.cross", "text.1.cross"]),
        (["vision.1.*", "text.0.self"], ["vision.1.self", "text.0.self"]),
        (["*.0.*"], ["vision.0.self", "text.0.self", "text.0.cross"]),
    ],
)
def test_sites_are_glob_patterns(sites, recorded):
    recorder = Recorder(sites)
    make_captioner()(*make_batch(), recorder)
    assert list(recorder.maps) == recorded


def test_stack_puts_layer_by_layer():
    recorder = Recorder(["*"])
    make_captioner()(*make_batch(), recorder)
    stacked = recorder.stack("text.*.cross")
    assert stacked.shape == (2, 2, 4, 15, 9)
    assert torch.equal(stacked[1], recorder.maps["text.1.cross"])


def test_stack_refuses_what_was_not_recorded():
    recorder = Recorder(["text.0.cross"])
    with pytest.raises(ValueError, match=r"no attention ran at 'text\.0\.cross'; .* no site$"):
        recorder.stack("text.*.cross")
    make_captioner()(*make_batch(), recorder)
    with pytest.raises(ValueError, match=r"recorded: text\.0\.cross$"):
        recorder.stack("vision.*.self")
    assert torch.equal(recorder.stack("text.*.cross")[0], recorder.maps["text.0.cross"])
    recorder.clear()
    with pytest.raises(ValueError, match="it ran at: no site"):
        _ = recorder.maps


def test_a_site_that_does_not_exist_is_answered_with_those_that_do():
    recorder = Recorder(["text.*.cross", "text.2.cross"])
    make_captioner()(*make_batch(), recorder)
    with pytest.raises(
        ValueError, match=r"'text\.2\.cross'; it ran at: vision\.0\.self, .*1\.cross"
    ):
        _ = recorder.maps
    with pytest.raises(ValueError, match="sites is empty"):
        Recorder([])


def test_only_the_rows_and_heads_asked_for_are_kept():
    everything, some = Recorder(["*"]), Recorder(["*"], [3, -4], rows=[0, -1])
    model = make_captioner().eval()
    model(*make_batch(), everything)
    model(*make_batch(), some)
    for site, maps in some.maps.items():
        expected = everything.maps[site][:, [3, 0]][:, :, [0, -1]]
        torch.testing.assert_close(maps, expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": [4]}, r"heads=\[4\], but vision\.0\.self has 4 heads: 4 is not one"),
        ({"rows": [0, -10]}, r"rows=\[0, -10\], but vision\.0\.self has 9 rows: -10 is not one"),
    ],
)
def test_a_head_or_a_row_that_does_not_exist_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        make_captioner()(*make_batch(), Recorder(["*"], **options))


def test_over_budget_says_what_is_needed_and_what_to_reduce():
    model, batch = make_captioner().eval(), make_batch()
    needed = sum(maps.nbytes for maps in recorded(model, batch, None).maps.values()) / 2**20
    assert recorded(model, batch, needed).maps
    small = recorded(model, batch, needed / 2)
    with pytest.raises(
        ValueError, match=rf"6 sites needs {needed:.1f} MB and .* fewer sites, heads"
    ):
        _ = small.maps
    half = recorded(model, batch, needed / 2, dtype=torch.float16)
    assert all(maps.dtype == torch.float16 for maps in half.maps.values())


def recorded(model, batch, budget, dtype=None):
    recorder = Recorder(["*"], dtype=dtype, budget_mb=budget)
    model(*batch, recorder)
    return recorder


def test_a_number_added_to_the_scores_and_a_scale_of_its_own():
    torch.manual_seed(0)
    q, k, bias = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 6, 5), torch.randn(3, 4, 6)
    bias[0, 1] = float("-inf")
    bias[1, :, 2] = float("-inf")
    weights = attention_weights(q, k, bias, 0.3)
    kernel = torch.nn.functional.scaled_dot_product_attention
    values = torch.eye(6).expand(2, 3, 6, 6)
    expected = kernel(q, k, values, attn_mask=bias.expand(2, 3, 4, 6), scale=0.3)
    torch.testing.assert_close(weights, expected)
    assert torch.equal(weights[:, 0, 1], torch.zeros(2, 6))


def test_the_calls_of_cached_decoding_follow_each_other_with_later_keys_zero():
    torch.manual_seed(0)
    attention, x, recorder = Attention(8, 2), torch.randn(1, 3, 8), Recorder(["*"])
    whole = Recorder(["*"])
    attention(x, attention.kv(x), causal=True, tap=whole.tap("self"))
    cache: KeyValues | None = None
    for t in range(3):
        newest = attention.kv(x[:, t : t + 1])
        cache = newest if cache is None else cache.extend(newest)
        attention(x[:, t : t + 1], cache, causal=True, tap=recorder.tap("self"))
    torch.testing.assert_close(recorder.maps["self"], whole.maps["self"], atol=1e-6, rtol=0)
    assert torch.equal(recorder.maps["self"].triu(1), torch.zeros(1, 2, 3, 3))
