"""Writing a checkpoint's file: whole under its name, known to its manifest, or not at all."""

import errno
import hashlib
import logging
import shutil
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mmattn.training.checkpoints.durable import put_in_place, to_disk, unfinished
from mmattn.training.checkpoints.manifest import Manifest, about, known, write_manifest

log = logging.getLogger(__name__)
SPARE = 2  # so many times its size should be free, so that the next one fits as well


class HashedStream:
    """What torch.save writes to: counts and hashes the bytes on their way to a file.

    torch tells of a write that failed in words of its own (an enforcement of its file format), so
    the disk's own error is kept in `failure`.
    """

    def __init__(self, stream: BinaryIO):
        self.size, self.failure = 0, None
        self._stream, self._hash = stream, hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        """Write some bytes. Raises OSError where the disk refuses."""
        try:
            self._stream.write(data)
        except OSError as error:
            self.failure = error
            raise
        self._hash.update(data)
        size = memoryview(data).nbytes
        self.size += size
        return size

    def flush(self) -> None:
        """Do nothing: `to_disk` comes afterwards."""

    def sha256(self) -> str:
        """Return the hash of all that was written, in hexadecimal."""
        return self._hash.hexdigest()


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint and its manifest; nobody ever sees a part of it under its name.

    Raises:
        OSError: where the disk refuses; what had the name until then is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    check_space(content, path.parent)
    with unfinished(path) as (place, stream):
        size, sha256 = write_content(content, stream)
        to_disk(stream)
        check_written(place, size)
        before = known(path)
        manifest = Manifest(size, sha256, time.time_ns(), before=before, **about(content))
        write_manifest(path, manifest)
        try:
            put_in_place(place, path)
        except OSError:
            remove_manifest_of_nothing(path)
            raise
    if before is not None:  # a file that is put there from elsewhere is not to be taken for ours
        write_manifest(path, replace(manifest, before=None))


def remove_manifest_of_nothing(path: Path) -> None:
    """Remove the manifest of a checkpoint that did not get its name, unless another has it."""
    if not path.exists():
        path.with_name(f"{path.name}.json").unlink(missing_ok=True)


def write_content(content: dict[str, Any], stream: BinaryIO) -> tuple[int, str]:
    """Write a checkpoint to a stream; return its size in bytes and its SHA-256. Raises OSError."""
    hashed = HashedStream(stream)
    try:
        torch.save(content, hashed)  # type: ignore[arg-type] # all that it calls is there
    except Exception:
        if hashed.failure is not None:
            raise hashed.failure from None
        raise
    return hashed.size, hashed.sha256()


def check_written(place: Path, size: int) -> None:
    """Raise OSError unless a file on the disk has its size and the list of its parts at its end."""
    found = place.stat().st_size
    if found != size:
        raise OSError(errno.EIO, f"it has {found:,} bytes on the disk after {size:,} were written")
    try:
        with zipfile.ZipFile(place) as archive:
            archive.namelist()
    except zipfile.BadZipFile as error:
        raise OSError(errno.EIO, f"cannot be read back: {error}") from error


def check_space(content: dict[str, Any], folder: Path) -> None:
    """Refuse a checkpoint for which the disk has no room, before anything is written.

    Raises:
        OSError: with both numbers. Where only the next one will not fit, that is warned of.
    """
    needed, free = size_of(content), shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC, f"no space: {free:,} bytes are free, it needs {needed:,}", str(folder)
        )
    if free < SPARE * needed:
        log.warning(
            "%s: only %s bytes are free, and a checkpoint needs %s; make room before the next one",
            *(folder, f"{free:,}", f"{needed:,}"),
        )


def size_of(value: Any) -> int:
    """Return about how many bytes a checkpoint takes: those of its tensors."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(size_of(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(size_of(item) for item in value)
    return 0
