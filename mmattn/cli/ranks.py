"""Work that torchrun spreads over processes: each has a share, the first puts them together."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

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

    def agreed(self, make: Callable[[], Any]) -> Any:
        """Return a value of JSON that the first process makes, in every process.

        Folders, files and stdin may look different to each: one looks for all. Where that fails the
        first process tells why, and the others end with it.
        """
        if self.size == 1:
            return make()
        text = "null"
        try:
            text = json.dumps([make()]) if self.first else text
        finally:  # also where that failed: the others must not wait for ever
            text = self._from_first(text)
        made = json.loads(text)
        if made is None:
            with suppress(
                RuntimeError
            ):  # until the first has told: where one ends, torchrun ends all
                self.wait()
            raise SystemExit(2)
        return made[0]

    def _from_first(self, text: str) -> str:
        """Return the text of the first process."""
        data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        size = torch.tensor(len(data))
        torch.distributed.broadcast(size, 0)
        if not self.first:
            data = torch.empty(int(size), dtype=torch.uint8)
        torch.distributed.broadcast(data, 0)
        return data.numpy().tobytes().decode()


@contextmanager
def ranks() -> Iterator[Ranks]:
    """Join the processes that torchrun started; one of its own where it did not.

    Raises:
        ConfigError: where the environment holds only a part of what torchrun sets.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if not size.isdecimal() or int(size) < 1:
        raise ConfigError(f"WORLD_SIZE={size!r} in the environment is no number: unset it")
    if int(size) == 1:
        yield Ranks(0, 1)
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE={size}, but {missing[0]} is not set: start with torchrun, or unset it"
        )
    # Files and names are all that the processes exchange: gloo will do also where they use GPUs.
    torch.distributed.init_process_group("gloo", timeout=LONGEST)
    try:
        yield Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    finally:
        torch.distributed.destroy_process_group()
