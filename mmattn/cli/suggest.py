"""The nearest existing key or option for a mistyped one."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from mmattn.cli.command_line import config_dirs

KEY = re.compile(r"Could not override '([^']+)'|Key '([^']+)' (?:is )?not in")
OPTION = re.compile(r"Could not find '([^']+)/([^'/]+)'")
TWICE = re.compile(r"Multiple values for (\S+)\. To override a value use 'override \S+: (\S+)'")
OPTIONS = re.compile(r"Available options in '[^']+':\n((?:\t.+\n?)+)")
# Options that come with an extra of ours.
EXTRAS = {("hydra/launcher", "joblib"): "sweep"}
NOISE = re.compile(r"\w+ raised while resolving interpolation: |Error merging override ")


def explain(error: Exception, directory: Path, arguments: Sequence[str] = ()) -> str:
    """Return Hydra's complaint in one line, with the nearest name that exists.

    `directory` holds our configuration; `arguments` are those of the command line.
    """
    text = str(error)
    option = OPTION.search(text)
    if option:
        group, name = option.groups()
        if (group, name) in EXTRAS:
            extra = EXTRAS[group, name]
            return f"{group}={name}: no such option: pip install 'mmattn[{extra}]'"
        found = OPTIONS.search(text)
        return f"{group}={name}: no such option{_nearest(name, found[1].split() if found else [])}"
    key = KEY.search(text)
    if key:
        name = key.group(1) or key.group(2)
        near = _nearest(name, known_keys(directory, arguments))
        return f"{name}: no such key{near} (+{name}=… adds a new key)"
    twice = TWICE.search(text)
    if twice:
        group, name = twice.groups()
        return f"{group}={name}: {group} has an option already; for both, {group}=[default,{name}]"
    if "Config group override must be" in text:
        nulls = [argument for argument in arguments if argument.endswith("=null")]
        return f"{' '.join(nulls)}: a group takes the name of an option (try =none)"
    if error.__cause__ is not None:
        text = f"{text}\n{error.__cause__}"
    return one_line(text)


def one_line(text: str) -> str:
    """Return a message of Hydra or OmegaConf without line breaks, its key in front."""
    lines = [line.strip() for line in NOISE.sub("", text).splitlines() if line.strip()]
    keys = [line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")]
    rest = [line for line in lines if not line.startswith(("full_key: ", "object_type="))]
    return ": ".join([key for key in keys[:1] if not rest[0].startswith(key)] + rest)


def known_keys(directory: Path, arguments: Sequence[str] = ()) -> list[str]:
    """Return every dotted key and every group of the configuration that the arguments choose."""
    folders = [directory, *(Path(name).absolute() for name in config_dirs(arguments))]
    search = ",".join(f"file://{folder}" for folder in folders[1:])
    chosen = [a for a in arguments if "," not in a and _chooses(a, folders)]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(directory), version_base="1.3"):
        config = compose("train", [f"hydra.searchpath=[{search}]", *chosen])
    groups = {str(p.parent.relative_to(f)) for f in folders for p in f.rglob("*.yaml")} - {"."}
    return sorted({*dotted(config), *groups})


def dotted(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all keys, without resolving any value."""
    for key in config:
        name = f"{prefix}{key}"
        yield name
        if OmegaConf.is_interpolation(config, str(key)) or OmegaConf.is_missing(config, key):
            continue
        if OmegaConf.is_dict(config[key]):
            yield from dotted(config[key], f"{name}.")


def _chooses(argument: str, folders: Sequence[Path]) -> bool:
    """Whether an override chooses an option of a group (`data=glyphs`, `+callbacks=ema`)."""
    group, equals, option = argument.lstrip("+").partition("=")
    return bool(equals) and any((folder / group / f"{option}.yaml").is_file() for folder in folders)


def _nearest(name: str, known: Sequence[str]) -> str:
    """Return "; did you mean …?": the same last word elsewhere, or else the nearest name."""
    last = name.rsplit(".", 1)[-1]
    near = get_close_matches(name, [key for key in known if key.rsplit(".", 1)[-1] == last], 1, 0)
    others = [key for key in known if not name.startswith(f"{key}.")]
    near = near or get_close_matches(name, others, 1, 0.6)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are: {', '.join(known)}" if 0 < len(known) < 30 else ""
