"""Finding a checkpoint to go on from, and checking that it belongs to the run."""

import logging
from pathlib import Path
from typing import Any

from mmattn.data.loader import check_same_order
from mmattn.data.split_module import SplitDataModule
from mmattn.errors import CheckpointError
from mmattn.tasks.task import Task
from mmattn.training.checkpoints.content import check_whole
from mmattn.training.checkpoints.content import read_checkpoint as read_checkpoint
from mmattn.training.checkpoints.files import checkpoints_in, written

log = logging.getLogger(__name__)
SHOWN = 3  # reasons in a message


def find_checkpoint(wanted: str | None, folder: Path, runs: Path) -> Path | None:
    """Return the checkpoint that `ckpt_path` means, None where it is null.

    "auto" is this run directory's newest whole checkpoint where it has any (a run that is started
    again in its own folder), else that of the run under `runs` that wrote one last; None where
    there is none yet.

    Raises:
        CheckpointError: for a path that does not exist, and where a run has checkpoints but none of
            them is whole.
    """
    if wanted is None:
        return None
    if wanted == "auto":
        own = folder / "checkpoints"
        if checkpoints_in(own):
            return newest_whole(own)
        others = [
            files[0] for of in runs.glob("runs/*/checkpoints") if (files := checkpoints_in(of))
        ]
        newest = max(others, key=written, default=None)
        return newest and newest_whole(newest.parent)
    path = Path(wanted).expanduser()
    if not path.is_file():
        raise CheckpointError(f"ckpt_path={wanted}: no such file")
    return path


def newest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint that is as it was written; None where there is none at all.

    The log says which were refused and why, and which has no manifest to be compared with.

    Raises:
        CheckpointError: where there are some, but none is whole.
    """
    refused = []
    for path in checkpoints_in(folder):
        try:
            known = check_whole(path)
        except CheckpointError as error:
            refused.append(str(error))
            continue
        for reason in refused:
            log.warning("refused: %s", reason)
        if refused:
            log.warning("taking the one before instead: %s", path)
        if not known:
            log.info("%s has no manifest (of an older version?); all of it can be read", path)
        return path
    if refused:
        more = f" and {len(refused) - SHOWN} more" if len(refused) > SHOWN else ""
        raise CheckpointError(
            f"{folder}: none of the checkpoints is whole: {'; '.join(refused[:SHOWN])}{more}. "
            "Bring one back from a copy, or start anew with ckpt_path=null"
        )
    return None


def best_checkpoint(folder: Path) -> Path | None:
    """Return the best checkpoint of a run's `checkpoints` folder by the metric it watched.

    Which one that is stands in the newest whole one; without that metric it is that one itself.
    None where the folder holds no checkpoint. Raises CheckpointError where none is whole.
    """
    newest = newest_whole(folder)
    if newest is None:
        return None
    states = read_checkpoint(newest).get("callbacks", {})
    names = [Path(state.get("best_model_path") or "").name for state in states.values()]
    best = [folder / name for name in names if name and (folder / name).is_file()]
    return best[0] if best else newest


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
