"""A folder of checkpoints: what is removed, linked to, left over, and which is the newest.

The order of the steps is chosen so that a process may be killed between any two of them: a
checkpoint goes before its manifest, and a link is replaced in one step.
"""

import os
import secrets
import shutil
from dataclasses import replace
from pathlib import Path

from mmattn.training.checkpoints.durable import (
    names_to_disk,
    put_in_place,
    remove_leftovers,
    to_disk,
    unfinished,
)
from mmattn.training.checkpoints.manifest import known, write_manifest


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, then its manifest. Raises OSError where the disk refuses."""
    manifest = path.with_name(f"{path.name}.json")
    path.unlink(missing_ok=True)
    manifest.unlink(missing_ok=True)


def link_checkpoint(path: Path, link: Path) -> None:
    """Make `link` point to a checkpoint in the same folder, in one step.

    Where the file system has no links it becomes a copy. Raises OSError.
    """
    place = link.with_name(f".{link.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        place.symlink_to(path.name)
    except OSError:
        copy_checkpoint(path, link)
        return
    place.replace(link)
    names_to_disk(link.parent)
    link.with_name(f"{link.name}.json").unlink(missing_ok=True)  # of a file that had the name


def copy_checkpoint(path: Path, copy: Path) -> None:
    """Write a checkpoint's bytes under a second name, with a manifest. Raises OSError."""
    of = known(path)
    if of is None:
        return
    before = known(copy)
    with unfinished(copy) as (place, stream), path.open("rb") as source:
        shutil.copyfileobj(source, stream)
        to_disk(stream)
        write_manifest(copy, replace(of, before=before))
        put_in_place(place, copy)


def clean_folder(folder: Path) -> None:
    """Remove what a killed process left: unfinished files, and manifests of nothing.

    Raises:
        OSError: where the folder cannot be written.
    """
    if not folder.is_dir():
        return
    remove_leftovers(folder)
    for manifest in folder.glob("*.ckpt.json"):
        if not manifest.with_suffix("").exists():
            manifest.unlink(missing_ok=True)


def checkpoints_in(folder: Path) -> list[Path]:
    """Return a folder's checkpoints, the one that was written last first; links are left out."""
    files = [path for path in folder.glob("*.ckpt") if path.is_file() and not path.is_symlink()]
    return sorted(files, key=written, reverse=True)


def written(path: Path) -> int:
    """Return when a checkpoint was written, in nanoseconds since 1970; copying does not change it.

    Only without a manifest it is the time of its file.
    """
    of = known(path)
    return path.stat().st_mtime_ns if of is None else of.written
