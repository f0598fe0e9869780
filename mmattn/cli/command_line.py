"""What the command line says before Hydra reads it."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
WITH_VALUE = (*FOLDERS, "--package", "-p", "--cfg", "-c", "--info", "-i", "--experimental-rerun")

# What users of other templates type, and what it is called here.
SHORT = {"data.num_workers": "++data.loader.num_workers"}


def long_names(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the full name of each key that has a short one."""
    named = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        full = SHORT.get(key.lstrip("+"))
        named.append(f"{full}={value}" if equals and full else argument)
    return named


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the flags before the overrides, each kind in its own order.

    Hydra takes its flags from anywhere, but its parser wants all overrides in one piece:
    `trainer=cpu -m seed=1,2` would be refused.
    """
    flags: list[str] = []
    overrides: list[str] = []
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        value = previous in WITH_VALUE
        (flags if argument.startswith("-") or value else overrides).append(argument)
    return [*flags, *overrides]


def folder_flags(arguments: Sequence[str]) -> list[str]:
    """Return the flags, with their values, that say where the configuration is."""
    return [part for flag, value in _folders(arguments) for part in (flag, value)]


def config_dirs(arguments: Sequence[str]) -> list[str]:
    """Return the folders that `--config-dir` names."""
    return [value for flag, value in _folders(arguments) if flag in ("--config-dir", "-cd")]


def sets_key(arguments: Sequence[str], key: str) -> bool:
    """Whether an override on the command line gives `key` a value."""
    return any(argument.lstrip("+").split("=")[0] == key for argument in arguments)


def _folders(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        flag, equals, value = argument.partition("=")
        if flag in FOLDERS:
            yield flag, value if equals else following
