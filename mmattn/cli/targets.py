"""Which classes a configuration may name. Everything else is refused before anything is built.

Hydra's own block-list is not a boundary: `_target_: torch.load` would run code from a file. So
`_target_` is checked against a list of what may be built, and what it resolves to must be a class
(or a function of the user's own, or one of three of ours) that is *defined* in an allowed package,
not merely reachable through it.
"""

import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from mmattn.errors import ConfigError

# module prefix -> the package in which the target must be defined
PACKAGES = {
    "mmattn.": "mmattn",
    "torchvision.transforms.v2.": "torchvision.transforms",
    "torch.optim.": "torch.optim",
    "lightning.pytorch.callbacks.": "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers.": "lightning.pytorch.loggers",
    "lightning.pytorch.profilers.": "lightning.pytorch.profilers",
    "lightning.pytorch.strategies.": "lightning.pytorch.strategies",
    "lightning.pytorch.plugins.": "lightning",  # some of them are Fabric's
}
EXACT = {"lightning.pytorch.Trainer": "lightning.pytorch"}
# A class only builds itself; our other functions write files, among other things.
FUNCTIONS = {
    "mmattn.interop.timm_vit.timm_vision_transformer",
    "mmattn.model_folder.encoders.vision_of",
    "mmattn.model_folder.teacher.distillation",
}
REFUSED = ("mmattn.cli.",)  # it builds and imports what it is told to
NOBODYS = {*sys.stdlib_module_names, "mmattn", "torch", "torchvision", "lightning"}


def check_targets(config: Any, allowed: Sequence[str] = ()) -> None:
    """Refuse a configuration that names anything outside the allow-list.

    Args:
        config: the composed configuration; interpolations are resolved before looking.
        allowed: packages of the user's own, from the command line.

    Raises:
        ConfigError: naming the key, the target and the remedy.
    """
    plain = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    for key, node in parts(plain):
        check_target(f"{key}._target_", node["_target_"], allowed)


def parts(config: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (key, node) for every node of a plain nested container that has a `_target_`."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield key, dict(config)
        for name, value in config.items():
            yield from parts(value, f"{key}.{name}".lstrip("."))
    elif isinstance(config, (list, tuple)):
        for i, value in enumerate(config):
            yield from parts(value, f"{key}[{i}]")


def check_target(key: str, target: Any, allowed: Sequence[str] = ()) -> None:
    """Raise ConfigError unless `target`, the value of `key`, names something that may be built."""
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        raise ConfigError(f"{key}={target!r}: give the dotted name of a class")
    packages = PACKAGES | {f"{name}.": name for name in allowed}
    home = EXACT.get(target) or next(
        (packages[prefix] for prefix in packages if target.startswith(prefix)), None
    )
    if home is None or target.startswith(REFUSED):
        own = target.split(".")[0]
        remedy = (
            f"; if {own} is a package of your own, add allow_targets=[{own}] to the command line"
        )
        raise ConfigError(
            f"{key}={target!r} is not on the list of what a configuration may build"
            f"{remedy * (own not in NOBODYS)}"
        )
    check_defined(key, target, home, functions=target in FUNCTIONS or home in allowed)


def check_defined(key: str, target: str, home: str, *, functions: bool = False) -> None:
    """Raise ConfigError unless `target` is a class, or a function, that `home` itself defines."""
    found = resolve(key, target)
    defined = getattr(found, "__module__", None) or ""
    builds = inspect.isclass(found) or (functions and inspect.isfunction(found))
    if not builds or not f"{defined}.".startswith(f"{home}."):
        kinds = "classes and functions" if functions else "classes"
        raise ConfigError(
            f"{key}={target!r} is a {type(found).__name__} of {defined or 'nowhere'}: "
            f"only {kinds} of {home} itself may be built"
        )


def resolve(key: str, target: str) -> Any:
    """Return the object that a dotted name means. Raises ConfigError where there is none."""
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        remedy = ""
        if error.name == target.split(".")[0]:
            remedy = f": install {error.name}, or add its folder to PYTHONPATH"
        raise ConfigError(f"{key}={target!r}: {error}{remedy}") from None
    if not hasattr(module, name):
        raise ConfigError(f"{key}={target!r}: {module_name} has no {name}")
    return getattr(module, name)
