"""Statistics of heads equal what loops over every weight give, and change no bit of the model."""

import importlib
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.patches import LinearPatches
from mmattn.recorder import BLOCK_BYTES, Recorder
from mmattn.statistics import STATISTICS, HeadStatistics, StatisticsRecorder
from mmattn.taps import AttentionCall
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

GRID, PREFIX, REGISTERS = (2, 3), 3, 2
PLACES = [(y, x) for y in range(GRID[0]) for x in range(GRID[1])]
VALID = torch.tensor([[5, 2, 0], [3, 1, 4]])[..., None] > torch.arange(5)  # one caption is empty
WITHIN = [(torch.float64, 1e-10), (torch.float32, 5e-6)]


@pytest.fixture(scope="module")
def capture():
    """The benchmark of captures, for its measure of memory and its sums from the fused kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).resolve().parent.parent / "benchmarks")
        return importlib.import_module("capture")


def recorder(sites="*", **changed) -> StatisticsRecorder:
    options = {"grid": GRID, "prefix": PREFIX, "registers": REGISTERS}
    return StatisticsRecorder(sites, **{**options, **changed})


def measured(site: str, call: AttentionCall, valid=None, **options) -> HeadStatistics:
    """Return the statistics of one call."""
    statistics = recorder(**options)
    statistics.valid = valid
    tap = statistics.tap(site)
    tap.record(call)
    (found,) = statistics.statistics().values()
    return found


def make_captioner(**options) -> Captioner:
    torch.manual_seed(0)
    block = BlockOptions(heads=4, **options)
    vision = VisionTransformer(
        (8, 12), LinearPatches(4, 16), 2, block, class_token=True, registers=2, position="rotary"
    )
    text = TextTransformer(11, 16, 2, block, max_length=8, context_dim=16, position="rotary")
    model = Captioner(vision, text)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    return model


def make_batch(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 8, 12, generator=generator, dtype=dtype)
    return images, torch.randint(0, 11, (2, 3, 5), generator=generator)


def image_call(dtype=torch.float64, mask=None, strength=2.0) -> AttentionCall:
    torch.manual_seed(0)
    q, k, v = (strength * torch.randn(2, 4, 9, 8, dtype=dtype) for _ in range(3))
    return AttentionCall(q, k, v, v, mask)


def constant_call(scores: Tensor) -> AttentionCall:
    """Return a call of 9 queries and 9 keys whose scores are these [9, 9], for 1 image and head."""
    scores = scores.double()[None, None]
    q = torch.zeros_like(scores)
    return AttentionCall(q, q, q, q, scores)


def spread(row: list[float]) -> float:
    """The root of the second central moment of a row over the patches."""
    weighed = list(zip(row, PLACES, strict=True))
    mass = sum(row)
    centre = [sum(w * place[i] for w, place in weighed) / mass for i in (0, 1)]
    return math.sqrt(sum(w * math.dist(place, centre) ** 2 for w, place in weighed) / mass)


def distance(kind: str, i: int, row: list[float]) -> float:
    """What a row's weights span; NaN for a query without a place, or without weight on patches."""
    if kind == "text":
        return sum(w * abs(i - j) for j, w in enumerate(row))
    patches = row[PREFIX:]
    if not any(patches) or (kind == "image" and i < PREFIX):
        return math.nan
    if kind == "cross":
        return spread(patches)
    here = PLACES[i - PREFIX]
    far = sum(w * math.dist(here, place) for w, place in zip(patches, PLACES, strict=True))
    return far / sum(patches)


def row_entropy(row: list[float]) -> float:
    return sum(-w * math.log(w) for w in row if w > 0)


def by_loops(kind: str, maps: Tensor, counted: Tensor) -> dict[str, list[float]]:
    """Every statistic of maps [B, H, T, S] by loops over counted rows [B, T]: a list over heads."""
    found: dict[str, list[list[float]]] = {name: [[] for _ in range(4)] for name in STATISTICS}
    for b, h in torch.cartesian_prod(torch.arange(len(maps)), torch.arange(4)).tolist():
        rows = [i for i in range(maps.shape[2]) if counted[b, i] and maps[b, h, i].any()]
        here = {name: values[h] for name, values in found.items()}
        for i in rows:
            row = maps[b, h, i].tolist()
            # An exact zero is a key that is masked: scores here are small.
            keys = sum(w > 0 for w in row)
            here["entropy"].append(row_entropy(row))
            if keys > 1:
                here["normalised_entropy"].append(row_entropy(row) / math.log(keys))
            image = kind != "text"
            here["prefix_mass"].append(sum(row[:PREFIX]) if image else 0.0)
            here["register_mass"].append(sum(row[PREFIX - REGISTERS : PREFIX]) if image else 0.0)
            here["padding_mass"].append(
                0.0 if image else sum(w for w, on in zip(row, counted[b], strict=True) if not on)
            )
            if not math.isnan(far := distance(kind, i, row)):
                here["distance"].append(far)
        if rows:
            mean = maps[b, h, rows].mean(0).tolist()
            entropies = [row_entropy(maps[b, h, i].tolist()) for i in rows]
            here["sink"].append(max(mean))
            here["information"].append(row_entropy(mean) - sum(entropies) / len(rows))
    return {name: [sum(values) / len(values) for values in heads] for name, heads in found.items()}


def assert_equal(found: HeadStatistics, layer: int, expected: dict[str, list[float]], within):
    for name in STATISTICS:
        values = getattr(found, name)[layer]
        assert values.dtype == torch.float64
        torch.testing.assert_close(
            values, torch.tensor(expected[name], dtype=torch.float64), atol=within, rtol=within
        )


@pytest.mark.parametrize(("dtype", "within"), WITHIN)
@pytest.mark.parametrize("valid", [None, VALID])
@pytest.mark.parametrize("options", [{}, {"kv_heads": 2, "qk_norm": "layer"}])
def test_statistics_of_a_captioner_are_those_of_loops_over_its_maps(dtype, within, valid, options):
    model, batch = make_captioner(**options).to(dtype).eval(), make_batch(dtype)
    maps, statistics = Recorder(["*"]), recorder()
    statistics.valid = valid
    model(*batch, maps)
    model(*batch, statistics)
    found = statistics.statistics()
    assert list(found) == ["vision.*.self", "text.*.self", "text.*.cross"]
    for pattern, kind in zip(found, ("image", "text", "cross"), strict=True):
        assert found[pattern].sites == tuple(pattern.replace("*", str(i)) for i in range(2))
        for layer, site in enumerate(found[pattern].sites):
            weights = maps.maps[site].double()
            counted = torch.ones(weights.shape[0], weights.shape[2], dtype=torch.bool)
            if valid is not None and kind != "image":
                counted = valid.reshape(counted.shape)
            assert_equal(found[pattern], layer, by_loops(kind, weights, counted), within)
    if valid is not None:
        assert torch.equal(found["text.*.self"].padding_mass, torch.zeros(2, 4).double())


@pytest.mark.parametrize(("dtype", "within"), WITHIN)
def test_left_padding_and_rows_that_may_attend_to_nothing(dtype, within):
    text = make_captioner().text.to(dtype).eval()
    tokens = make_batch()[1].flatten(0, 1)
    valid = VALID.flatten(0, 1).flip(1)
    maps, statistics = Recorder(["text.*.self"]), recorder(["text.*.self"])
    memory = text.memory(torch.randn(6, 9, 16, dtype=dtype))
    text(tokens, memory, valid=valid, recorder=maps)
    text(tokens, memory, valid=valid, recorder=statistics)
    found = statistics.statistics()["text.*.self"]
    for layer in range(2):
        weights = maps.maps[f"text.{layer}.self"].double()
        assert not weights[2].any()  # the empty caption
        counted = weights.any(-1).any(1)
        assert not counted.all()
        expected = by_loops("text", weights, counted)
        expected["padding_mass"] = [0.0] * 4  # nobody said what padding is
        assert_equal(found, layer, expected, within)


@pytest.mark.parametrize(("dtype", "within"), WITHIN)
@pytest.mark.parametrize(
    "mask",
    [
        torch.rand(2, 4, 9, 9, generator=torch.Generator().manual_seed(0)) > 0.6,
        torch.tensor([1, 1, 0, 1, 1, 0, 1, 0, 1]).bool(),
        torch.randn(9, 9, generator=torch.Generator().manual_seed(0)),
        torch.randn(4, 9, 9).masked_fill(torch.eye(9).bool(), -math.inf),
    ],
    ids=["boolean", "keys", "float", "float, some forbidden"],
)
@pytest.mark.parametrize("site", ["vision.0.self", "text.0.cross", "blocks.0.attn"])
def test_masks_of_every_kind(dtype, within, mask, site):
    mask = mask if mask.dtype == torch.bool else mask.to(dtype)
    call = image_call(dtype, mask, strength=1.0)
    maps = Recorder(["*"])
    tap = maps.tap("here")
    tap.record(call)
    kind = "cross" if site.endswith("cross") else "image"
    expected = by_loops(kind, maps.maps["here"].double(), torch.ones(2, 9, dtype=torch.bool))
    assert_equal(measured(site, call), 0, expected, within)


def test_a_uniform_head():
    found = measured("vision.0.self", constant_call(torch.zeros(9, 9)))
    expected = {
        "entropy": math.log(9),
        "normalised_entropy": 1.0,
        "prefix_mass": 3 / 9,
        "register_mass": 2 / 9,
        "padding_mass": 0.0,
        "sink": 1 / 9,
        "information": 0.0,
        "distance": sum(math.dist(a, b) for a in PLACES for b in PLACES) / 36,
    }
    for name, value in expected.items():
        assert getattr(found, name).item() == pytest.approx(value, abs=1e-12), name
    assert found.dead_heads().item()
    assert not found.sink_heads().item()
    assert found.sink_heads(0.1).item()
    cross = measured("text.0.cross", constant_call(torch.zeros(9, 9)))
    assert cross.distance.item() == pytest.approx(math.sqrt(1 / 4 + 2 / 3))  # of 2 x 3 patches


def test_a_head_that_looks_at_itself():
    found = measured("vision.0.self", constant_call(1e4 * torch.eye(9)))
    for name in ("entropy", "normalised_entropy", "distance", "padding_mass"):
        assert getattr(found, name).item() == 0.0, name
    assert found.information.item() == pytest.approx(math.log(9))
    assert found.sink.item() == pytest.approx(1 / 9)
    assert found.prefix_mass.item() == pytest.approx(3 / 9)  # of the prefix tokens' own rows
    assert not found.dead_heads().item()


def test_a_head_that_looks_at_the_class_token_only():
    found = measured("vision.0.self", constant_call(1e4 * torch.eye(9)[:1].expand(9, 9)))
    assert (found.entropy.item(), found.sink.item(), found.prefix_mass.item()) == (0.0, 1.0, 1.0)
    assert (found.register_mass.item(), found.information.item()) == (0.0, 0.0)
    assert found.sink_heads().item()
    assert found.dead_heads().item()
    assert found.distance.isnan().item()  # no patch is attended to
    cross = measured("text.0.cross", constant_call(1e4 * torch.eye(9)[4:5].expand(9, 9)))
    assert cross.distance.item() == 0.0


def test_a_row_with_one_key_has_no_entropy_over_its_bound():
    call = constant_call(torch.zeros(9, 9))
    first = call._replace(mask=(torch.arange(9) == 0).expand(9, 9))
    found = measured("text.0.self", first)
    assert found.normalised_entropy.isnan().item()
    assert found.distance.item() == pytest.approx(4.0)  # from 0 … 8 to 0
    nothing = measured("text.0.self", call._replace(mask=torch.zeros(9, 9, dtype=torch.bool)))
    assert all(getattr(nothing, name).isnan().item() for name in STATISTICS)


def test_information_bounds_how_far_rows_are_from_their_mean():
    for strength in (0.05, 0.3, 1.0, 4.0):
        call, maps = image_call(strength=strength), Recorder(["*"])
        tap = maps.tap("here")
        tap.record(call)
        weights = maps.maps["here"]
        variation = (weights - weights.mean(2, keepdim=True)).abs().sum(-1).mean((0, 2)) / 2
        information = measured("vision.0.self", call).information[0]
        assert (variation <= (information / 2).sqrt()).all()
        assert (information <= math.log(9)).all()


@pytest.mark.parametrize(("dtype", "within"), WITHIN)
def test_the_fused_kernels_own_sums_are_the_same(capture, dtype, within):
    call = image_call(dtype)
    entropy, moments, received = capture.by_fused_calls(call, GRID, PREFIX)
    found, cross = measured("vision.0.self", call), measured("text.0.cross", call)
    _, y, x, squares = (moments / (1 - moments[..., :1])).unbind(-1)
    means = {
        "entropy": entropy.mean((0, 2)),
        "prefix_mass": moments[..., 0].mean((0, 2)),
        "sink": received.amax(-1).mean(0),
        "information": -(received * received.log()).sum(-1).mean(0) - entropy.mean((0, 2)),
    }
    for name, value in means.items():
        torch.testing.assert_close(getattr(found, name)[0], value.double(), atol=within, rtol=0)
    spreads = (squares - y.square() - x.square()).sqrt().mean((0, 2)).double()
    # A spread from moments loses half of the digits where it is small; that of `spread` does not.
    torch.testing.assert_close(cross.distance[0], spreads, atol=math.sqrt(within) / 5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_measured_in_float32(dtype):
    call = image_call(dtype)
    wide = call._replace(q=call.q.double(), k=call.k.double(), v=call.v.double())
    found, expected = (measured("vision.0.self", c) for c in (call, wide._replace(out=wide.v)))
    for name in STATISTICS:
        values = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(*values, atol=2e-5, rtol=0)


def test_blocks_of_any_size_give_the_same(monkeypatch):
    call = image_call(mask=torch.rand(2, 1, 9, 9) > 0.3)
    whole = measured("vision.0.self", call)
    for size in (1, 1500, 4000):
        monkeypatch.setitem(BLOCK_BYTES, "cpu", size)
        found = measured("vision.0.self", call)
        for name in STATISTICS:
            torch.testing.assert_close(
                getattr(found, name), getattr(whole, name), atol=1e-12, rtol=0
            )


def test_calls_and_recorders_add_up():
    (images, tokens), model = make_batch(), make_captioner().eval()
    together, one_by_one, apart = recorder(), recorder(), [recorder(), recorder()]
    together.valid = VALID
    model(images, tokens, together)
    for b in range(2):
        for statistics in (one_by_one, apart[b]):
            statistics.valid = VALID[b : b + 1]
            model(images[b : b + 1], tokens[b : b + 1], statistics)
    for site in apart[0].sums:
        apart[0].sums[site] += apart[1].sums[site]
    expected = together.statistics()
    for statistics in (one_by_one, apart[0]):
        for kind, found in statistics.statistics().items():
            for name in STATISTICS:
                torch.testing.assert_close(
                    getattr(found, name), getattr(expected[kind], name), atol=1e-6, rtol=0
                )
    together.clear()
    with pytest.raises(ValueError, match="it ran at: no site"):
        together.statistics()


def test_steps_of_cached_decoding_have_the_entropy_and_distance_of_one_pass():
    model, (images, tokens) = make_captioner().double().eval(), make_batch(torch.float64)
    steps, whole, cache = recorder(["text.*"]), recorder(["text.*"]), None
    image = model.encode(images[:1])
    memory = model.memory(image)
    model.text(tokens[0, :1], memory, recorder=whole)
    for t in range(5):
        _, cache = model.text.extend(tokens[0, :1, t : t + 1], cache, memory, recorder=steps)
    for kind, expected in whole.statistics().items():
        found = steps.statistics()[kind]
        for name in ("entropy", "normalised_entropy", "prefix_mass", "distance"):
            torch.testing.assert_close(
                getattr(found, name), getattr(expected, name), atol=1e-10, rtol=0
            )


def test_measuring_changes_neither_output_nor_gradients_by_a_bit():
    model = make_captioner(dropout=0.1, attention_dropout=0.2, drop_path=0.3).train()
    results, statistics = [], recorder()
    statistics.valid = VALID
    for listener in (None, statistics):
        model.zero_grad()
        torch.manual_seed(1)
        logits = model(*make_batch(), listener)
        logits.square().sum().backward()
        results.append([logits, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(results[0]) > len(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert not any(sums.requires_grad for sums in statistics.sums.values())


def test_no_map_is_kept_or_made(capture):
    call = capture.image_attention(4, 6, 24, 32)
    statistics = StatisticsRecorder("*", grid=(24, 24), prefix=1)
    statistics.take("vision.0.self", call)  # keeps the distances between patches, once
    most, kept = capture.memory_use(lambda: statistics.take("vision.0.self", call))
    maps = 4 * 6 * 577 * 577 * 4
    assert kept == statistics.sums["vision.0.self"].nbytes == 2 * len(STATISTICS) * 6 * 8
    assert most < maps / 3


@pytest.mark.parametrize(
    ("options", "valid", "site", "said"),
    [
        (
            {"grid": (3, 3)},
            None,
            "vision.0.self",
            r"9 keys, but .*grid=\(3, 3\) make 12",
        ),
        ({"prefix": 2}, None, "text.0.cross", r"9 keys, but prefix=2 and .* make 8"),
        ({}, VALID, "text.0.cross", r"has 2 x 9 query rows, but valid is \(2, 3, 5\)"),
        ({}, VALID, "text.0.self", r"has 2 x 9 query rows, but valid is \(2, 3, 5\)"),
    ],
)
def test_sizes_that_do_not_fit_are_named(options, valid, site, said):
    with pytest.raises(ValueError, match=said):
        measured(site, image_call(), valid, **options)


def test_what_cannot_be_measured_is_refused():
    call = image_call()
    short = call._replace(q=call.q[:, :, :1], out=call.out[:, :, :1])
    with pytest.raises(ValueError, match=r"pool has 1 queries and 9 keys"):
        measured("pool", short)
    with pytest.raises(ValueError, match=r"has 9 keys and valid is of 1 tokens"):
        measured("text.0.self", short, torch.ones(2, 1).bool())
    with pytest.raises(ValueError, match="registers=4, but there are only prefix=3 tokens"):
        recorder(registers=4)


def test_sites_of_any_model_are_grouped_by_their_layers():
    statistics = recorder()
    for site in ("blocks.0.attn", "blocks.1.attn", "pool"):
        tap = statistics.tap(site)
        tap.record(image_call())
    found = statistics.statistics()
    assert {kind: each.sites for kind, each in found.items()} == {
        "blocks.*.attn": ("blocks.0.attn", "blocks.1.attn"),
        "pool": ("pool",),
    }
    assert found["blocks.*.attn"].entropy.shape == (2, 4)
