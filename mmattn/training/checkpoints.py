"""Finding a checkpoint to go on from, and reading one without running code from it."""

from pathlib import Path

import torch

from mmattn.errors import CheckpointError
from mmattn.tasks.captioning import CaptioningTask


def find_checkpoint(wanted: str | None, runs: Path) -> Path | None:
    """Return the checkpoint that `ckpt_path` means, None where it is null.

    "auto" is the newest `last.ckpt` of the runs under `runs`; None where there is none yet.

    Raises:
        CheckpointError: for a path that does not exist.
    """
    if wanted is None:
        return None
    if wanted == "auto":
        found = runs.glob("runs/*/checkpoints/last.ckpt")
        return max(found, key=lambda path: path.stat().st_mtime, default=None)
    path = Path(wanted).expanduser()
    if not path.is_file():
        raise CheckpointError(f"ckpt_path={wanted}: no such file")
    return path


def read_checkpoint(path: Path) -> dict:
    """Return a checkpoint's content; only tensors and plain values are read.

    Raises:
        CheckpointError: where it is truncated, or holds anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from None


def load_weights(task: CaptioningTask, path: Path) -> None:
    """Load a checkpoint's weights into the task, after checking that they belong to it.

    Raises:
        CheckpointError: for another tokenizer or architecture, saying what differs.
    """
    checkpoint = read_checkpoint(path)
    task.on_load_checkpoint(checkpoint)
    task.load_state_dict(checkpoint["state_dict"])
