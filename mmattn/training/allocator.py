"""Freed memory stays with the process: on a CPU, page faults can cost more than arithmetic."""

import ctypes
import sys

# mallopt's parameters, from glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc reuse the large blocks that tensors free; return whether it agreed.

    By default glibc gives a block above 32 MB back to the system at once and asks for it again at
    the next layer, and the kernel clears every page anew. `benchmarks/allocator.py` measures what
    that costs. The process keeps its peak memory instead of returning it, and nothing else changes.
    Other C libraries are left alone.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, 1 << 30) and mallopt(M_TRIM_THRESHOLD, LARGEST))
