"""A job on many inputs into a JSONL file, in one process or several, again and again."""

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmattn.cli.device import device_of
from mmattn.cli.job_file import Item, begin, merge_parts, part, unreadable
from mmattn.cli.job_settings import JobSettings
from mmattn.cli.jsonl import Kind, appending, write_line
from mmattn.cli.ranks import Ranks, ranks
from mmattn.errors import ConfigError
from mmattn.pipeline.batch_size import Worker, fastest_batch_size
from mmattn.pipeline.pictures import Unreadable
from mmattn.pipeline.progress import shown


class Work(ABC):
    """What a job does with its inputs.

    Attributes:
        kind: of its lines.
        noun: what an input is called.
        doing: what its progress bar is called.
    """

    kind: Kind
    noun: str
    doing: str

    @abstractmethod
    def names(self) -> list[Any]:
        """Return all inputs as JSON holds them; one of several processes looks for all.

        Raises:
            UserError: where they name nothing.
        """

    @abstractmethod
    def load(self, device: torch.device) -> Worker:
        """Load the model. Raises UserError for one that cannot do what is asked for."""

    @abstractmethod
    def inputs(self, names: list[Any]) -> Sequence[Item]:
        """Return the inputs by what `names` called them, each once; `load` comes first.

        Raises:
            UserError: for one that the model cannot take.
        """

    @abstractmethod
    def results(self, own: Sequence[Any], size: int) -> Generator[Any, None, None]:
        """Yield the result of each input, or an `Unreadable`, computed `size` at a time."""

    @abstractmethod
    def line(self, one: Any, found: Any) -> dict[str, Any]:
        """Return what is written of one input; what else is to be written of it is written now."""


@dataclass(frozen=True)
class Outcome:
    """What was done: how many inputs were tried, how many of them were bad, and the seconds."""

    tried: int
    bad: int
    seconds: float


def run_job(job: JobSettings, work: Work) -> int:
    """Do what is not done yet.

    Returns:
        How many inputs could not be read, now or in an earlier job that the file is of. Only the
        first of several processes says so: torchrun would end the others where one fails.

    Raises:
        UserError: for a mistake in the input, before any file is touched.
    """
    with ranks() as here:
        if here.size > 1 and job.out is None:
            raise ConfigError("several processes cannot share stdout: give --out FILE")
        names = here.agreed(work.names)
        worker = work.load(device_here(job, here))
        wanted = work.inputs(names)
        left = [wanted[place] for place in here.agreed(lambda: places_left(job, work, wanted))]
        own = [left[place] for place in here.share(len(left))]
        file = job.out if here.size == 1 or job.out is None else part(job.out, here.rank)
        outcome = write(job, work, worker, own, file, speaks=here.first)
        here.wait()
        bad = finish(job, work, wanted, len(left), outcome) if here.first else 0
        here.wait()  # where one process ends before the first, torchrun may end that, too
        return bad


def device_here(job: JobSettings, here: Ranks) -> torch.device:
    """Return where this process computes."""
    device = device_of(job.device)
    if here.size > 1 and device.type == "cuda" and device.index is None:
        return device_of(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    return device


def places_left(job: JobSettings, work: Work, wanted: Sequence[Item]) -> list[int]:
    """Return the places of the inputs that are still to be done."""
    if job.out is None:
        return list(range(len(wanted)))
    return [one.place for one in begin(job.out, wanted, retry=job.retry, kind=work.kind)]


def write(
    job: JobSettings,
    work: Work,
    worker: Worker,
    own: Sequence[Item],
    file: Path | None,
    *,
    speaks: bool,
) -> Outcome:
    """Do inputs, a line each as soon as it is there.

    Args:
        job: of which these inputs are a part.
        work: what is done.
        worker: that does it.
        own: the inputs.
        file: where lines go; None for stdout.
        speaks: show progress on stderr.

    Raises:
        ConfigError: where the accelerator's memory does not suffice.
    """
    if not own:
        return Outcome(0, 0, 0.0)
    size = job.batch_size or fastest_batch_size(worker, most=len(own))
    if job.batch_size is None and speaks:
        print(f"batch size {size}", file=sys.stderr)
    results = work.results(own, size)
    progress = None if speaks and not lines_are_seen(file) else False
    bar = shown(results, len(own), progress=progress, doing=work.doing)
    started, bad = time.perf_counter(), 0
    try:
        with appending(file) as stream, closing(results), closing(bar):
            for one, found in zip(own, bar, strict=True):
                write_line(stream, work.line(one, found))
                bad += isinstance(found, Unreadable)
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"--batch-size {size}: the accelerator's memory does not suffice; give less, or auto"
        ) from None
    return Outcome(len(own), bad, time.perf_counter() - started)


def lines_are_seen(file: Path | None) -> bool:
    """Return whether lines go to a terminal, where a bar would be in their way."""
    return file is None and sys.stdout is not None and sys.stdout.isatty()


def finish(
    job: JobSettings, work: Work, wanted: Sequence[Item], tried: int, outcome: Outcome
) -> int:
    """Put together what all processes wrote, say what was done; return how many were unreadable.

    Args:
        job: that is done.
        work: that it did.
        wanted: all its inputs.
        tried: how many of them were done now, in all processes.
        outcome: of this process.
    """
    if job.out is not None:
        merge_parts(job.out, wanted, work.kind)
    bad = outcome.bad if job.out is None else unreadable(job.out, wanted, work.kind)
    before, rate = len(wanted) - tried, tried / max(outcome.seconds, 1e-9)
    parts = [f"{len(wanted)} {work.noun}{'s' * (len(wanted) != 1)}"]
    parts += [f"{before} done before"] * bool(before)
    parts += [f'{bad} could not be read: see "error"'] * bool(bad)
    parts += [f"{rate:.1f} {work.noun}s/s"] * bool(outcome.tried)
    print("; ".join(parts), file=sys.stderr)
    return bad
