"""Which classes a configuration may name. Everything else is refused before anything is built.

Hydra's own block-list is not a boundary: `_target_: torch.load` would run code from a file. So
`_target_` is checked against a list of what may be built, and what it resolves to must be a class
or function that is *defined* in an allowed package, not merely reachable through it.
"""

import importlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from mmattn.errors import ConfigError

# module prefix -> the package in which the target must be defined
PACKAGES = {
    "mmattn.": "mmattn",
    "torchvision.transforms.v2.": "torchvision",
    "torch.optim.": "torch.optim",
    "lightning.pytorch.callbacks.": "lightning",
    "lightning.pytorch.loggers.": "lightning",
    "lightning.pytorch.profilers.": "lightning",
    "lightning.pytorch.strategies.": "lightning",
    "lightning.pytorch.plugins.": "lightning",
}
EXACT = {"lightning.pytorch.Trainer": "lightning"}


def check_targets(config: Any, allowed: Sequence[str] = ()) -> None:
    """Refuse a configuration that names anything outside the allow-list.

    Args:
        config: the composed configuration; interpolations are resolved before looking.
        allowed: packages of the user's own, from the command line.

    Raises:
        ConfigError: naming the key, the target and the remedy.
    """
    packages = PACKAGES | {f"{name}.": name for name in allowed}
    plain = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    for key, target in targets(plain):
        check_target(key, target, packages)


def targets(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (key, target) for every `_target_` in a nested configuration."""
    if isinstance(config, (dict, DictConfig)):
        for name, value in config.items():
            if name == "_target_":
                yield key, value
            else:
                yield from targets(value, f"{key}.{name}".lstrip("."))
    elif isinstance(config, (list, tuple, ListConfig)):
        for i, value in enumerate(config):
            yield from targets(value, f"{key}[{i}]")


def check_target(key: str, target: Any, packages: dict[str, str]) -> None:
    """Raise ConfigError unless `target` names something that may be built."""
    home = EXACT.get(target) if isinstance(target, str) else None
    if home is None and isinstance(target, str):
        home = next((packages[prefix] for prefix in packages if target.startswith(prefix)), None)
    if home is None:
        own = str(target).split(".")[0]
        raise ConfigError(
            f"{key}._target_={target!r} is not on the list of what a configuration may build; "
            f"if {own} is a package of your own, add allow_targets=[{own}] to the command line"
        )
    found = resolve(key, target)
    defined = getattr(found, "__module__", None) or ""
    builds = inspect.isclass(found) or inspect.isfunction(found)
    if not builds or not (defined == home or defined.startswith(f"{home}.")):
        raise ConfigError(
            f"{key}._target_={target!r} is defined in {defined or type(found).__name__}, not in "
            f"{home}: only classes and functions of {home} itself may be built"
        )


def resolve(key: str, target: str) -> Any:
    """Return the object that a dotted name means. Raises ConfigError where there is none."""
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{key}._target_={target!r}: {error}") from None
    if not hasattr(module, name):
        raise ConfigError(f"{key}._target_={target!r}: {module_name} has no {name}")
    return getattr(module, name)
