"""What computes: GPUs with their memory, and the cores and threads of the CPU."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from mmattn.cli.doctor.finding import Finding

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: "200000 100000" is two cores


def devices() -> Iterator[Finding]:
    """Find the accelerators, each with its memory and whether it computes in bfloat16."""
    count = torch.cuda.device_count()
    for index in range(count):
        yield cuda(index)
    if not count and torch.version.cuda is not None and Path("/proc/driver/nvidia").exists():
        yield Finding(
            "problem",
            "device",
            "there is an NVIDIA driver, and torch sees no GPU",
            "compare the driver's CUDA version (nvidia-smi) with torch's, "
            f"{torch.version.cuda}, and look at CUDA_VISIBLE_DEVICES",
        )
    elif not count and torch.backends.mps.is_available():
        yield Finding("ok", "device", f"Apple GPU (mps), bfloat16 {bfloat16('mps')}")
    elif not count:
        yield Finding("ok", "device", f"no GPU: training is on the CPU; bfloat16 {bfloat16('cpu')}")


def cuda(index: int) -> Finding:
    """Return what one GPU is, and whether its memory is free."""
    free, total = torch.cuda.mem_get_info(index)
    text = (
        f"{torch.cuda.get_device_name(index)} (cuda:{index}), {free / 2**30:.1f} of "
        f"{total / 2**30:.1f} GiB free, bfloat16 {bfloat16(f'cuda:{index}')}"
    )
    if free < total / 2:
        return Finding("note", "device", text, "another program uses it (see nvidia-smi)")
    return Finding("ok", "device", text)


def bfloat16(device: str) -> str:
    """Return whether a product in bfloat16 comes out as in float32."""
    try:
        ones = torch.ones(8, 8, dtype=torch.bfloat16, device=device)
        right = bool((ones @ ones == 8).all())
    except (RuntimeError, TypeError) as error:
        return f"fails ({str(error).splitlines()[0]}): use trainer.precision=32-true"
    return "works" if right else "computes wrongly: use trainer.precision=32-true"


def cores() -> Iterator[Finding]:
    """Find how many cores this process may use, and whether torch's threads fit on them."""
    allowed = usable_cores()
    threads = torch.get_num_threads()
    text = f"{allowed:g} of {os.cpu_count()} cores may be used, torch computes in {threads} threads"
    if threads > allowed + 0.5:
        wanted = max(1, int(allowed))
        yield Finding(
            "note", "cores", text, f"more threads than cores are slow: OMP_NUM_THREADS={wanted}"
        )
    else:
        yield Finding("ok", "cores", text)


def usable_cores() -> float:
    """Return the cores that the scheduler gives this process, a container's quota included."""
    if hasattr(os, "sched_getaffinity"):
        cores = float(len(os.sched_getaffinity(0)))
    else:
        cores = float(os.cpu_count() or 1)
    try:
        quota, period = QUOTA.read_text().split()
        return cores if quota == "max" else min(cores, int(quota) / int(period))
    except (OSError, ValueError):
        return cores
