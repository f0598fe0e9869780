"""Reading a checkpoint: checked against its manifest, without running code, in today's schema."""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from mmattn.errors import CheckpointError
from mmattn.tasks.migrations import migrate
from mmattn.tasks.weight_names import plain_names
from mmattn.training.checkpoints.manifest import verify

FOREIGN = re.compile(r"GLOBAL ([\w.]+)")  # how torch names what it refuses to unpickle
WEIGHTS = ("state_dict", "current_model_state")  # the latter beside averaged weights


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content; only tensors and plain values are read, onto the CPU.

    What an older version of this library wrote is brought to this one's schema, and weights whose
    names torch.compile or DistributedDataParallel has lengthened get their own names back.

    Raises:
        CheckpointError: where it is not as its manifest says, is truncated, holds anything else, or
            was written by a newer version.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: not a readable checkpoint (no such file)")
    verify(path)
    content = plain_content(path)
    if not isinstance(content, dict) or not has_names(content.get("state_dict")):
        raise CheckpointError(f"{path}: not a checkpoint of a run: it has no state_dict")
    try:
        named = {key: plain_names(content[key]) for key in WEIGHTS if has_names(content.get(key))}
        return migrate({**content, **named})
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def has_names(state: Any) -> bool:
    """Whether this is a state dict: values by their names."""
    return isinstance(state, dict) and all(isinstance(name, str) for name in state)


def plain_content(path: Path) -> Any:
    """Return what is in a file. Raises CheckpointError where that is more than plain values."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of files that torch did not write
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        foreign = FOREIGN.search(str(error))
        reason = "truncated, or no checkpoint at all"
        if foreign:
            reason = f"it holds {foreign[1]}, and reading that could run code"
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from error


def check_whole(path: Path) -> bool:
    """Return whether a checkpoint has a manifest, after checking that it is whole either way.

    Without a manifest it is read through; the sums (CRC-32) that torch's files have hold nearly all
    of it, if not as surely.

    Raises:
        CheckpointError: saying what is wrong with it.
    """
    if verify(path) is not None:
        return True
    read_checkpoint(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path}: damaged: {damaged} has another CRC-32 than was written")
    return False
