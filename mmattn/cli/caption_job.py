"""Captioning a list of images into a JSONL file, in one process or several, again and again."""

import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from mmattn.cli.device import device_of
from mmattn.cli.inputs import Input, inputs
from mmattn.cli.jsonl import appending, cut_torn_line, line_of, read_lines, write_line
from mmattn.cli.ranks import Ranks, ranks
from mmattn.errors import ConfigError
from mmattn.files import write_whole
from mmattn.pipeline.attention import AttentionChoice
from mmattn.pipeline.batch_size import fastest_batch_size
from mmattn.pipeline.load import load
from mmattn.pipeline.pipeline import Caption, Pipeline, Unreadable


def caption_job(arguments: Namespace, options: dict[str, Any]) -> int:
    """Caption what is not captioned yet; return how many images could not be read."""
    with ranks() as here:
        if here.size > 1 and arguments.out is None:
            raise ConfigError("several processes cannot share stdout: give --out FILE")
        wanted = inputs(arguments.images)
        pipeline = loaded(arguments, here)
        pipeline.options.changed(options)  # a mistake is said before any file is touched
        with shared_file(arguments.out, here, wanted, retry=arguments.retry) as (file, done):
            left = [one for one in wanted if one.name not in done]
            own = [left[place] for place in here.share(len(left))]
            captioned = run(arguments, options, pipeline, own, file, here)
        if here.first:
            report(arguments, wanted, len(wanted) - len(left), captioned, here)
        return failures(arguments.out, wanted) if here.first and arguments.out else captioned[1]


def loaded(arguments: Namespace, here: Ranks) -> Pipeline:
    """Return the captioner on this process's device."""
    device = device_of(arguments.device)
    if here.size > 1 and device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    settings = {"dtype": arguments.dtype, "revision": arguments.revision}
    return load(arguments.model, device=device, **settings)


@contextmanager
def shared_file(
    out: Path | None, here: Ranks, wanted: Sequence[Input], *, retry: bool
) -> Iterator[tuple[Path | None, set[str]]]:
    """Give the file that this process writes, and the images that are done.

    Several processes write a part each. The first puts the parts behind what the file has, in the
    order of the images, at the end and also at the start: an earlier job may have been killed.
    """
    if out is None:
        yield None, set()
        return
    if here.first:
        cut_torn_line(out)
        merge_parts(out, wanted)
        if retry:
            kept = [line for line in read_lines(out) if "error" not in line]
            write_whole(out, "".join(map(line_of, kept)).encode())
    here.wait()
    done = {str(line.get("image")) for line in read_lines(out)}
    here.wait()  # nobody writes while another still reads
    try:
        yield (out if here.size == 1 else part(out, here.rank)), done
    finally:
        if sys.exc_info()[0] is None:
            here.wait()
            if here.first and here.size > 1:
                merge_parts(out, wanted)


def part(out: Path, rank: int) -> Path:
    """Return the file that one of several processes writes."""
    return out.with_name(f".{out.name}.rank-{rank}")


def merge_parts(out: Path, wanted: Sequence[Input]) -> None:
    """Put what processes wrote behind the lines of the file, each image once, and remove it."""
    parts = sorted(out.parent.glob(f".{out.name}.rank-*"))
    if not parts:
        return
    before = read_lines(out)
    have = {line.get("image") for line in before}
    places = {one.name: one.place for one in wanted}
    newer = {line.get("image"): line for one in parts for line in read_lines(one)}
    added = [line for name, line in newer.items() if name not in have]
    added.sort(key=lambda line: places.get(str(line.get("image")), len(places)))
    write_whole(out, "".join(map(line_of, [*before, *added])).encode())
    for one in parts:
        one.unlink()


def run(
    arguments: Namespace,
    options: dict[str, Any],
    pipeline: Pipeline,
    own: Sequence[Input],
    file: Path | None,
    here: Ranks,
) -> tuple[int, int, float]:
    """Caption images; return how many were, how many could not be read, and the seconds it took."""
    captioned = bad = 0
    started = time.perf_counter()
    settings = {**options, "attention": attention_of(arguments), "threads": arguments.threads}
    size = arguments.batch_size
    batch_size = int(size) if size.isdecimal() else automatic(pipeline, own, arguments, options)
    pictures = [one.picture(arguments.max_pixels) for one in own]
    results = pipeline.results(pictures, batch_size=batch_size, **settings)
    with appending(file) as stream:
        for one, found in zip(own, shown(results, len(own), here), strict=True):
            if isinstance(found, Unreadable):
                write_line(stream, {"image": one.name, "error": str(found.error)})
                bad += 1
                continue
            line = found.to_dict()
            if arguments.attention is not None:
                line["attention"] = save_maps(found, arguments, one)
            write_line(stream, line)
            captioned += 1
    return captioned, bad, time.perf_counter() - started


def attention_of(arguments: Namespace) -> AttentionChoice | bool:
    """Return which attention is kept."""
    if arguments.attention is None:
        return False
    return AttentionChoice(arguments.layers) if arguments.layers else True


def save_maps(caption: Caption, arguments: Namespace, one: Input) -> list[str]:
    """Write what was asked for of a caption's attention; return the files."""
    kinds = dict.fromkeys(arguments.attention_format or ["html"])
    page = arguments.attention / one.page
    return [str(caption.save(page.with_name(f"{page.name}.{kind}"))) for kind in kinds]


def automatic(
    pipeline: Pipeline, own: Sequence[Input], arguments: Namespace, options: dict[str, Any]
) -> int:
    """Find the fastest batch size on this machine."""
    size = fastest_batch_size(pipeline, most=max(len(own), 1), **options)
    print(f"batch size {size}", file=sys.stderr)
    return size


def shown(results: Iterator[Any], total: int, here: Ranks) -> Iterator[Any]:
    """Yield results, with a progress bar on a terminal."""
    console = Console(stderr=True)
    if not (here.first and console.is_terminal and total > 1):
        return results
    return iter(track(results, "captioning", total=total, console=console))


def report(
    arguments: Namespace,
    wanted: Sequence[Input],
    before: int,
    captioned: tuple[int, int, float],
    here: Ranks,
) -> None:
    """Say on stderr what was done."""
    bad = failures(arguments.out, wanted) if arguments.out else captioned[1]
    done = len(wanted) - before
    parts = [f"{len(wanted)} images"]
    parts += [f"{before} were done before"] * bool(before)
    parts += [f'{bad} could not be read: see "error"'] * bool(bad)
    parts += [f"{done / captioned[2]:.1f} images/s"] * bool(done and captioned[2])
    print("; ".join(parts), file=sys.stderr)


def failures(out: Path, wanted: Sequence[Input]) -> int:
    """Return how many of the images the file has with an error."""
    bad = {str(line.get("image")) for line in read_lines(out) if "error" in line}
    return sum(one.name in bad for one in wanted)
