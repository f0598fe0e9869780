"""Finding a checkpoint to go on from, and reading one without running code from it."""

import re
import warnings
from pathlib import Path
from typing import Any

import torch

from mmattn.data.loader import check_same_order
from mmattn.data.split_module import SplitDataModule
from mmattn.errors import CheckpointError
from mmattn.tasks.task import Task

FOREIGN = re.compile(r"GLOBAL ([\w.]+)")  # how torch names what it refuses to unpickle


def find_checkpoint(wanted: str | None, folder: Path, runs: Path) -> Path | None:
    """Return the checkpoint that `ckpt_path` means, None where it is null.

    "auto" is this run directory's `last.ckpt` where it has one (a run that is started again in its
    own folder), else the newest one of the runs under `runs`; None where there is none yet.

    Raises:
        CheckpointError: for a path that does not exist.
    """
    if wanted is None:
        return None
    if wanted == "auto":
        own = folder / "checkpoints" / "last.ckpt"
        found = runs.glob("runs/*/checkpoints/last.ckpt")
        newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
        return own if own.is_file() else newest
    path = Path(wanted).expanduser()
    if not path.is_file():
        raise CheckpointError(f"ckpt_path={wanted}: no such file")
    return path


def best_checkpoint(folder: Path) -> Path | None:
    """Return the best checkpoint of a run's `checkpoints` folder by the metric it watched.

    Which one that is stands in `last.ckpt`; without that metric it is `last.ckpt` itself. None
    where the folder holds no checkpoint.
    """
    last = folder / "last.ckpt"
    if not last.is_file():
        return max(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime, default=None)
    states = read_checkpoint(last).get("callbacks", {})
    names = [Path(state.get("best_model_path") or "").name for state in states.values()]
    best = [folder / name for name in names if name and (folder / name).is_file()]
    return best[0] if best else last


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content; only tensors and plain values are read.

    Raises:
        CheckpointError: where it is truncated, or holds anything else.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of files that torch did not write
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        foreign = FOREIGN.search(str(error))
        reason = "truncated, or no checkpoint at all"
        if foreign:
            reason = f"it holds {foreign[1]}, and reading that could run code"
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"{path}: not a checkpoint of a run: it has no state_dict")
    return content


def load_weights(task: Task, path: Path) -> None:
    """Load a checkpoint's weights into the task, after checking that they belong to it.

    Raises:
        CheckpointError: for another tokenizer or architecture, saying what differs.
    """
    checkpoint = check_checkpoint(task, path)
    task.load_state_dict(checkpoint["state_dict"])


def check_checkpoint(
    task: Task, path: Path, resumed: SplitDataModule | None = None, world_size: int = 1
) -> dict[str, Any]:
    """Return a checkpoint's content if it belongs to the task.

    Args:
        task: with the model and the tokenizer that it must fit.
        path: the checkpoint.
        resumed: the data on which training is to go on; None where only the weights are needed.
        world_size: the number of ranks of that training.

    Raises:
        CheckpointError: for another tokenizer, architecture or order of the data, saying what
            differs, and where it holds too little for training to go on.
    """
    checkpoint = read_checkpoint(path)
    try:
        task.on_load_checkpoint(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if resumed is not None:
        own = type(resumed).__qualname__
        missing = sorted({"optimizer_states", "loops", "callbacks", own} - checkpoint.keys())
        if missing:
            raise CheckpointError(
                f"{path}: has no {missing[0]}, so training cannot go on from it; train=false tests "
                "its weights"
            )
        check_same_order(checkpoint[own], resumed.order(world_size))
    return checkpoint
