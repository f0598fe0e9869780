"""Timing on a noisy machine: warm up, interleave the sides, take medians."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def interleaved(
    sides: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 2
) -> dict[str, float]:
    """Return each side's median seconds per call; the sides take turns, so noise meets them all."""
    for _ in range(warmup):
        for run in sides.values():
            run()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def matmul_peak(device: str, dtype: torch.dtype, size: int = 2048, repeats: int = 7) -> float:
    """Return the machine's FLOP/s in one large matrix product: the physical limit of a step."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = interleaved({"mm": lambda: torch.mm(a, b)}, repeats)["mm"]
    return 2 * size**3 / seconds
