"""The names of weights: without what wrappers add to them, and how those of two models differ."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

COMPILED = "_orig_mod."  # torch.compile(model) puts it before the names inside
WRAPPED = "module."  # DistributedDataParallel and AveragedModel put it before all names
COUNTER = "n_averaged"  # AveragedModel counts beside the weights
SHOWN = 4  # groups of names in a message


def plain_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights by the names that they have in the model itself.

    A prefix of a wrapper around everything goes only where every name has it: a part of a model may
    be called `module`.
    """
    names = {name: name.replace(COMPILED, "") for name in state}
    kept = [name for name in state if name != COUNTER]
    if kept and all(names[name].startswith(WRAPPED) for name in kept):
        names = {name: names[name].removeprefix(WRAPPED) for name in kept}
    plain = OrderedDict((short, state[name]) for name, short in names.items())
    versions = getattr(state, "_metadata", None)
    if versions is not None and all(name == short for name, short in names.items()):
        setattr(plain, "_metadata", versions)  # noqa: B010 (as torch keeps them)
    return plain


def differences(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Return how the weights of a checkpoint differ from a model's, a line for each kind.

    Names are grouped by the part of the model that they are in; empty where nothing differs.
    """
    found = {
        "missing in the checkpoint": [name for name in own if name not in saved],
        "not in the model": [name for name in saved if name not in own],
        "of another shape": [
            name for name in own if name in saved and saved[name].shape != own[name].shape
        ],
    }
    return [f"{what}: {grouped(names)}" for what, names in found.items() if names]


def grouped(names: Iterable[str]) -> str:
    """Return names in few words: `model.vision.* (12), model.text.head_bias`."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(".".join(name.split(".")[:2]), []).append(name)
    largest = sorted(groups.items(), key=lambda group: -len(group[1]))
    shown = [
        f"{part}.* ({len(inner)})" if len(inner) > 1 else inner[0]
        for part, inner in largest[:SHOWN]
    ]
    return ", ".join(shown) + " …" * (len(groups) > SHOWN)
