"""What a recorder captures: how exact it is, and what it takes in memory and time.

    uv run python benchmarks/capture.py
    uv run python benchmarks/capture.py --device cuda

Prints the largest error of recorded weights against a float64 softmax of the very q and k that the
kernel got; the memory that a capture takes beyond what it keeps; and what the statistics of a call
cost in blocks, as `mmattn.statistics` computes them, against three further calls of the fused
kernel, which give the same sums but for a Euclidean distance.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timing import interleaved
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from mmattn.attention import Attention, padding_mask
from mmattn.blocks import BlockOptions
from mmattn.patches import LinearPatches
from mmattn.positions import text_rotation
from mmattn.recorder import MB, Recorder
from mmattn.statistics import StatisticsRecorder
from mmattn.taps import AttentionCall, Listener
from mmattn.vision import VisionTransformer

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
VALID = torch.arange(9) < torch.tensor([[9], [4], [0]])  # the last row may attend to nothing


class Calls(Listener):
    """Keeps the last call as it was reported."""

    def take(self, site: str, call: AttentionCall) -> None:
        self.call = call


@dataclass(frozen=True)
class Case:
    """A call of `Attention` with 4 heads of width 4 on 3 x 9 keys, and which rows to record."""

    options: dict[str, Any] = field(default_factory=dict)
    queries: int = 9
    causal: bool = False
    padded: bool = False
    rotary: bool = False
    rows: list[int] | None = None

    def run(self, dtype: torch.dtype, listener: Listener) -> None:
        attention = Attention(16, 4, **self.options).to(dtype)
        x, context = torch.randn(3, self.queries, 16), torch.randn(3, 9, 16)
        rotation = text_rotation(self.queries, 4) if self.rotary else None
        kv = attention.kv(context.to(dtype), rotation)
        mask = padding_mask(VALID.to(x.device)) if self.padded else None
        tap = listener.tap("here")
        attention(x.to(dtype), kv, mask, causal=self.causal, rotation=rotation, tap=tap)

    def allowed(self, call: AttentionCall) -> Tensor:
        valid = VALID if self.padded else torch.ones_like(VALID)
        allowed = padding_mask(valid.to(call.q.device)).expand(3, 4, self.queries, 9)
        return allowed.tril(9 - self.queries) if self.causal else allowed


@dataclass(frozen=True)
class MaskedCase:
    """A call with a mask for each head, or a scale, that no module of ours has."""

    mask: str = "none"
    scale: float | None = None
    rows: list[int] | None = None

    def run(self, dtype: torch.dtype, listener: Listener) -> None:
        q, k = torch.randn(3, 4, 9, 6).to(dtype), torch.randn(3, 2, 9, 6).to(dtype)
        mask = torch.rand(3, 4, 9, 9) > 0.5
        if self.mask == "float":
            mask = torch.randn(4, 9, 9).masked_fill(mask[0], -math.inf).to(dtype)
        tap = listener.tap("here")
        assert tap is not None
        tap.record(AttentionCall(q, k, k, q, None if self.mask == "none" else mask, self.scale))

    def allowed(self, call: AttentionCall) -> Tensor:
        return torch.tensor(True, device=call.q.device) if call.mask is None else call.mask


@dataclass(frozen=True)
class ImageCase:
    """A vision transformer with a class token and two registers on 2 x 3 patches."""

    rows: list[int] | None = None

    def run(self, dtype: torch.dtype, listener: Listener) -> None:
        vision = VisionTransformer(
            (8, 12), LinearPatches(4, 16), 1, BlockOptions(heads=4), class_token=True, registers=2
        )
        vision.to(dtype)(torch.randn(3, 3, 8, 12).to(dtype), listener)

    def allowed(self, call: AttentionCall) -> Tensor:
        return torch.tensor(True, device=call.q.device)


CASES: dict[str, Case | MaskedCase | ImageCase] = {
    "self": Case(),
    "causal": Case(causal=True),
    "cross": Case(queries=5),
    "cached": Case(queries=3, causal=True),
    "key padding": Case(padded=True),
    "causal, padding": Case(causal=True, padded=True),
    "boolean mask": MaskedCase("boolean"),
    "float mask": MaskedCase("float"),
    "scale of its own": MaskedCase(scale=0.7),
    "float mask, scale": MaskedCase("float", 0.7),
    "grouped queries": Case({"kv_heads": 2}, causal=True, padded=True),
    "rotary": Case(causal=True, rotary=True),
    "layer qk-norm": Case({"qk_norm": "layer"}),
    "rms qk-norm, grouped": Case({"qk_norm": "rms", "kv_heads": 2}, causal=True, rotary=True),
    "registers": ImageCase(),
    "some rows": Case(causal=True, padded=True, rows=[0, -1, 4]),
    "some rows, float mask": MaskedCase("float", rows=[2, 3, 8]),
    "class token's row": ImageCase([0]),
}


def exact_weights(call: AttentionCall, allowed: Tensor) -> Tensor:
    """Return the weights of a call, in float64; zeros where nothing is allowed."""
    q, k = call.q.double(), call.k.double().repeat_interleave(4 // call.k.shape[1], dim=1)
    scale = 1 / math.sqrt(q.shape[-1]) if call.scale is None else call.scale
    scores = torch.einsum("bhtk,bhsk->bhts", q, k) * scale
    if allowed.dtype == torch.bool:
        bias = scores.new_zeros(allowed.shape).masked_fill(~allowed, -math.inf)
    else:
        bias = allowed.double()
    exponents = (scores + bias).exp()
    return exponents / exponents.sum(-1, keepdim=True).clamp(min=1e-300)


@torch.no_grad()
def exactness(name: str, dtype: torch.dtype, device: str = "cpu") -> float:
    """Return the largest error of a case's recorded weights."""
    case, calls, recorder = CASES[name], Calls("*"), Recorder("*", rows=CASES[name].rows)
    for listener in (calls, recorder):
        torch.manual_seed(0)
        with torch.device(device):
            case.run(dtype, listener)
    (maps,) = recorder.maps.values()
    expected = exact_weights(calls.call, case.allowed(calls.call))
    rows = list(range(expected.shape[2])) if case.rows is None else case.rows
    return float((maps.double() - expected[:, :, rows]).abs().max())


def exactness_table(device: str) -> str:
    """Return the errors of every case and type, as text."""
    lines = [f"{'':24}" + "".join(f"{str(d).removeprefix('torch.'):>10}" for d in DTYPES)]
    for name in CASES:
        errors = (exactness(name, dtype, device) for dtype in DTYPES)
        lines.append(f"{name:24}" + "".join(f"{error:10.1e}" for error in errors))
    return "\n".join(lines)


def memory_use(run: Callable[[], object], device: str = "cpu") -> tuple[int, int]:
    """Return the bytes that tensors took at most while `run` ran, and those that are still there.

    What torch's own allocator was asked for, so the same every time; tensors that were there before
    do not count.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        kept = run()
        torch.cuda.synchronize()
        del kept
        return torch.cuda.max_memory_allocated() - before, torch.cuda.memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    events = [event for event in events if event["name"] == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event["args"]["Ev Idx"]):
        now += event["args"]["Bytes"]
        most = max(most, now)
    return most, now


def image_attention(
    batch: int, heads: int, side: int, width: int, dtype=torch.float32, device: str = "cpu"
):
    """Return a call of an image's self-attention: a class token and side x side patches."""
    size, dim = 1 + side**2, heads * width
    torch.manual_seed(0)
    q = torch.randn(batch, size, dim).to(device, dtype).view(batch, size, heads, width)
    kv = torch.randn(batch, size, 2, heads, width).to(device, dtype).permute(2, 0, 3, 1, 4)
    return AttentionCall(q.transpose(1, 2), kv[0], kv[1], q.transpose(1, 2))


def capture(recorder: Recorder, call: AttentionCall, layers: int) -> None:
    for layer in range(layers):
        recorder.take(f"vision.{layer}.self", call)


def print_memory(device: str) -> None:
    captures = {
        "12 layers, class token": (12, torch.float32, [0]),
        "12 layers, class token, bfloat16": (12, torch.bfloat16, [0]),
        "1 layer, 100 rows": (1, torch.float32, list(range(0, 500, 5))),
        "1 layer, all rows": (1, torch.float32, None),
        "1 layer, all rows, bfloat16": (1, torch.bfloat16, None),
    }
    print(f"\n{'8 images, 577 tokens, 12 heads':34}{'kept':>10}{'peak beyond it':>24}")
    for name, (layers, dtype, rows) in captures.items():
        call = image_attention(8, 12, 24, 64, dtype, device)
        recorder = Recorder("*", rows=rows)
        most, kept = memory_use(lambda r=recorder, c=call, n=layers: capture(r, c, n), device)
        beyond = f"{(most - kept) / MB:.2f} MB = {(most - kept) / kept:.1%}"
        print(f"{name:34}{kept / MB:7.2f} MB{beyond:>24}")


def by_fused_calls(call: AttentionCall, grid: tuple[int, int], prefix: int) -> tuple[Tensor, ...]:
    """Return entropy, masses and moments [B, H, T] and received means [B, H, S] of image keys.

    H_i = lse_i - s·q_i·(P·K)_i; masses and moments are P times indicators and coordinates; and what
    a key receives, Σ_i exp(s_ij - lse_i), is the exponential of the log-sum-exp of a call with q
    and k swapped and -lse added to the scores.
    """
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    q, k, width = call.q, call.k, call.q.shape[-1]
    product, lse = attend(q, k, k)
    entropy = lse - (q * product).sum(-1) * width**-0.5
    places = torch.cartesian_prod(*(torch.arange(float(side)) for side in grid))
    features = k.new_zeros(k.shape[2], width)  # the kernel wants values as wide as keys
    features[:prefix, 0] = 1
    features[prefix:, 1:3] = places.to(k)
    features[prefix:, 3] = places.square().sum(-1).to(k)
    moments = F.scaled_dot_product_attention(q, k, features.expand(*k.shape[:2], -1, -1))
    received = attend(k, q, q, attn_mask=-lse[:, :, None].contiguous())[1].exp()
    return entropy, moments[..., :4], received / q.shape[2]


def print_statistics(repeats: int, device: str) -> None:
    sizes = {
        "64 images, 65 tokens, 4 x 32": (64, 4, 8, 32),
        "16 images, 197 tokens, 3 x 64": (16, 3, 14, 64),
        "4 images, 577 tokens, 12 x 64": (4, 12, 24, 64),
        "1 image, 2026 tokens, 12 x 64": (1, 12, 45, 64),
    }
    print(f"\n{'statistics, over the kernel':34}{'in blocks':>10}{'three fused calls':>24}")
    for name, (batch, heads, side, width) in sizes.items():
        call, grid = image_attention(batch, heads, side, width, device=device), (side, side)
        recorder = StatisticsRecorder(grid=grid, prefix=1)
        sides = {
            "kernel": lambda c=call: F.scaled_dot_product_attention(c.q, c.k, c.v),
            "blocks": lambda c=call, r=recorder: r.take("vision.0.self", c),
        }
        if device == "cpu":  # by a kernel of the CPU
            sides["fused"] = lambda c=call, g=grid: by_fused_calls(c, g, 1)
        seconds = interleaved(sides, repeats)
        ratios = [f"{seconds[side] / seconds['kernel']:.2f} x" for side in list(sides)[1:]]
        print(f"{name:34}{ratios[0]:>10}{ratios[1] if ratios[1:] else '':>24}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("largest error of a weight against float64")
    print(exactness_table(arguments.device))
    print_memory(arguments.device)
    with torch.no_grad():
        print_statistics(arguments.repeats, arguments.device)


if __name__ == "__main__":
    main()
