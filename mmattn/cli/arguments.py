"""Constructors are the schema: the names and the plain types of what a configuration gives them."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf
from torch import Tensor

from mmattn.cli.targets import parts, resolve
from mmattn.errors import ConfigError

# Which YAML scalars an annotation takes; one with any other member takes what it gets.
TAKES: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
    NoneType: (NoneType,),
    Tensor: (),
}


def check_arguments(config: Any) -> None:
    """Refuse arguments that a `_target_` does not have, and scalars of a type that it cannot take.

    Call it after `check_targets`, for it imports the targets.

    Raises:
        ConfigError: naming the key, the value and what the target takes.
    """
    plain = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    for key, node in parts(plain):
        target = resolve(key, node["_target_"])
        for name, value in node.items():
            if not name.startswith("_") and value != "???":
                check_argument(f"{key}.{name}", value, name, target)


def check_argument(key: str, value: Any, name: str, target: Callable[..., Any]) -> None:
    """Raise ConfigError where `target` has no argument `name`, or it cannot take `value`.

    A target may say in `refused` why it lacks an argument that others have.
    """
    parameters = inspect.signature(target).parameters
    if name not in parameters:
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return
        reason = getattr(target, "refused", {}).get(name)
        if reason is not None:
            raise ConfigError(f"{key}: {reason}")
        near = get_close_matches(name, parameters, 1, 0.6)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{key}: {target.__name__} takes no {name}{hint}")
    if isinstance(value, (list, dict)) or (value is None and parameters[name].default is None):
        return
    hint = type_hints(target).get(name, Any)
    if not takes(hint, value):
        kinds = [kind for member in members(hint) for kind in TAKES[member][-1:]]
        wanted = " or ".join(kind.__name__.replace("NoneType", "null") for kind in kinds)
        raise ConfigError(f"{key}={value!r}: {target.__name__} wants {wanted}")


def type_hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a class's constructor or of a function; none if one is unknown."""
    function: Any = target.__init__ if inspect.isclass(target) else target
    try:
        return get_type_hints(function)
    except NameError:  # imported for the type checker only
        return {}


def takes(hint: Any, value: Any) -> bool:
    """Whether a parameter with this annotation takes this YAML scalar, as far as one can tell."""
    if any(member not in TAKES for member in members(hint)):
        return True
    return any(isinstance(value, kind) for member in members(hint) for kind in TAKES[member])


def members(hint: Any) -> list[Any]:
    """Return the members of a union, nested ones too; of anything else, itself."""
    if get_origin(hint) in (Union, UnionType):
        return [inner for member in get_args(hint) for inner in members(member)]
    return [hint]
