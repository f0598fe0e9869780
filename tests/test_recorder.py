"""Recorded maps are the kernel's own weights, and recording changes not one bit of the model."""

import copy
import gc
import importlib
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from timm.layers import set_fused_attn
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmattn.attention import Attention, KeyValues, padding_mask
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.interop.timm_vit import convert_timm_vit
from mmattn.patches import LinearPatches
from mmattn.positions import text_rotation
from mmattn.recorder import MB, Recorder, attention_weights, empty_rows, weight_blocks
from mmattn.taps import AttentionCall
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

EVERYTHING = BlockOptions(
    heads=4, kv_heads=2, qk_norm="rms", dropout=0.1, attention_dropout=0.2, drop_path=0.3
)
VALID = torch.arange(9) < torch.tensor([[9], [4], [0]])  # the last row may attend to nothing
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def capture():
    """The benchmark of the recorder: its cases, and its measure of memory, are tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("capture")


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


@pytest.mark.parametrize(
    ("dtype", "within"),
    [
        (torch.float64, 1e-12),
        (torch.float32, 1e-6),
        (torch.bfloat16, 2e-5),
        (torch.float16, 2e-5),
    ],
)
def test_what_is_recorded_is_the_softmax_of_what_the_kernel_got(capture, dtype, within):
    errors = {name: capture.exactness(name, dtype) for name in capture.CASES}
    print(*(f"{dtype} {name}: {error:.1e}" for name, error in errors.items()), sep="\n")
    assert max(errors.values()) <= within, errors


class KernelInputs(TorchDispatchMode):
    """Sees q and k of the last call of the fused kernel."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default:
            self.q, self.k = args[0], args[1]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, {"qk_norm": "layer"}, {"qk_norm": "layer", "kv_heads": 2}])
def test_under_autocast_too_what_is_recorded_is_of_what_the_kernel_got(options):
    torch.manual_seed(0)
    attention, x, recorder = Attention(16, 4, **options), 3 * torch.randn(3, 9, 16), Recorder(["*"])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), KernelInputs() as kernel:
        rotation = text_rotation(9, 4)
        out = attention(x, attention.kv(x, rotation), rotation=rotation, tap=recorder.tap("here"))
    assert out.dtype == torch.bfloat16
    assert kernel.q.dtype == torch.float32  # on a CPU
    assert torch.equal(kernel.q, kernel.q.bfloat16().float())
    assert recorder.maps["here"].dtype == torch.float32
    expected = plain_weights(kernel.q, kernel.k, torch.ones(3, 4, 9, 9))
    torch.testing.assert_close(recorder.maps["here"].double(), expected, atol=2e-5, rtol=0)


def test_a_call_is_reported_in_the_type_that_its_kernel_ran_in():
    # A GPU's autocast leaves normalised q and k in float32, and rounds them for the kernel.
    torch.manual_seed(0)
    q, k, recorder = torch.randn(3, 4, 5, 6), torch.randn(3, 2, 9, 6), Recorder(["*"])
    tap = recorder.tap("here")
    tap.record(AttentionCall(q, k, k.bfloat16(), q.bfloat16()))
    expected = plain_weights(q.bfloat16(), k.bfloat16(), torch.ones(3, 4, 5, 9))
    torch.testing.assert_close(recorder.maps["here"].double(), expected, atol=2e-5, rtol=0)


def test_rows_that_may_attend_to_nothing_are_zero_and_can_be_told():
    torch.manual_seed(0)
    q, k = torch.randn(3, 4, 5, 6), torch.randn(3, 4, 9, 6)
    weights = attention_weights(q, k, padding_mask(VALID))
    assert torch.equal(
        empty_rows(weights), torch.tensor([0, 0, 1]).bool().view(3, 1, 1).expand(3, 4, 5)
    )
    assert torch.equal(weights[2], torch.zeros(4, 5, 9))
    assert not empty_rows(attention_weights(q, k)).any()


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


HOOKS = [name for name in vars(nn.Linear(1, 1)) if name.endswith("_hooks")]


def state(model: nn.Module):
    """Hooks, flags and attributes of every module: all that a recording could leave behind."""
    return [
        (
            [len(getattr(module, name)) for name in HOOKS],
            module.training,
            module.forward.__func__,
            sorted(vars(module)),
            [(name, p.requires_grad) for name, p in module.named_parameters(recurse=False)],
        )
        for module in model.modules()
    ]


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def test_the_model_keeps_nothing_of_a_recorder():
    model = make_captioner()
    before = copy.deepcopy(model.state_dict())
    pickled = pickle.dumps(model)
    model(*make_batch(), Recorder(["*"]))
    assert model.state_dict().keys() == before.keys()
    assert pickle.dumps(model) == pickled
    assert not any(isinstance(v, Recorder) for m in model.modules() for v in vars(m).values())


def test_a_hundred_recordings_leave_no_tensor_and_no_hook():
    block = BlockOptions(heads=4)
    vision = VisionTransformer((8, 8), LinearPatches(4, 16), 1, block)
    images, before = torch.randn(2, 3, 8, 8), state(vision)
    vision(images, Recorder(["*"]))  # the first one sets up what stays
    tensors = live_tensors()
    for _ in range(100):
        vision(images, Recorder(["*"]))
    assert live_tensors() == tensors
    assert state(vision) == before
    kept = Recorder(["*"])
    vision(images, kept)
    assert live_tensors() == tensors + 1


def test_a_recording_that_fails_leaves_no_tensor_and_no_hook():
    model, batch, recorder = make_captioner(), make_batch(), Recorder(["*"], rows=[8])
    before, tensors = state(model), live_tensors()
    for _ in range(3):
        with pytest.raises(ValueError, match=r"text\.0\.self has 5 rows"):
            model(*batch, recorder)
    assert sorted(recorder._calls) == ["vision.0.self", "vision.1.self"]
    recorder.clear()
    assert live_tensors() == tensors
    assert state(model) == before


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


class Shapes(TorchDispatchMode):
    """Sees the shape of every tensor that an operation returns."""

    def __init__(self):
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for item in out if isinstance(out, tuple | list) else (out,):
            if isinstance(item, Tensor):
                self.seen.add(tuple(item.shape))
        return out

    def maps(self, tokens: int) -> set[tuple[int, ...]]:
        """The shapes with queries and keys: two sizes that are at least the number of tokens."""
        return {shape for shape in self.seen if sum(size >= tokens for size in shape) > 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_is_recorded_without_a_tensor_of_all_queries_and_keys(dtype):
    vision = VisionTransformer(
        (44, 44), LinearPatches(4, 16), 2, BlockOptions(heads=4, kv_heads=2), class_token=True
    ).to(dtype)
    images = torch.randn(2, 3, 44, 44).to(dtype)
    with torch.no_grad(), Shapes() as some:
        vision(images, Recorder(["*"], rows=[0, 60]))
    with torch.no_grad(), Shapes() as everything:
        vision(images, Recorder(["*"]))
    assert some.maps(122) == set()
    assert (2, 4, 122, 122) in everything.maps(122)


# What is captured of 577 tokens: layers, images, type, options of the recorder.
CAPTURES = {
    "class token's row": (12, 2, torch.float32, {"rows": [0]}),
    "many rows": (1, 8, torch.float32, {"rows": range(0, 500, 5)}),
    "all rows": (2, 1, torch.float32, {}),
    "some heads": (1, 8, torch.float32, {"heads": [1, 5, 6, 11], "rows": range(300)}),
    "kept in half": (2, 1, torch.float32, {"dtype": torch.float16}),
    "half precision": (2, 1, torch.bfloat16, {}),
    "a mask": (2, 1, torch.float32, {}),
}


@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_takes_what_it_keeps_and_at_most_5_per_cent_more(capture, name):
    layers, images, dtype, options = CAPTURES[name]
    call = capture.image_attention(images, 12, 24, 64, dtype)
    if name == "a mask":
        call = call._replace(mask=torch.rand(images, 1, 1, 577) > 0.5)
    recorder = Recorder(["*"], **options)
    most, kept = capture.memory_use(lambda: capture.capture(recorder, call, layers))
    rows, heads = len(options.get("rows", range(577))), len(options.get("heads", range(12)))
    itemsize = options.get("dtype", torch.float32).itemsize
    assert kept == pytest.approx(layers * images * heads * rows * 577 * itemsize, rel=1e-3)
    assert most <= 1.05 * kept


def test_a_capture_of_little_takes_at_most_a_megabyte_more(capture):
    call = capture.image_attention(8, 12, 24, 64, torch.bfloat16)  # keys of 42 MB in float32
    recorder = Recorder(["*"], rows=[0])
    most, kept = capture.memory_use(lambda: capture.capture(recorder, call, 1))
    assert kept == 8 * 12 * 577 * 4
    assert most <= kept + MB


@pytest.mark.parametrize(
    ("max_bytes", "joint_bytes", "blocks"),
    [
        (1, None, 3 * 3 * 4),
        (800, None, 3 * 3 * 2),
        (1500, None, 3 * 3),
        (3000, None, 3 * 2),
        (4000, None, 3),
        (8000, None, 2),
        (8000, 0, 3),
        (1 << 20, None, 1),
    ],
)
@pytest.mark.parametrize("mask", [None, torch.rand(3, 1, 7, 9) > 0.5, torch.randn(7, 9)])
def test_weights_are_the_same_in_blocks_of_any_size(max_bytes, joint_bytes, blocks, mask):
    torch.manual_seed(0)
    q, k = torch.randn(3, 4, 7, 6), torch.randn(3, 2, 9, 6)
    call, heads, rows = AttentionCall(q, k, k, q, mask, 0.3), [3, 0, 1], [6, 1, 2, 3]
    weights, found = torch.full((3, 3, 4, 9), torch.nan), 0
    for block in weight_blocks(call, heads, rows, max_bytes, joint_bytes):
        place = block.images, block.heads, block.rows
        assert weights[place].isnan().all()  # each once
        weights[place] = block.weights
        found += 1
    expected = attention_weights(q, k, mask, 0.3)[:, heads][:, :, rows]
    torch.testing.assert_close(weights, expected, atol=1e-6, rtol=0)
    assert found == blocks


COMPILE = """
import sys, torch
from mmattn import BlockOptions, Captioner, Recorder, TextTransformer, VisionTransformer
from mmattn.patches import LinearPatches

torch.manual_seed(0)
block = BlockOptions(heads=4, kv_heads=2, qk_norm="rms")
vision = VisionTransformer((8, 12), LinearPatches(4, 16), 1, block, registers=1, position="rotary")
text = TextTransformer(11, 16, 1, block, max_length=8, context_dim=16)
model = Captioner(vision, text)
images, tokens = torch.randn(2, 3, 8, 12), torch.randint(0, 11, (2, 3, 5))

def check(model):
    recorder = Recorder(["*"])
    torch.testing.assert_close(model(images, tokens, recorder), expected, atol=1e-5, rtol=0)
    for site, maps in plain.maps.items():
        torch.testing.assert_close(recorder.maps[site], maps, atol=1e-5, rtol=0)

plain = Recorder(["*"])
expected = model(images, tokens, plain)
compiled = torch.compile(model, backend=sys.argv[1])
check(compiled)
check(compiled)
model.text.compile(backend=sys.argv[1])
check(model)
print(len(plain.maps), "equal maps")
"""


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_model_records_equal_maps(backend):
    # In a process of its own: the shape checks that tests switch on are no part of the model.
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, backend],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 equal maps\n"
