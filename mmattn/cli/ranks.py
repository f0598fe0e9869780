"""Work that torchrun spreads over processes: each has a share, the first puts them together."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch

from mmattn.errors import ConfigError

LONGEST = timedelta(days=7)  # a rank with many images, or none, waits for the slowest


@dataclass(frozen=True)
class Ranks:
    """This process among all that do the same job."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes for all."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return which of `count` things are this process's: every `size`-th one."""
        return range(self.rank, count, self.size)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            torch.distributed.barrier()


@contextmanager
def ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun started; one of its own where it did not.

    Raises:
        ConfigError: where the environment holds only a part of what torchrun sets.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks(0, 1)
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(f"WORLD_SIZE={size}, but {missing[0]} is not set: start with torchrun")
    # Files are all that the processes exchange, so gloo will do also where they use GPUs.
    torch.distributed.init_process_group("gloo", timeout=LONGEST)
    try:
        yield Ranks(torch.distributed.get_rank(), size)
    finally:
        torch.distributed.destroy_process_group()
