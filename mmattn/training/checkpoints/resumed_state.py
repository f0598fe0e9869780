"""What a run that goes on takes from a checkpoint, and what it must not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging

from mmattn.errors import CheckpointError
from mmattn.training.parts import callbacks_of


def check_averages(trainer: L.Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Raise CheckpointError where training is to go on from averages, without averaging."""
    averages = any(isinstance(of, WeightAveraging) for of in callbacks_of(trainer))
    if "averaging_state" in checkpoint and not averages:
        raise CheckpointError(
            f"{trainer.ckpt_path}: its state_dict holds averages of the weights (EMA), the weights "
            "themselves are in current_model_state: go on with averaging, callbacks=[…,ema], as "
            "that run did"
        )


def moved(state: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return this callback's state with all paths in `folder`."""

    def here(path: str) -> str:
        return str(folder / Path(path).name) if path else path

    names = ["best_model_path", "kth_best_model_path", "last_model_path"]
    changed: dict[str, Any] = {name: here(state[name]) for name in names}
    for name in ("best_k_models", "steps"):
        changed[name] = {here(path): value for path, value in state.get(name, {}).items()}
    newest = [here(path) for path in state.get("newest", [])]
    return {**state, **changed, "newest": newest, "dirpath": str(folder)}
