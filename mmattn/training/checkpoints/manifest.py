"""The manifest beside a checkpoint: no format of tensors notices a flipped bit, a SHA-256 does.

`last.ckpt` has `last.ckpt.json`, plain JSON. It is written *before* its checkpoint gets its name,
and remembers the file that has the name until then. So at every moment, whenever a process is
killed, the file under the name is one of those that the manifest knows.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from mmattn.errors import CheckpointError
from mmattn.json_file import read_json
from mmattn.training.checkpoints.durable import write_durably

FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What is known of a checkpoint's file when it is written.

    Attributes:
        size: in bytes.
        sha256: of the file, in hexadecimal.
        written: when, in nanoseconds since 1970.
        step: optimiser steps done.
        epoch: epochs done.
        schema: of the entry that the task adds; None where it is not a task of this library.
        tokenizer: SHA-256 of its JSON; None for a model that reads no text.
        classes: SHA-256 of the classes of all heads as JSON; None for a model without.
        before: of the file that had the name before; None for a new name.
    """

    size: int
    sha256: str
    written: int
    step: int
    epoch: int
    schema: int | None = None
    tokenizer: str | None = None
    classes: str | None = None
    before: "Manifest | None" = None


def manifest_path(checkpoint: Path) -> Path:
    """Return where the manifest of a checkpoint is; of a link, that of what it points to."""
    real = checkpoint.resolve() if checkpoint.is_symlink() else checkpoint
    return real.with_name(f"{real.name}.json")


def about(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a manifest says of a checkpoint's content, by the names of its fields."""
    own = content.get("mmattn")
    own = own if isinstance(own, Mapping) else {}
    return {
        "step": int(content.get("global_step", 0)),
        "epoch": int(content.get("epoch", 0)),
        "schema": own.get("schema"),
        "tokenizer": hash_of(own.get("tokenizer")),
        "classes": hash_of(own.get("classes")),
    }


def hash_of(value: Any) -> str | None:
    """Return the SHA-256 of a text, or of plain values as JSON; None of None."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(checkpoint: Path, manifest: Manifest) -> None:
    """Write the manifest of a file that is about to get the name `checkpoint`. Raises OSError."""
    text = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=2)
    # Beside the name itself: where that is a link now, it will be none.
    write_durably(checkpoint.with_name(f"{checkpoint.name}.json"), f"{text}\n".encode())


def known(checkpoint: Path) -> Manifest | None:
    """Return what is known of a file that is there, itself without memory of another.

    That is quick, unless a process was killed while it replaced the file: its SHA-256 is needed
    then. None without the file or a manifest of it.
    """
    place = manifest_path(checkpoint)
    if not checkpoint.is_file() or not place.is_file():
        return None
    try:
        newest = read_manifest(place)
        found = newest if newest.before is None else verify(checkpoint)
    except CheckpointError:
        return None
    return found and replace(found, before=None)


def read_manifest(place: Path) -> Manifest:
    """Return a manifest.

    Raises:
        CheckpointError: where the file is no manifest that this version reads.
    """
    values = read_json(place)
    try:
        if values["format"] != FORMAT:
            raise KeyError
        return of_values(values)
    except (KeyError, TypeError):
        raise CheckpointError(
            f"{place}: not the manifest of a checkpoint, or damaged; if you trust the checkpoint, "
            "remove this file"
        ) from None


def of_values(values: Mapping[str, Any]) -> Manifest:
    """Return a manifest of JSON's values. Raises KeyError or TypeError where they do not fit."""
    kinds = {"size": int, "sha256": str, "written": int, "step": int, "epoch": int}
    for name, kind in kinds.items():
        if type(values[name]) is not kind:
            raise TypeError
    kept: dict[str, Any] = {field.name: values.get(field.name) for field in fields(Manifest)}
    before = kept.pop("before")
    return Manifest(**kept, before=None if before is None else of_values(before))


def verify(checkpoint: Path) -> Manifest | None:
    """Compare a checkpoint with its manifest; return it, None where there is none.

    Raises:
        CheckpointError: where the file is not what was written, saying how it differs.
    """
    place = manifest_path(checkpoint)
    if not place.is_file():
        return None
    newest, size = read_manifest(place), checkpoint.stat().st_size
    both = [of for of in (newest, newest.before) if of is not None]
    if size not in [of.size for of in both]:
        raise CheckpointError(
            f"{checkpoint}: truncated or altered: it has {size:,} bytes, {newest.size:,} were "
            f"written{REMEDY}"
        )
    with checkpoint.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    for of in both:
        if of.sha256 == found:
            return of
    raise CheckpointError(
        f"{checkpoint}: damaged: it has another SHA-256 than when it was written{REMEDY}"
    )


REMEDY = "; ckpt_path=auto goes on from the newest whole one"
