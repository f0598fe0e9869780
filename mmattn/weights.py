"""Files of weights, read without ever running code from them, and written without any."""

import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmattn.errors import CheckpointError

SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors, .pth or .bin file.

    Raises:
        CheckpointError: where the file is missing or truncated, or holds other things than tensors
            by their names (below `state_dict` or `model`, where it has such an entry).
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file of weights")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: cannot read these weights safely ({reason})") from None
    if isinstance(state, dict):
        state = state.get("state_dict", state.get("model", state))
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path}: holds no state dict, that is tensors by their names")
    return state


def write_state_dict(
    state: dict[str, Tensor], path: Path, about: dict[str, str] | None = None
) -> None:
    """Write a .safetensors file, as readable to others as any file that this process writes.

    No two of the tensors may share memory. `about` is the file's metadata. Raises OSError where the
    disk refuses; safetensors tells of that in an error of its own.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(
            state, path, metadata=about or {"format": "pt"}
        )  # which makes it its owner's only
    except SafetensorError as error:
        number = SYSTEM_ERROR.search(str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    path.chmod(mode)


def load_exactly(
    module: nn.Module, state: dict[str, Tensor], source: str, *, assign: bool = False
) -> None:
    """Load `state` into `module` if names and shapes agree exactly.

    Only the step counters of batch norms may be missing: they change no output, and some exporters
    leave them out. With `assign` the module keeps the tensors themselves, and so their types;
    otherwise it copies their numbers.

    Raises:
        CheckpointError: naming the first missing, unexpected and differently shaped entries.
    """
    own = module.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    problems = [f"missing {name}" for name in own if name not in state and name not in counters]
    problems += [f"unexpected {name}" for name in state if name not in own]
    problems += [
        f"{name} is {tuple(state[name].shape)}, the model has {tuple(own[name].shape)}"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    if problems:
        shown = "; ".join(problems[:4]) + (" …" if len(problems) > 4 else "")
        raise CheckpointError(
            f"{source} does not fit {type(module).__name__}: {len(problems)} differences: {shown}"
        )
    module.load_state_dict({**{name: own[name] for name in counters}, **state}, assign=assign)
