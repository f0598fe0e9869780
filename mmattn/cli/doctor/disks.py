"""Where runs are written: does a file get there whole, how fast, and is there room?"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from uuid import uuid4

from mmattn.cli.doctor.finding import Finding

GIB = 2**30
LITTLE, NOTHING = 10 * GIB, GIB // 2  # free space for some runs; for none
SLOW = 0.5  # seconds for a megabyte: each checkpoint waits for it
SHARED = Path("/dev/shm")
# A worker keeps two batches ready; one of 64 pictures of 224 x 224 as float32.
OF_WORKER = 2 * 64 * 3 * 224 * 224 * 4


def log_folder(folder: Path) -> Iterator[Finding]:
    """Find whether a file can be written, forced to the disk and renamed where runs will be."""
    place = nearest(folder)
    where = f"{folder}" if place == folder else f"{folder} (to be made in {place})"
    try:
        write, sync, rename = write_sync_rename(place)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        yield Finding(
            "problem",
            "log folder",
            f"{where}: {reason.lower()}",
            "make it writable, or choose another with paths.log_dir=… (here: --log-dir)",
        )
        return
    times = f"write {write:.1f} ms, fsync {sync:.1f} ms, rename {rename:.1f} ms a megabyte"
    if write + sync + rename > SLOW * 1000:
        yield Finding(
            "note", "log folder", f"{where}: {times}", "a slow disk: write checkpoints more rarely"
        )
    else:
        yield Finding("ok", "log folder", f"{where}: {times}")
    yield free_space(place)


def write_sync_rename(folder: Path) -> tuple[float, float, float]:
    """Return the milliseconds for each with a megabyte; leaves nothing. Raises OSError."""
    first = folder / f".mmattn-doctor-{uuid4().hex}"
    second = first.with_name(f"{first.name}-renamed")
    data = os.urandom(2**20)
    try:
        times = [perf_counter()]
        with first.open("wb") as stream:
            stream.write(data)
            stream.flush()
            times.append(perf_counter())
            os.fsync(stream.fileno())
        times.append(perf_counter())
        first.replace(second)
        times.append(perf_counter())
    finally:
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)
    a, b, c = (1000 * (after - before) for before, after in pairwise(times))
    return a, b, c


def free_space(place: Path) -> Finding:
    """Return how much room there is."""
    free = shutil.disk_usage(place).free
    text = f"{free / GIB:.1f} GiB free in {place}"
    if free < NOTHING:
        return Finding("problem", "free space", text, "free some: checkpoints need it")
    if free < LITTLE:
        return Finding(
            "note", "free space", text, "enough for small models; a checkpoint is 3 x the weights"
        )
    return Finding("ok", "free space", text)


def temporary(folder: Path) -> Iterator[Finding]:
    """Find where temporary files go; on another file system is no trouble for our checkpoints."""
    try:
        place = Path(tempfile.gettempdir())
    except FileNotFoundError:
        yield Finding(
            "problem", "temporary files", "there is no folder for them", "set TMPDIR to one"
        )
        return
    text = f"{place}, on the file system of the runs"
    if place.stat().st_dev != nearest(folder).stat().st_dev:
        text = f"{place}, on another file system than the runs, which is harmless: checkpoints are "
        text += "written beside their final place"
    yield Finding("ok", "temporary files", text)


def shared_memory(workers: int) -> Iterator[Finding]:
    """Find whether the shared memory holds what reading processes hand over."""
    if not SHARED.is_dir():
        text = f"there is no {SHARED}"
        if workers and sys.platform == "linux":
            yield Finding("problem", "shared memory", text, "keep data.loader.num_workers=0")
        else:
            yield Finding("ok", "shared memory", text)
        return
    free = shutil.disk_usage(SHARED).free
    fit = free // OF_WORKER
    text = f"{free / GIB:.2f} GiB free in {SHARED}: enough for about {fit} reading processes"
    if fit < workers:
        yield Finding(
            "problem",
            "shared memory",
            f"{text}, and {workers} are wanted",
            f"data.loader.num_workers={fit}, or a container with --shm-size=8g",
        )
    elif fit < 2:
        yield Finding(
            "note",
            "shared memory",
            text,
            "keep data.loader.num_workers=0, or start the container with --shm-size=8g",
        )
    else:
        yield Finding("ok", "shared memory", text)


def nearest(folder: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())
