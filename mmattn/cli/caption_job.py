"""Captioning a list of images into a JSONL file, in one process or several, again and again."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmattn.cli.device import device_of
from mmattn.cli.inputs import Input, named_images, numbered, outside
from mmattn.cli.job_file import begin, merge_parts, part, unreadable
from mmattn.cli.job_settings import JobSettings
from mmattn.cli.jsonl import appending, write_line
from mmattn.cli.ranks import Ranks, ranks
from mmattn.errors import ConfigError
from mmattn.pipeline.attention import AttentionChoice
from mmattn.pipeline.batch_size import fastest_batch_size
from mmattn.pipeline.caption import Caption
from mmattn.pipeline.load import load_captioner
from mmattn.pipeline.pictures import Unreadable
from mmattn.pipeline.progress import shown
from mmattn.pipeline.writer import Writer


@dataclass(frozen=True)
class Outcome:
    """What was done: how many images were tried, how many of them were bad, and the seconds."""

    tried: int
    bad: int
    seconds: float


def caption_job(job: JobSettings) -> int:
    """Caption what is not captioned yet.

    Returns:
        How many images could not be read, now or in an earlier job that the file is of. Only the
        first of several processes says so: torchrun would end the others where one fails.

    Raises:
        UserError: for a mistake in the input, before any file is touched.
    """
    with ranks() as here:
        if here.size > 1 and job.out is None:
            raise ConfigError("several processes cannot share stdout: give --out FILE")
        wanted = numbered([Path(name) for name in here.agreed(lambda: images_of(job))])
        writer = writer_of(job, here)
        left = [wanted[place] for place in here.agreed(lambda: places_left(job, wanted))]
        own = [left[place] for place in here.share(len(left))]
        file = job.out if here.size == 1 or job.out is None else part(job.out, here.rank)
        outcome = write(job, writer, own, file, speaks=here.first)
        here.wait()
        bad = finish(job, wanted, len(left), outcome) if here.first else 0
        here.wait()  # where one process ends before the first, torchrun may end that, too
        return bad


def images_of(job: JobSettings) -> list[str]:
    """Return the names of all images, but of the pictures of attention that an earlier job drew."""
    images = named_images(job.images)
    if job.attention is None or "png" not in job.formats:
        return list(map(str, images))
    kept = outside(images, job.attention)
    if len(kept) < len(images):
        print(
            f"{len(images) - len(kept)} images are left out: they lie in {job.attention}, where "
            "pictures of attention are written",
            file=sys.stderr,
        )
    return list(map(str, kept))


def writer_of(job: JobSettings, here: Ranks) -> Writer:
    """Return what writes the captions, on this process's device."""
    device = device_of(job.device)
    if here.size > 1 and device.type == "cuda" and device.index is None:
        device = device_of(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    settings = {"device": device, "dtype": job.dtype, "revision": job.revision}
    pipeline = load_captioner(job.model, "mmattn caption", **settings)
    attention = False if job.attention is None else AttentionChoice(job.layers)
    return pipeline.writer(attention, **job.decoding)


def places_left(job: JobSettings, wanted: Sequence[Input]) -> list[int]:
    """Return the places of the images that are still to be captioned."""
    left = wanted if job.out is None else begin(job.out, wanted, retry=job.retry)
    return [one.place for one in left]


def write(
    job: JobSettings, writer: Writer, own: Sequence[Input], file: Path | None, *, speaks: bool
) -> Outcome:
    """Caption images, a line each as soon as it is there.

    Args:
        job: of which these images are a part.
        writer: of the captions.
        own: the images.
        file: where lines go; None for stdout.
        speaks: show progress on stderr.

    Raises:
        ConfigError: where the accelerator's memory does not suffice.
    """
    if not own:
        return Outcome(0, 0, 0.0)
    size = job.batch_size or fastest_batch_size(writer, most=len(own))
    if job.batch_size is None and speaks:
        print(f"batch size {size}", file=sys.stderr)
    pictures = [one.picture(job.max_pixels) for one in own]
    results = writer.results(pictures, batch_size=size, threads=job.threads)
    bar = shown(results, len(own), progress=None if speaks and not lines_are_seen(file) else False)
    started, bad = time.perf_counter(), 0
    try:
        with appending(file) as stream, closing(results), closing(bar):
            for one, found in zip(own, bar, strict=True):
                write_line(stream, line_about(one, found, job))
                bad += isinstance(found, Unreadable)
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"--batch-size {size}: the accelerator's memory does not suffice; give less, or auto"
        ) from None
    return Outcome(len(own), bad, time.perf_counter() - started)


def lines_are_seen(file: Path | None) -> bool:
    """Return whether lines go to a terminal, where a bar would be in their way."""
    return file is None and sys.stdout is not None and sys.stdout.isatty()


def line_about(one: Input, found: Caption | Unreadable, job: JobSettings) -> dict[str, Any]:
    """Return what is written of one image; its pages are written before."""
    if isinstance(found, Unreadable):
        return {"image": one.name, "error": str(found.error)}
    if job.attention is None:
        return found.to_dict()
    page = job.attention / one.page
    names = [page.with_name(f"{page.name}.{kind}") for kind in job.formats or ("html",)]
    return {**found.to_dict(), "attention": [str(found.save(name)) for name in names]}


def finish(job: JobSettings, wanted: Sequence[Input], tried: int, outcome: Outcome) -> int:
    """Put together what all processes wrote, say what was done; return how many were unreadable.

    Args:
        job: that is done.
        wanted: all its images.
        tried: how many of them were captioned now, in all processes.
        outcome: of this process.
    """
    if job.out is not None:
        merge_parts(job.out, wanted)
    bad = outcome.bad if job.out is None else unreadable(job.out, wanted)
    before, rate = len(wanted) - tried, tried / max(outcome.seconds, 1e-9)
    parts = [f"{len(wanted)} image{'s' * (len(wanted) != 1)}"]
    parts += [f"{before} done before"] * bool(before)
    parts += [f'{bad} could not be read: see "error"'] * bool(bad)
    parts += [f"{rate:.1f} images/s"] * bool(outcome.tried)
    print("; ".join(parts), file=sys.stderr)
    return bad
